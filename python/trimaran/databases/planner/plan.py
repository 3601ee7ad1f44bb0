"""What the gateway needs to know of a statement, and the JSON in which it gets it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

Access = Literal["read", "write"]
Hint = Literal["primary", "replica"]
Audited = Literal["none", "state", "settings"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing a statement does to its session; `detail` holds the keys that its kind has.

    begin: read_only (true, false, null: as the session's default), isolation (or null), deferrable (or null).
    commit, rollback: chain. savepoint, release, rollback_to: name.
    prepare_transaction, commit_prepared, rollback_prepared: gid.
    set: name, scope ("session" or "local"), to_default, value (the plain text of a single constant, else null),
    sql (the statement that makes the same setting on another connection).
    reset: name, null for all. show: name. discard: what ("all", "plans", "sequences", "temp").
    prepare, execute: name. deallocate: name, null for all.
    copy_in: nothing; the client sends data while the statement runs.
    define: nothing; results of other statements may have other columns from now on.
    vacate: database, null for all; the statement concerns connections to it that nobody uses: they may stand in its way
    (DROP DATABASE), or be out of date after it (ALTER DATABASE ... SET).
    """

    kind: str
    detail: tuple[tuple[str, str | bool | None], ...] = ()

    @classmethod
    def of(cls, kind: str, **detail: str | bool | None) -> Effect:
        """An effect with its details in the order given."""
        return cls(kind, tuple(detail.items()))


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of one text, which may hold several statements.

    `access` is "read" only if every statement surely is one. `effects` stand in the order of the statements, and
    `effects_at` says for each which statement it is of, as `pins_at` does for `pins`. `pins` are the reasons why the
    session must keep its server connection from now on; `unpins` are the reasons that end, once the transaction that
    holds the statement has committed. `doubtful`: the text could not be analysed; such a plan holds for
    this very text and is not to be shared with others of the same key. `may_write`: made without a catalogue, it reads as far
    as the text shows, and calls a function that is not known to be PostgreSQL's own. `standby` is what it is to a READ ONLY
    transaction that began on a replica (`planner.standby`). `reason` is a sentence for a person.

    `audit` is what has to be looked at on the connection before another session gets it, because code that the text does not
    show may have changed it: nothing; advisory locks, temporary objects, held cursors, channels and statements prepared in
    SQL ("state"); settings too. `custom`: the custom settings that may have been made, which have to be asked for by name;
    `unknown_settings`: there may be others. `reads_custom`: the custom settings that its code reads, None for any.
    `may_define`: it may run definitions (DDL) that the text does not show. `temp`: it uses temporary objects, or changes
    search_path so that what is made later may be temporary. `provisional`: the catalogue could not be read; ask again.
    """

    access: Access
    reason: str
    statements: int = 0
    tables: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    pins: tuple[str, ...] = ()
    unpins: tuple[str, ...] = ()
    hint: Hint | None = None
    doubtful: bool = False
    may_write: bool = False
    standby: Literal["replay", "serve", "move", "never"] = "move"
    audit: Audited = "none"
    custom: tuple[str, ...] = ()
    unknown_settings: bool = False
    reads_custom: tuple[str, ...] | None = ()
    may_define: bool = False
    temp: bool = False
    provisional: bool = False
    effects_at: tuple[int, ...] = ()
    pins_at: tuple[int, ...] = ()

    def to_json(self) -> str:
        """One line, every key always present and in this order."""
        return json.dumps(
            {
                "access": self.access,
                "reason": self.reason,
                "statements": self.statements,
                "tables": self.tables,
                "effects": [{"kind": effect.kind, **dict(effect.detail)} for effect in self.effects],
                "pins": self.pins,
                "unpins": self.unpins,
                "hint": self.hint,
                "doubtful": self.doubtful,
                "may_write": self.may_write,
                "standby": self.standby,
                "audit": self.audit,
                "custom": self.custom,
                "unknown_settings": self.unknown_settings,
                "reads_custom": self.reads_custom,
                "may_define": self.may_define,
                "temp": self.temp,
                "provisional": self.provisional,
                "effects_at": self.effects_at,
                "pins_at": self.pins_at,
            },
            separators=(",", ":"),
        )


def explain(plan: Plan) -> str:
    """The plan in lines for a person."""
    where = "primary" if plan.access == "write" or plan.hint == "primary" else "a replica or the primary"
    lines = [f"runs on: {where} ({plan.reason})"]
    if plan.tables:
        lines.append(f"tables: {', '.join(plan.tables)}")
    lines.extend(f"session: {_sentence(effect)}" for effect in plan.effects)
    lines.extend(f"keeps its connection from now on: {pin}" for pin in plan.pins)
    lines.extend(f"no longer keeps its connection for: {pin}" for pin in plan.unpins)
    if plan.audit != "none":
        lines.append(f"looked at before its connection is given back: {plan.audit}")
    return "\n".join(lines)


def _sentence(effect: Effect) -> str:
    shown = (f"{key}={value}" for key, value in effect.detail if value is not None and key != "sql")
    return " ".join((effect.kind, *shown))
