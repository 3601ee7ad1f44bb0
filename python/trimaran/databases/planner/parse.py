"""PostgreSQL's own grammar, made safe against texts that would exhaust the stack.

libpg_query walks the tree by recursion and has no stack check (its pull request 348): `SELECT 1+1+1...` of 80 KB ends
a process whose stack is the usual 8 MiB. About 130 bytes of stack are used per byte of text at worst, so short texts are
parsed where they are, and longer ones on a thread with a stack that is large enough (only what is touched costs memory).
The time of such texts grows with the square of their depth, which is why still longer ones are not parsed at all.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue

import postgast
from google.protobuf.message import DecodeError
from postgast.pg_query_pb2 import ParseResult

DIRECT_BYTES = 8 * 1024
"""Texts up to this size need about 1 MiB of stack at worst."""
LARGEST_BYTES = 32 * 1024
"""Longer texts are not parsed."""
_STACK_BYTES = 32 * 1024 * 1024
_STACK_SIZE_LOCK = threading.Lock()


class SyntaxUnknown(Exception):
    """The grammar does not accept the text; the server, if its grammar is the same, will not either."""


class NotAnalysed(Exception):
    """The text may be valid, but is too long or too deeply nested to be analysed."""


def parse(text: str) -> ParseResult:
    """The raw parse tree. Raises SyntaxUnknown or NotAnalysed, and nothing else for any text."""
    if "\0" in text:
        raise SyntaxUnknown("it contains a NUL character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise SyntaxUnknown("it is not valid Unicode") from error
    if size > LARGEST_BYTES:
        raise NotAnalysed(f"it is longer than {LARGEST_BYTES} bytes")
    try:
        return postgast.parse(text) if size <= DIRECT_BYTES else _parse_with_room(text)
    except postgast.PgQueryError as error:
        raise SyntaxUnknown(error.message) from error
    except DecodeError as error:
        raise NotAnalysed("it is nested too deeply") from error


def _parse_with_room(text: str) -> ParseResult:
    outcome: SimpleQueue[ParseResult | Exception] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put(postgast.parse(text))
        except Exception as error:
            outcome.put(error)

    thread = threading.Thread(target=run, name="parse", daemon=True)
    # The size is the interpreter's, not the thread's: a thread started meanwhile by others gets it too, which is harmless.
    with _STACK_SIZE_LOCK:
        usual = threading.stack_size(_STACK_BYTES)
        try:
            thread.start()
        except RuntimeError as error:
            raise NotAnalysed("there is no memory for the stack that a text this long may need") from error
        finally:
            threading.stack_size(usual)
    result = outcome.get()
    thread.join()
    if isinstance(result, Exception):
        raise result
    return result
