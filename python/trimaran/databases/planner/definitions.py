"""What statements that define something mean to sessions other than their own."""

from __future__ import annotations

from google.protobuf.message import Message
from postgast.pg_query_pb2 import ObjectType

from trimaran.databases.planner.plan import Effect

_CHANGES_NO_RESULT = frozenset(
    {
        "alter_database_refresh_coll_stmt",
        "alter_default_privileges_stmt",
        "alter_object_depends_stmt",
        "alter_owner_stmt",
        "alter_publication_stmt",
        "alter_role_stmt",
        "alter_stats_stmt",
        "alter_subscription_stmt",
        "alter_system_stmt",
        "alter_table_move_all_stmt",
        "alter_table_space_options_stmt",
        "check_point_stmt",
        "cluster_stmt",
        "comment_stmt",
        "constraints_set_stmt",
        "create_publication_stmt",
        "create_role_stmt",
        "create_stats_stmt",
        "create_subscription_stmt",
        "create_table_space_stmt",
        "drop_role_stmt",
        "drop_subscription_stmt",
        "drop_table_space_stmt",
        "fetch_stmt",
        "grant_role_stmt",
        "grant_stmt",
        "lock_stmt",
        "notify_stmt",
        "reassign_owned_stmt",
        "refresh_mat_view_stmt",
        "reindex_stmt",
        "sec_label_stmt",
        "truncate_stmt",
        "vacuum_stmt",
    }
)
"""After these, a statement that is prepared anew has the columns that it had before, and reaches the same code."""


def effects(kind: str, node: Message) -> list[Effect]:
    """The effects of a statement that is neither a query nor one of the session.

    `node` is what the tree has under `kind`.
    """
    if kind in ("createdb_stmt", "dropdb_stmt", "alter_database_stmt"):
        return [Effect.of("vacate", database=_occupied(kind, node))]
    if kind == "rename_stmt" and getattr(node, "rename_type", None) == ObjectType.OBJECT_DATABASE:
        return [Effect.of("vacate", database=str(getattr(node, "subname", "")))]
    if kind == "alter_database_set_stmt":
        return [Effect.of("vacate", database=str(getattr(node, "dbname", "")))]
    if kind == "alter_role_set_stmt":
        # Whose defaults they are may be told by the session (CURRENT_USER): all are made anew.
        return [Effect.of("vacate", database=None)]
    return [] if kind in _CHANGES_NO_RESULT else [Effect.of("define")]


def _occupied(kind: str, node: Message) -> str:
    """The database that nobody may be connected to."""
    if kind != "createdb_stmt":
        return str(getattr(node, "dbname", ""))
    for option in getattr(node, "options", ()):
        if option.def_elem.defname == "template" and option.def_elem.arg.string.sval:
            return str(option.def_elem.arg.string.sval)
    return "template1"
