"""Trimaran: the scaling layer for Python web apps.

The command is `trimaran` (or `python -m trimaran`). Start reading at `supervisor.py`, the life of a running Trimaran,
and at `ARCHITECTURE.md`.
"""

__version__ = "0.1.0"
