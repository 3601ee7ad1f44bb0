"""Embedded PostgreSQL: a node that Trimaran finds, initialises, starts and stops itself.

One file per step, in the order of a start:

    account     whose rights the node has (PostgreSQL refuses to run as root)
    place       where its data lives, and what is remembered about it
    find        which PostgreSQL programs run it;  relocate: a copy of them that the account can read
    occupant    whether something of an earlier run is still on the data
    initialise  the data directory, made once and whole
    port        the TCP port, chosen once
    node        EmbeddedNode: all of the above, then start, watch and stop
"""

from trimaran.databases.postgres.node import EmbeddedNode

__all__ = ["EmbeddedNode"]
