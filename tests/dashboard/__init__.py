"""The admin listener and the control socket of a running Trimaran."""
