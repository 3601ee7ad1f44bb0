"""Where messages end, by RFC 9112 alone: a reader that sees the whole input and refuses all that is in doubt.

It has no limits, and knows no settings; so a gateway may refuse what this reads, but never read what this refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*|\*")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]+)(/[\x21\x22\x24-\x7e]*)?")
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(:[0-9]*)?")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Malformed(Exception):
    """From here on nothing can be read."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    body: str
    last: bool
    """Nothing is read behind it."""


def requests(data: bytes) -> list[Request]:
    """Every request up to the end, the first error, or the last of the connection."""
    found: list[Request] = []
    at = 0
    while not (found and found[-1].last):
        try:
            request, at = _request(data, at)
        except Malformed:
            break
        found.append(request)
    return found


def _request(data: bytes, at: int) -> tuple[Request, int]:
    while blank := re.compile(rb"\r?\n").match(data, at):
        at = blank.end()
    line, at = _line(data, at)
    parts = line.split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Malformed(line)
    method, target, version = parts
    fields, at = _fields(data, at)
    hosts = [value for name, value in fields if name == b"host"]
    if absolute := _ABSOLUTE.fullmatch(target):
        target = absolute[2] or b"/"
        if not _HOST.fullmatch(absolute[1]):
            raise Malformed(absolute[1])
    elif not _TARGET.fullmatch(target) or not all(_HOST.fullmatch(host) for host in hosts):
        raise Malformed(target)
    if len(hosts) > 1 or (not hosts and not absolute and version == b"HTTP/1.1"):
        raise Malformed("Host")
    body, at = _body(data, at, fields, version)
    options = [
        option.strip().lower() for name, value in fields if name == b"connection" for option in value.split(b",")
    ]
    last = b"close" in options or (version == b"HTTP/1.0" and b"keep-alive" not in options)
    return Request(method.decode(), target.decode(), body.decode("latin-1"), last), at


def _body(data: bytes, at: int, fields: list[tuple[bytes, bytes]], version: bytes) -> tuple[bytes, int]:
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    if codings:
        if lengths or codings != [b"chunked"] or version == b"HTTP/1.0":
            raise Malformed("framing")
        return _chunks(data, at)
    if not lengths:
        return b"", at
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
        raise Malformed("length")
    end = at + int(lengths[0])
    if end > len(data):
        raise Malformed("too little")
    return data[at:end], end


def _chunks(data: bytes, at: int) -> tuple[bytes, int]:
    body = b""
    while True:
        line, at = _line(data, at)
        size = re.fullmatch(rb"([0-9A-Fa-f]+)(;[\t\x20-\x7e\x80-\xff]*)?", line)
        if size is None:
            raise Malformed(line)
        count = int(size[1], 16)
        if count == 0:
            break
        body += data[at : at + count]
        at += count
        if data[at : at + 2] != b"\r\n":
            raise Malformed("chunk")
        at += 2
    _, at = _fields(data, at)
    return body, at


def _fields(data: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int]:
    fields = []
    while True:
        line, at = _line(data, at)
        if not line:
            return fields, at
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Malformed(line)
        fields.append((name.lower(), value.strip(b" \t")))


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", at)
    line = data[at:end]
    if end < 0 or b"\r" in line or b"\n" in line:
        raise Malformed(line)
    return line, end + 2
