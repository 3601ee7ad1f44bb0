"""Connections for reading catalogues when there is no supervisor: by what the snapshot says of nodes and of their monitor."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from trimaran.databases.catalogue.watch import Connect


def connector(snapshot: str) -> Connect:
    """Connects to the first node of each group, as the role that monitors it."""
    groups = {group["name"]: group for group in json.loads(snapshot)["databases"]}

    def connect(group: str, database: str) -> psycopg.Connection[Any]:
        settings = groups[group]
        address = str(settings["nodes"][0]["address"])
        if address.startswith("unix:"):
            host, _, port = address.removeprefix("unix:").rpartition("/.s.PGSQL.")
        else:
            host, _, port = address.rpartition(":")
        return psycopg.connect(
            host=host.strip("[]"),
            port=int(port),
            user=settings["monitor"]["user"],
            password=settings["monitor"]["password"],
            dbname=database,
            connect_timeout=2,
            autocommit=True,
        )

    return connect
