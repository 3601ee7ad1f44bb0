"""What is kept of a database's catalogue: the objects of users by name and oid, and what code belongs to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["function", "read", "write", "truncate", "refresh", "columns", "type"]


class Key(NamedTuple):
    """Something that runs: a function that is called, a relation that is read or written, a value of a type."""

    kind: Kind
    oid: int


class Part(NamedTuple):
    """Code that belongs to an object: either another key, or an expression or query as the catalogue stores it.

    `tree` is the text of a `pg_node_tree`. It names objects by oid, needs no lock on them to be read (which
    `pg_get_viewdef` and `pg_get_expr` do), and costs the server nothing to produce.
    """

    label: str
    """For a person: "trigger t_audit", "policy tenant"; empty for the object's own query."""
    target: Key | None
    tree: str = ""


class Named(NamedTuple):
    """An object as a name may find it."""

    schema: str
    oid: int


@dataclass(frozen=True, slots=True)
class Function:
    """A function, procedure or aggregate that is not one of PostgreSQL's own."""

    oid: int
    schema: str
    name: str
    volatility: Literal["i", "s", "v"]
    language: str
    source: str
    """Empty unless the language is SQL or PL/pgSQL."""
    trees: tuple[str, ...] = ()
    """The body of a function that is BEGIN ATOMIC or RETURN, and the defaults of arguments."""
    arguments: tuple[str, ...] = ()
    """The names of its arguments."""
    of_row: bool = False
    """It can be called as `row.name`, too."""
    types: tuple[int, ...] = ()
    """Its arguments' and result's types, those of users only."""
    parts: tuple[int, ...] = ()
    """The functions that an aggregate is made of."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view, sequence or other relation that is not one of PostgreSQL's own."""

    oid: int
    schema: str
    name: str
    kind: str
    """As `pg_class.relkind`."""


@dataclass(frozen=True, slots=True)
class System:
    """PostgreSQL's own objects, of its schemas pg_catalog and information_schema."""

    functions: Mapping[int, str]
    function_names: frozenset[str]
    volatile: frozenset[str]
    """Names of functions of which at least one is volatile."""
    relations: Mapping[int, str]
    relation_names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One database at one moment. Names are as the catalogue has them; all of one name are kept together."""

    functions: Mapping[int, Function]
    functions_named: Mapping[str, tuple[Named, ...]]
    relations: Mapping[int, Relation]
    relations_named: Mapping[str, tuple[Named, ...]]
    types_named: Mapping[str, tuple[Named, ...]]
    operators: Mapping[int, int]
    """The function of each operator that is not PostgreSQL's own."""
    operators_named: Mapping[str, tuple[Named, ...]]
    """By name; the oid is the function's."""
    parts: Mapping[Key, tuple[Part, ...]]
    event_triggers: tuple[int, ...]
    """Functions that definitions (DDL) run."""
    ambient: tuple[int, ...]
    """Functions that any statement may run without naming anything: casts between PostgreSQL's own types."""
    system: System
    custom_settings: tuple[str, ...]
    """Every custom setting that a text of the catalogue names, at most `CUSTOM_MAX`."""
    memory: dict[Key, object] = field(default_factory=dict, compare=False, repr=False)
    """What the planner has already read out of each; only it uses this."""


CUSTOM_MAX = 200
"""More custom settings than these are not asked for by name."""
