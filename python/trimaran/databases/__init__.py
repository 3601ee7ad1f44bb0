"""Databases: PostgreSQL behind one address.

`position` and `after` hand what one session has written over to another. The rest is for the supervisor.
"""

from trimaran.databases.causal import after, position

__all__ = ["after", "position"]
