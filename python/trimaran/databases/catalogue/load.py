"""Reading the catalogue: a handful of queries that take no lock on the objects of users, as any role."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import psycopg

from trimaran.databases.catalogue import queries, trees
from trimaran.databases.catalogue.facts import CUSTOM_MAX, Catalogue, Function, Key, Named, Part, Relation, System

_IN_TEXT = re.compile(
    r"""(?: \b(?:set_config|current_setting) \s*\(\s* '+ | \bset \s+ (?:(?:local|session) \s+)? )
        ([a-z_][\w$]* (?:\.[a-z_][\w$]*)+) \s* (?: ' | = | to\b )""",
    re.IGNORECASE | re.VERBOSE,
)


def load(connection: psycopg.Connection[Any]) -> Catalogue:
    """The catalogue of the connection's database. Raises psycopg.Error. All of it is of one moment when the connection is in
    a REPEATABLE READ transaction; otherwise `fingerprint` is to be asked before."""
    system = _system(connection)
    functions = {row[0]: _function(row) for row in connection.execute(queries.FUNCTIONS)}
    relations = {
        oid: Relation(oid, schema, name, kind) for oid, schema, name, kind in connection.execute(queries.RELATIONS)
    }
    types: defaultdict[str, list[Named]] = defaultdict(list)
    for oid, schema, name in connection.execute(queries.TYPES):
        types[name].append(Named(schema, oid))
    operators: dict[int, int] = {}
    operators_named: defaultdict[str, list[Named]] = defaultdict(list)
    for oid, schema, name, function in connection.execute(queries.OPERATORS):
        operators[oid] = function
        operators_named[name].append(Named(schema, function))
    parts: defaultdict[Key, list[Part]] = defaultdict(list)
    ambient: list[int] = []
    event_triggers: list[int] = []
    settings: set[str] = set()
    for kind, oid, label, target_kind, target, tree in connection.execute(queries.PARTS):
        if kind == "ambient":
            ambient.append(target)
        elif kind == "event":
            event_triggers.append(target)
        elif kind == "setting":
            settings.add(label)
        else:
            parts[Key(kind, oid)].append(Part(label, Key(target_kind, target) if target_kind else None, tree or ""))
    texts = [part.tree for belonging in parts.values() for part in belonging if part.tree]
    for function_ in functions.values():
        texts += function_.trees
        settings |= custom_settings(function_.source)
    for text in texts:
        settings.update(name.lower() for _, name in trees.settings(text) if name and "." in name)
    return Catalogue(
        functions,
        _named((each.name, each.schema, each.oid) for each in functions.values()),
        relations,
        _named((each.name, each.schema, each.oid) for each in relations.values()),
        {name: tuple(found) for name, found in types.items()},
        operators,
        {name: tuple(found) for name, found in operators_named.items()},
        {key: tuple(found) for key, found in parts.items()},
        tuple(event_triggers),
        tuple(ambient),
        system,
        tuple(sorted(settings)[:CUSTOM_MAX]),
    )


def custom_settings(text: str) -> set[str]:
    """The custom settings that a text in any language names, in its strings too."""
    return {name.lower() for name in _IN_TEXT.findall(text)}


_systems: dict[int, System] = {}


def _system(connection: psycopg.Connection[Any]) -> System:
    """What is PostgreSQL's own; asked once for each version, because it is the same in all databases."""
    version = connection.info.server_version
    if version not in _systems:
        functions = connection.execute(queries.SYSTEM_FUNCTIONS).fetchall()
        relations: dict[int, str] = dict(connection.execute(queries.SYSTEM_RELATIONS).fetchall())
        _systems[version] = System(
            {oid: name for oid, name, _ in functions},
            frozenset(name for _, name, _ in functions),
            frozenset(name for _, name, volatile in functions if volatile),
            relations,
            frozenset(relations.values()),
        )
    return _systems[version]


def _function(row: Any) -> Function:
    oid, schema, name, volatility, language, source, body, defaults, arguments, of_row, types, parts = row
    trees = tuple(tree for tree in (body, defaults) if tree)
    return Function(
        oid, schema, name, volatility, language, source, trees, tuple(arguments), of_row, tuple(types), tuple(parts)
    )


def _named(found: Iterable[tuple[str, str, int]]) -> dict[str, tuple[Named, ...]]:
    names: defaultdict[str, list[Named]] = defaultdict(list)
    for name, schema, oid in found:
        names[name].append(Named(schema, oid))
    return {name: tuple(each) for name, each in names.items()}
