"""Generated conversations: pipelined requests whose bodies look like requests, whole or damaged where parsers differ."""

from __future__ import annotations

from hypothesis import strategies as st

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH")
_BODIES = (
    b"", b"x", b"abc", b"\r\n", b"0\r\n\r\n", b"0\r\n\r\n" + SMUGGLED, SMUGGLED, SMUGGLED * 2, b"\0\xff\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"y" * 5000,
)  # fmt: skip
_FIELDS = (
    b"X-A: 1\r\n", b"X-Empty:\r\n", b"Cookie: a=b; c=\r\n", b"Connection: keep-alive\r\n", b"Connection: x-a\r\n",
    b"Expect: 100-continue\r\n", b"Content-Type: text/plain\r\n", b"X_Twin: 1\r\n", b"TE: trailers\r\n",
    b"Upgrade: other\r\nConnection: upgrade\r\n", b"X-Latin: caf\xe9\r\n",
)  # fmt: skip
_EXTENSIONS = (b"", b"", b";a", b';a="b;c"', b";a=b;c=d")
_TRAILERS = (b"", b"", b"X-Sum: 1\r\n", b"X-Sum:\r\nX-More: 2\r\n")

DAMAGE = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\0", b":", b";", b",", b"\x0b", b"\x7f", b"0", b"1", b"f", b"\xa0",
    b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length : 3\r\n", b"Content-Length: +3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding: chunked, identity\r\n", b"X: y\r\n folded\r\n",
    b"Content_Length: 5\r\n", b"Transfer\tEncoding: chunked\r\n", b"Host: b\r\n", b"Connection: close\r\n",
    b"Connection: Content-Length, Transfer-Encoding\r\n", b"0\r\n\r\n", b"0\n\n", b"0\r\n", SMUGGLED, b"HTTP/1.0", b"#",
)  # fmt: skip


@st.composite
def _framed(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """The field that frames a body, and the body as it is sent."""
    body = draw(st.sampled_from(_BODIES))
    kind = draw(st.sampled_from(("none", "length", "chunks", "chunks")))
    if kind == "none":
        return b"", b""
    if kind == "length":
        return b"Content-Length: %d\r\n" % len(body), body
    sent = b""
    while body:
        size = draw(st.integers(1, len(body)))
        number = draw(st.sampled_from((b"%x", b"%X", b"0%x"))) % size
        sent += number + draw(st.sampled_from(_EXTENSIONS)) + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:] if len(sent) < 8000 else b""
    return b"Transfer-Encoding: chunked\r\n", sent + b"0\r\n" + draw(st.sampled_from(_TRAILERS)) + b"\r\n"


@st.composite
def whole(draw: st.DrawFn) -> bytes:
    """Some good requests in a row."""
    sent = b""
    for number in range(draw(st.integers(1, 4))):
        framing, body = draw(_framed())
        extra = b"".join(draw(st.lists(st.sampled_from(_FIELDS), max_size=3, unique=True)))
        target = draw(st.sampled_from((b"/%d", b"/%d?a=b", b"/%d/%%2e%%2e//", b"http://b/%d"))) % number
        sent += draw(st.sampled_from(_METHODS)) + b" " + target + b" HTTP/1.1\r\nHost: a\r\n"
        sent += draw(st.sampled_from((framing + extra, extra + framing))) + b"\r\n" + body
    return sent


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The same with a few changes, most of them where lines end and bodies are framed."""
    sent = draw(whole())
    for _ in range(draw(st.integers(1, 3))):
        lines = [at for at in range(len(sent)) if sent[at : at + 1] == b"\n"]
        at = draw(st.sampled_from(lines)) + 1 if draw(st.booleans()) and lines else draw(st.integers(0, len(sent)))
        end = draw(st.sampled_from((at, at, at + 1, at + 2, at + 8)))
        sent = sent[:at] + draw(st.sampled_from((b"", *DAMAGE))) + sent[end:]
    return sent
