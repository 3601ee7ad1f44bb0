"""The gateway in front of other people's servers: both sides agree where every message ends."""
