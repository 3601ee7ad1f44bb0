"""What code does that the grammar for statements does not read, PL/pgSQL above all: by its tokens.

Every word is looked up as a name of whatever it may be, so that too much is found rather than too little. Strings and comments
are no words. A statement's first word is what follows `;`, BEGIN, THEN, ELSE, LOOP or a label.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import postgast
from postgast.pg_query_pb2 import Token

from trimaran.databases.planner.code import Audit, Code

IDENT, SCONST = int(Token.IDENT), int(Token.SCONST)
_STARTS = frozenset({"", ";", "begin", "then", "else", "loop", ">>", "atomic", "do"})
_WRITING = frozenset({"insert", "update", "delete", "merge", "truncate", "copy"})
_DEFINING = frozenset(
    {"create", "alter", "drop", "grant", "revoke", "comment", "reindex", "cluster", "vacuum", "analyze", "refresh"}
    | {"import", "reassign", "security"}
)
_LEAVING = frozenset({"listen", "unlisten", "prepare", "deallocate", "discard"})
_ENDING = frozenset({"commit", "rollback", "lock", "notify", "call", "checkpoint"})
_COMMENTS = (Token.C_COMMENT, Token.SQL_COMMENT)
_PUNCTUATION = frozenset("()[],;.:")


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    """Words in lower case unless quoted, other tokens as they are, constants as their value."""
    kind: int
    quoted: bool = False

    @property
    def is_constant(self) -> bool:
        return self.kind == SCONST

    @property
    def is_name(self) -> bool:
        return self.quoted or self.kind == IDENT or self.text[:1].isalpha() or self.text[:1] == "_"


def of_text(text: str, arguments: Collection[str] = ()) -> Code:
    """The code of a body in PL/pgSQL. `arguments` are the names of a function's."""
    code = Code()
    try:
        words = _scan(text)
    except (postgast.PgQueryError, UnicodeError, ValueError) as error:
        code.is_opaque(f"has a body that cannot be read ({error})", any_setting=True)
        return code
    _names(code, words)
    before = _Word("", 0)
    for at, word in enumerate(words):
        if not word.is_constant and _next(words, at) == "(":
            _setting_function(code, words, at)
        if not word.quoted and not word.is_constant and (before.text != "." or before.is_constant):
            _keyword(code, words, at, before, arguments)
        before = word
    if code.temporary:
        code.leaves(Audit.STATE, "uses temporary objects")
    return code


def _scan(text: str) -> list[_Word]:
    encoded = text.encode()
    words = []
    for token in postgast.scan(text).tokens:
        if token.token in _COMMENTS:
            continue
        part = encoded[token.start : token.end].decode()
        if token.token == SCONST:
            words.append(_Word(_constant(part), token.token))
        elif token.token == IDENT and part.startswith('"'):
            words.append(_Word(part[1:-1].replace('""', '"'), token.token, quoted=True))
        else:
            words.append(_Word(part.lower(), token.token))
    return words


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def _constant(part: str) -> str:
    """The value of a string constant, as far as names of settings and first words of statements need it."""
    if part.startswith("$"):
        tag = part.index("$", 1) + 1
        return part[tag:-tag]
    escaped = part[0] in "eE"
    value = part[part.index("'") + 1 : -1].replace("''", "'")
    return _ESCAPE.sub(r"\1", value) if escaped else value


def _names(code: Code, words: list[_Word]) -> None:
    """Every word as a name of a relation and a type, before a parenthesis of a function, after a point of either."""
    found: dict[tuple[str, str], None] = {}
    for at, word in enumerate(words):
        if word.kind == SCONST or not word.is_name:
            if word.text and word.text[0] not in _PUNCTUATION and not word.text[0].isalnum() and not word.is_constant:
                code.operators[("", word.text)] = None
            continue
        after = words[at + 1].text if at + 1 < len(words) else ""
        is_part = at > 0 and words[at - 1].text == "." and not words[at - 1].quoted
        schema = words[at - 2].text if is_part and at > 1 else ""
        if after == "(":
            code.functions[(schema, word.text)] = None
            if schema:
                code.functions[("", word.text)] = None
        if is_part:
            code.attributes[word.text] = None
        if word.text.startswith("pg_temp") or (word.text in ("temp", "temporary") and not word.quoted):
            code.temporary = True
        found[("", word.text)] = None
    code.reads.update(found)
    code.types.update(found)
    texts = {word.text for word in words if not word.quoted and not word.is_constant}
    if texts & _WRITING:
        code.written.update(found)
    if texts & {"truncate"}:
        code.truncated.update(found)
    if texts & {"refresh"}:
        code.refreshed.update(found)
    if texts & _DEFINING:
        code.defined.update(found)


