"""Drivers of other languages: an exercise in each one's own language, run directly, through a gateway, and through a gateway with
few server connections which a crowd of other sessions uses at the same time. The outcomes of its checks must be the same.

An exercise prints a line of JSON for each check: `check`, and `value`, or `failed` where the check ended with an error that it did
not expect, or took too long. A driver is a function in `toolchains.py` that builds its exercise, and a line in its list."""
