"""The ways in which a client can change its session or leave something behind."""

from tests.databases.leaks.ways import code, connection, objects, settings

WAYS = (*code.WAYS, *settings.WAYS, *objects.WAYS, *connection.WAYS)