def _setting_function(code: Code, words: list[_Word], at: int) -> None:
    """`set_config` and `current_setting`, with a schema or quoted, too."""
    if words[at].text == "set_config":
        code.sets(_argument(words, at + 1), local=_last_argument(words, at + 1) == ["true"])
    elif words[at].text == "current_setting":
        code.reads_setting(_argument(words, at + 1))


def _keyword(code: Code, words: list[_Word], at: int, before: _Word, arguments: Collection[str]) -> None:
    text = words[at].text
    is_first = before.text in _STARTS and not before.is_constant
    if text in _WRITING and before.text not in ("on", "or"):
        code.writes("locks rows" if before.text == "for" else f"contains {text.upper()}")
    elif text == "for" and _next(words, at) in ("share", "no", "key"):
        code.writes("locks rows")
    elif text == "execute":
        _execute(code, words, at, arguments)
    elif text == "show" and is_first:
        code.reads_setting(_setting_name(words, at + 1))
    elif text in ("set", "reset") and is_first:
        _set(code, words, at)
    elif text in _LEAVING and is_first:
        code.leaves(Audit.STATE, f"contains {text.upper()}")
    elif text == "hold" and before.text == "with":
        code.leaves(Audit.STATE, "declares a cursor WITH HOLD")
    elif text in _DEFINING and is_first:
        code.defines(f"contains {text.upper()}")
        code.leaves(Audit.STATE if text in ("create", "import", "alter") else Audit.NONE, f"contains {text.upper()}")
    elif text == "load" and is_first:
        code.is_opaque("loads a library", any_setting=True)
    elif text == "do" and is_first and before.text != "conflict":
        code.is_opaque("runs a block within a block", any_setting=True)
    elif text in _ENDING and is_first:
        code.writes(f"contains {text.upper()}")


def _execute(code: Code, words: list[_Word], at: int, arguments: Collection[str]) -> None:
    """Dynamic SQL: what is run is made of the body's constants, unless it comes from outside."""
    follows = [word for word in words[at + 1 : at + 4] if word.text not in ("(", "format")]
    given = (
        bool(follows)
        and not follows[0].is_constant
        and (follows[0].text in {name.lower() for name in arguments} or follows[0].text.startswith("$"))
    )
    code.runs_texts([word.text for word in words if word.is_constant], composed_here=not given)


def _set(code: Code, words: list[_Word], at: int) -> None:
    scope = _next(words, at)
    start = at + 2 if scope in ("local", "session") and _next(words, at + 1) not in ("=", "to") else at + 1
    name = _setting_name(words, start)
    match name:
        case "time":
            name = "timezone"
        case "all":
            code.leaves(Audit.SETTINGS, "resets all settings")
            return
        case "transaction" | "constraints":
            code.writes(f"sets {name}")
            return
    code.sets(name, local=scope == "local" and words[at].text == "set")


def _setting_name(words: list[_Word], at: int) -> str | None:
    if at >= len(words):
        return None
    name = words[at].text
    while at + 2 < len(words) and words[at + 1].text == ".":
        at += 2
        name += "." + words[at].text
    return name


def _next(words: list[_Word], at: int) -> str:
    return words[at + 1].text if at + 1 < len(words) and not words[at + 1].is_constant else ""


def _argument(words: list[_Word], opening: int) -> str | None:
    """The first argument when it is a constant and nothing else."""
    if opening + 2 < len(words) and words[opening + 1].is_constant and words[opening + 2].text in (",", ")"):
        return words[opening + 1].text
    return None


def _last_argument(words: list[_Word], opening: int) -> list[str]:
    depth, last = 0, list[str]()
    for word in words[opening:]:
        text = "" if word.is_constant else word.text
        if text in ("(", "["):
            depth += 1
            if depth == 1:
                continue
        elif text in (")", "]"):
            depth -= 1
            if depth == 0:
                break
        if text == "," and depth == 1:
            last = []
        else:
            last.append(text)
    return last
