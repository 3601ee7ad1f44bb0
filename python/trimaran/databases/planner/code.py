"""What one piece of code does to its session, and what it names: of a statement, a function's body, an expression."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from trimaran.databases.catalogue.facts import Key

Name = tuple[str, str]
"""A schema, which may be empty, and a name."""


class Audit(IntEnum):
    """What has to be looked at on a connection before another session gets it."""

    NONE = 0
    STATE = 1
    """Advisory locks, temporary objects, held cursors, channels, statements prepared in SQL."""
    SETTINGS = 2
    """Settings too."""


class Link(NamedTuple):
    """Something that runs with the code, and how to say so: "calls f()"."""

    words: str
    key: Key


_NAME = r"([a-z_][\w$]*(?:\.[a-z_][\w$]*)*)"
_SETS = re.compile(rf"(?:^|;)\s*set\s+(?:(?:local|session)\s+)?(?:{_NAME}\s*(?:=|\bto\b))?", re.IGNORECASE)
_SET_CONFIG = re.compile(rf"\bset_config\s*\(\s*(?:'+{_NAME}'+\s*,)?", re.IGNORECASE)
_HARMLESS_START = re.compile(
    r"[\s(]*(?:select|insert|update|delete|merge|with|values|table|create|alter|drop|truncate|grant|revoke|comment|analyze|"
    r"vacuum|refresh|reindex|cluster|lock|notify|copy|explain)\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Code:
    """Facts of one piece of code by itself; what it names is not followed yet."""

    audit: Audit = Audit.NONE
    write: str | None = None
    """Why it is not a read: "contains INSERT"."""
    custom: set[str] = field(default_factory=set)
    """Custom settings that it may make."""
    reads_custom: set[str] = field(default_factory=set)
    reads_any: bool = False
    """It may read custom settings whose names are not known."""
    dynamic: bool = False
    """It runs texts that are not known: any custom setting of the catalogue may be made."""
    unknown_settings: bool = False
    is_missing: bool = False
    """It names something that the catalogue does not have: something new, or nothing at all."""
    may_define: bool = False
    temporary: bool = False
    definitions: bool = False
    """It contains definitions (DDL), which run event triggers."""
    strict: bool = False
    """The grammar has read it: a name that the catalogue does not have belongs to something new."""
    functions: dict[Name, None] = field(default_factory=dict)
    attributes: dict[str, None] = field(default_factory=dict)
    """`x.name`, which may call a function of that name."""
    operators: dict[Name, None] = field(default_factory=dict)
    types: dict[Name, None] = field(default_factory=dict)
    reads: dict[Name, None] = field(default_factory=dict)
    written: dict[Name, None] = field(default_factory=dict)
    truncated: dict[Name, None] = field(default_factory=dict)
    refreshed: dict[Name, None] = field(default_factory=dict)
    defined: dict[Name, None] = field(default_factory=dict)
    """Relations that definitions name; those that are only now made are not known."""
    links: list[Link] = field(default_factory=list)
    inner: list[Code] = field(default_factory=list)
    """Code within it that the grammar has not read."""
    search_path: bool = False
    """It sets search_path."""
    creates: bool = False
    """It makes an object where the search path says."""

    def writes(self, reason: str) -> None:
        """It is not a read; the first reason stays."""
        self.write = self.write or reason

    def leaves(self, audit: Audit, reason: str) -> None:
        """It may leave something in the session, and so it is not a read."""
        self.audit = max(self.audit, audit)
        self.writes(reason)

    def is_opaque(self, reason: str, *, any_setting: bool = False) -> None:
        """It may do anything; `any_setting`: make custom settings of any name, too."""
        self.leaves(Audit.SETTINGS, reason)
        self.dynamic = self.reads_any = self.may_define = True
        self.unknown_settings |= any_setting

    def misses(self, reason: str) -> None:
        """It names something that the catalogue does not have, which may do anything."""
        self.is_opaque(reason)
        self.is_missing = True

    def defines(self, reason: str) -> None:
        """It contains a definition that the statement's own text does not show."""
        self.writes(reason)
        self.may_define = self.definitions = True

    def sets(self, name: str | None, *, local: bool) -> None:
        """It makes a setting; None stands for a name that is not known before."""
        name = name.lower() if name else None
        self.writes(f"sets {name or 'a setting whose name is computed'}")
        self.search_path |= name in (None, "search_path", "creates")
        if name is None:
            self.audit, self.unknown_settings = Audit.SETTINGS, True
        elif "." in name:
            # A custom setting reads '' instead of NULL once it was set, even for one transaction.
            self.audit = Audit.SETTINGS
            self.custom.add(name)
        elif not local:
            self.audit = Audit.SETTINGS
        elif name == "search_path":
            # What is made in the same transaction may be temporary.
            self.audit = max(self.audit, Audit.STATE)

    def reads_setting(self, name: str | None) -> None:
        """It reads a setting; None stands for a name that is not known before."""
        if name is None:
            self.reads_any = True
        elif "." in name:
            self.reads_custom.add(name.lower())

    def runs_texts(self, constants: list[str], *, composed_here: bool) -> None:
        """It runs texts made of these constants and of values; not `composed_here`: also texts that it is given."""
        known = composed_here and any(_HARMLESS_START.match(text) or any(_SETS.findall(text)) for text in constants)
        self.is_opaque("runs dynamic SQL", any_setting=not known)
        for text in constants:
            for name in (*_SETS.findall(text), *_SET_CONFIG.findall(text)):
                if not name:
                    self.unknown_settings = True
                elif "." in name:
                    self.custom.add(name.lower())

    def add(self, other: Code) -> None:
        """Take over everything of other code that runs with this."""
        self.audit = max(self.audit, other.audit)
        self.write = self.write or other.write
        for name in (
            "reads_any",
            "dynamic",
            "unknown_settings",
            "is_missing",
            "may_define",
            "temporary",
            "definitions",
            "search_path",
            "creates",
        ):
            setattr(self, name, getattr(self, name) or getattr(other, name))
        for name in ("custom", "reads_custom"):
            getattr(self, name).update(getattr(other, name))
        for name in _NAMES:
            getattr(self, name).update(getattr(other, name))
        self.links += other.links
        self.inner += other.inner


_NAMES = ("functions", "attributes", "operators", "types", "reads", "written", "truncated", "refreshed", "defined")
