"""What a statement reaches in the catalogue, all the way down, and what that means for its session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trimaran.databases.catalogue import Catalogue, Key, Named, trees
from trimaran.databases.catalogue.facts import Kind
from trimaran.databases.planner import bodies, uses
from trimaran.databases.planner.builtins import SETTING_FUNCTIONS, call_builtin, call_native
from trimaran.databases.planner.code import Audit, Code, Link, Name
from trimaran.databases.planner.functions import differs_by_node
from trimaran.databases.planner.parse import NotAnalysed, SyntaxUnknown, parse

_LONGEST_PATH = 6
"""Steps of a path that a reason shows."""


def follow(code: Code, catalogue: Catalogue) -> Code:
    """Everything that runs when `code` does, as one: the code itself, and all that it names. `write` says by which path."""
    total = Code()
    seen: set[Key] = set()
    waiting: list[tuple[Code, tuple[str, ...]]] = [(_resolved(code, catalogue), ())]
    if code.strict and (code.functions or code.reads or code.written or code.operators or code.types):
        for oid in catalogue.ambient:
            waiting.append((Code(links=[Link(_calls(catalogue, oid), Key("function", oid))]), ()))
    at = 0
    while at < len(waiting):
        found, path = waiting[at]
        at += 1
        if found.write and not total.write:
            total.write = ", which ".join((*path[-_LONGEST_PATH:], found.write))
        merge(total, found)
        waiting += [(_resolved(inner, catalogue), path) for inner in found.inner]
        for link in found.links:
            if link.key not in seen:
                seen.add(link.key)
                waiting.append((_code_of(link.key, catalogue), (*path, link.words) if link.words else path))
    return total


def merge(total: Code, found: Code) -> None:
    """Takes over what code does, not what it names."""
    total.audit = max(total.audit, found.audit)
    total.custom |= found.custom
    total.reads_custom |= found.reads_custom
    total.reads_any |= found.reads_any
    total.dynamic |= found.dynamic
    total.unknown_settings |= found.unknown_settings
    total.is_missing |= found.is_missing
    total.may_define |= found.may_define
    total.temporary |= found.temporary
    total.search_path |= found.search_path
    total.creates |= found.creates


def _code_of(key: Key, catalogue: Catalogue) -> Code:
    known = catalogue.memory.get(key)
    if isinstance(known, Code):
        return known
    code = _resolved(_function(key.oid, catalogue) if key.kind == "function" else _belonging(key, catalogue), catalogue)
    catalogue.memory[key] = code
    return code


# Objects


def _function(oid: int, catalogue: Catalogue) -> Code:
    function = catalogue.functions.get(oid)
    code = Code()
    if function is None:
        name = catalogue.system.functions.get(oid)
        if name is not None:
            call_builtin(code, name, volatile=name in catalogue.system.volatile)
        return code
    volatile = function.volatility == "v"
    for tree in function.trees:
        _tree(code, tree, catalogue)
    code.links += [Link("", Key("type", type_)) for type_ in function.types]
    code.links += [Link(_calls(catalogue, part), Key("function", part)) for part in function.parts]
    match function.language:
        case "internal" | "c":
            if not function.parts:
                call_native(code, function.name, volatile=volatile)
        case "sql":
            if function.source:
                code.add(_sql_body(function.source))
                code.strict = True
        case "plpgsql":
            code.add(bodies.of_text(function.source, function.arguments))
        case language:
            code.is_opaque(f"is written in {language}", any_setting=True)
    return code


def _sql_body(source: str) -> Code:
    code = Code(strict=True)
    try:
        for raw in parse(source).stmts:
            code.add(uses.of_statement(raw.stmt, nested=True))
    except (SyntaxUnknown, NotAnalysed):
        code.inner.append(bodies.of_text(source))
    return code


def _belonging(key: Key, catalogue: Catalogue) -> Code:
    """What belongs to a relation or a type."""
    code = Code()
    relation = catalogue.relations.get(key.oid)
    for part in catalogue.parts.get(key, ()):
        if part.target is not None:
            words = f"has {part.label}"
            if part.target.kind == "function":
                words += f", which {_calls(catalogue, part.target.oid)}"
            code.links.append(Link("" if part.target.kind == "type" else words, part.target))
        if part.tree:
            inner = Code()
            _tree(inner, part.tree, catalogue)
            if part.label:
                words = f"has {part.label}, which "
                inner.links = [Link(words + link.words if link.words else "", link.key) for link in inner.links]
                inner.write = words + inner.write if inner.write else None
            code.add(inner)
    if key.kind == "read":
        code.links.append(Link("", Key("columns", key.oid)))
        if relation is not None and relation.kind == "S":
            code.writes("is a sequence, whose state differs by node")
    elif key.kind == "write":
        code.writes("is written")
        code.links.append(Link("", Key("read", key.oid)))
        if relation is not None and relation.kind == "v":
            # Through a view that is updatable, the relations that it reads are written.
            for part in catalogue.parts.get(Key("read", key.oid), ()):
                code.links += [
                    Link(_does("writes", catalogue, oid), Key("write", oid)) for oid in trees.read(part.tree).relations
                ]
    elif key.kind in ("truncate", "refresh"):
        code.writes("is written")
        code.links.append(Link("", Key("write", key.oid)))
    return code


def _tree(code: Code, text: str, catalogue: Catalogue) -> None:
    """An expression or query as the catalogue stores it."""
    tree = trees.read(text)
    for oid in tree.functions:
        if oid in catalogue.functions:
            code.links.append(Link(_calls(catalogue, oid), Key("function", oid)))
        elif (name := catalogue.system.functions.get(oid)) is not None and name not in SETTING_FUNCTIONS:
            call_builtin(code, name, volatile=name in catalogue.system.volatile)
    for oid in tree.operators:
        if oid in catalogue.operators:
            function = catalogue.operators[oid]
            code.links.append(Link(_calls(catalogue, function), Key("function", function)))
    code.links += [Link("", Key("type", oid)) for oid in tree.types]
    for oid in tree.relations:
        if differs_by_node("pg_catalog", catalogue.system.relations.get(oid, "")):
            code.writes(f"reads {catalogue.system.relations[oid]}, which differs by node")
        if oid in catalogue.relations:
            code.links.append(Link(_does("reads", catalogue, oid), Key("read", oid)))
            if tree.writes:
                code.links.append(Link(_does("writes", catalogue, oid), Key("write", oid)))
    if tree.writes:
        code.writes(f"contains {tree.writes}")
    if tree.locks:
        code.writes("locks rows")
    for sets, name in trees.settings(text):
        if sets:
            code.sets(name, local=False)
        else:
            code.reads_setting(name)


# Names


def _resolved(code: Code, catalogue: Catalogue) -> Code:
    """The same with links for all names."""
    for name in code.functions:
        _resolve_function(code, name, catalogue)
    for attribute in code.attributes:
        for found in catalogue.functions_named.get(attribute, ()):
            if catalogue.functions[found.oid].of_row:
                code.links.append(Link(_calls(catalogue, found.oid), Key("function", found.oid)))
    for name in (*code.operators, ("", "=")):
        for found in _matching(catalogue.operators_named, name):
            code.links.append(Link(_calls(catalogue, found.oid), Key("function", found.oid)))
    for name in code.types:
        code.links += [Link("", Key("type", found.oid)) for found in _matching(catalogue.types_named, name)]
        code.links += [Link("", Key("columns", found.oid)) for found in _matching(catalogue.relations_named, name)]
    for name in code.reads:
        _resolve_relation(code, name, "read", "reads", catalogue)
    for name in code.written:
        _resolve_relation(code, name, "write", "writes", catalogue)
    for name in code.truncated:
        _resolve_relation(code, name, "truncate", "truncates", catalogue)
    for name in code.refreshed:
        _resolve_relation(code, name, "refresh", "refreshes", catalogue)
    for name in code.defined:
        for found in _matching(catalogue.relations_named, name):
            code.links.append(Link(_does("changes", catalogue, found.oid), Key("write", found.oid)))
            code.links.append(Link(_does("changes", catalogue, found.oid), Key("refresh", found.oid)))
    if code.definitions:
        code.links += [Link(_calls(catalogue, oid), Key("function", oid)) for oid in catalogue.event_triggers]
    return code


def _resolve_function(code: Code, name: Name, catalogue: Catalogue) -> None:
    schema, function = name
    found = list(_matching(catalogue.functions_named, name))
    code.links += [Link(_calls(catalogue, each.oid), Key("function", each.oid)) for each in found]
    if schema in ("", "pg_catalog", "information_schema") and function in catalogue.system.function_names:
        if function not in SETTING_FUNCTIONS:
            call_builtin(code, function, volatile=function in catalogue.system.volatile)
    elif not found and code.strict:
        types = list(_matching(catalogue.types_named, name))
        code.links += [Link("", Key("type", each.oid)) for each in types]
        if not types:
            code.misses(f"calls {function}, which the catalogue does not have")


def call_system_functions(code: Code) -> None:
    """Adds what calls of PostgreSQL's own functions do, as far as that is known without a catalogue."""
    for schema, function in list(code.functions):
        if schema in ("", "pg_catalog") and function not in SETTING_FUNCTIONS:
            call_builtin(code, function, volatile=False)


