"""The whole of Trimaran as its users run it: by its command, under load, with things going wrong."""