def _resolve_relation(code: Code, name: Name, kind: Kind, words: str, catalogue: Catalogue) -> None:
    schema, relation = name
    found = list(_matching(catalogue.relations_named, name))
    for each in found:
        code.links.append(Link(_does(words, catalogue, each.oid), Key(kind, each.oid)))
    if differs_by_node(schema, relation) and (code.strict or relation in catalogue.system.relation_names):
        code.writes(f"reads {relation}, which differs by node")
    if is_system(catalogue, schema, relation):
        if kind != "read" and (code.strict or relation == "pg_settings"):
            code.leaves(Audit.SETTINGS, f"writes {relation}")
    elif not found and code.strict:
        if schema.startswith("pg_temp"):
            code.temporary = True
        code.misses(f"uses {relation}, which the catalogue does not have")


def is_system(catalogue: Catalogue | None, schema: str, relation: str) -> bool:
    """Whether a name is that of a relation of PostgreSQL's own."""
    if schema in ("pg_catalog", "information_schema", "pg_toast"):
        return True
    if schema:
        return False
    return relation.startswith("pg_") if catalogue is None else relation in catalogue.system.relation_names


def _matching(named: Mapping[str, tuple[Named, ...]], name: Name) -> Iterator[Named]:
    schema, last = name
    for found in named.get(last, ()):
        if not schema or schema == found.schema:
            yield found


def _function_name(catalogue: Catalogue, oid: int) -> str:
    function = catalogue.functions.get(oid)
    return f"{function.name if function else catalogue.system.functions.get(oid, 'a function')}()"


def _calls(catalogue: Catalogue, oid: int) -> str:
    return f"calls {_function_name(catalogue, oid)}"


def _does(words: str, catalogue: Catalogue, oid: int) -> str:
    relation = catalogue.relations[oid]
    return f"{words} {'view ' if relation.kind in 'vm' else ''}{relation.name}"
