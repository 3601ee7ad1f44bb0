"""How clients log in: SCRAM with and without channel binding, and messages that no driver would send. What is refused is
refused with PostgreSQL's code and words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from trimaran.databases.postgres import EmbeddedNode

from tests.databases.gateway.raw import Message, Raw, connected, fields, message, packet, rows, startup, text
from tests.support.certificates import Authority, tls
from tests.support.gateways import Gateway, start_gateway

NAME = "db.example"
PLAIN, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
HEADER = "p=tls-server-end-point,,"


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A gateway with TLS."""

    gateway: Gateway
    authority: Authority


@pytest.fixture(scope="module")
def encrypted(primary: EmbeddedNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    rest = {"tls": tls(authority.issue("first", NAME), authority.issue("second", "other.example"))}
    gateway = start_gateway(primary, rest=rest, tls=True)
    yield Encrypted(gateway, authority)
    gateway.stop()


@pytest.mark.parametrize("binding", ["require", "prefer", "disable"])
@pytest.mark.parametrize("encryption", [{"sslmode": "require"}, {"sslmode": "require", "sslnegotiation": "direct"}])
def test_libpq_binds_to_the_channel(encrypted: Encrypted, binding: str, encryption: dict[str, Any]) -> None:
    with psycopg.connect(encrypted.gateway.dsn, channel_binding=binding, **encryption) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_without_tls_there_is_nothing_to_bind_to(dsn: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        psycopg.connect(dsn, channel_binding="require", sslmode="disable")
    with psycopg.connect(dsn, channel_binding="prefer", sslmode="disable") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_proof_is_bound_to_the_certificate_that_was_shown(encrypted: Encrypted) -> None:
    """By name, and after a certificate was exchanged; also when the settings have another meanwhile."""
    gateway, authority = encrypted.gateway, encrypted.authority
    for name in (NAME, "other.example", "unknown.example"):
        with psycopg.connect(
            gateway.dsn.replace("127.0.0.1", name),
            hostaddr="127.0.0.1",
            channel_binding="require",
            sslmode="require",
        ) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    with connected(gateway.dsn) as before:
        before.encrypt(_context(), NAME)
        shown = _certificate(before)
        gateway.rest["tls"] = tls(authority.issue("first", NAME), authority.issue("second", "other.example"), mark="2")
        gateway.apply()
        with psycopg.connect(gateway.dsn, channel_binding="require", sslmode="require") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with connected(gateway.dsn) as after:
            after.encrypt(_context(), NAME)
            assert _certificate(after) != shown
        assert _finish(before, gateway.dsn, HEADER, _bound(shown)) is None


Report = tuple[str, str, str]
"""Code, message and detail of a refusal."""

MALFORMED = "malformed SCRAM message"
DECLINED = (
    "28000",
    "SCRAM channel binding negotiation error",
    "The client supports SCRAM channel binding but thinks the server does not.  "
    "However, this server does support channel binding.",
)
UNBOUND = (
    "08P01",
    MALFORMED,
    "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
)
BOUND = (
    "08P01",
    MALFORMED,
    "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
)

OVER_TLS: list[tuple[str, str, str, Report]] = [
    (PLAIN, "y,,n=,r=abc", "", DECLINED),
    (PLAIN, HEADER + "n=,r=abc", "", UNBOUND),
    (PLUS, "n,,n=,r=abc", "", BOUND),
    (PLUS, "y,,n=,r=abc", "", BOUND),
    (PLUS, "p=tls-unique,,n=,r=abc", "", ("08P01", 'unsupported SCRAM channel-binding type "tls-unique"', "")),
    (PLUS, "p=a b,,n=,r=abc", "", ("08P01", 'unsupported SCRAM channel-binding type "a?b"', "")),
    (PLUS, "p,,n=,r=abc", "", ("08P01", MALFORMED, 'Expected character "=" for attribute "p".')),
    (PLUS, HEADER + "n=,r=abc", "c=biws", ("28000", "SCRAM channel binding check failed", "")),
    (
        PLUS,
        HEADER + "n=,r=abc",
        "c=" + base64.b64encode(HEADER.encode() + bytes(32)).decode(),
        ("28000", "SCRAM channel binding check failed", ""),
    ),
    ("SCRAM-SHA-1", "n,,n=,r=abc", "", ("08P01", "client selected an invalid SASL authentication mechanism", "")),
]
"""With the answers of PostgreSQL 18 (`auth-scram.c`); the embedded one has no TLS."""

IN_THE_CLEAR = [
    (PLUS, HEADER + "n=,r=abc", ""),
    (PLAIN, HEADER + "n=,r=abc", ""),
    (PLAIN, "y,,n=,r=abc", "c=biws"),
    (PLAIN, "n,,n=,r=abc", "c=eSws"),
    (PLAIN, "n,,n=,r=abc", "x=biws"),
    (PLAIN, "n,,n=,r=abc", "c=biws,r=other"),
    (PLAIN, "n,,n=,r=abc", "c=biws,r=NONCE,p=short"),
    (PLAIN, "n,,n=,r=abc", "c=biws,r=NONCE"),
    (PLAIN, "n,,n=,r=abc", "c=biws,r=NONCE,p=" + base64.b64encode(bytes(32)).decode() + ",x=y"),
    (PLAIN, "n,,n=,r=abc", "c=biws,r=NONCE,p=" + base64.b64encode(bytes(32)).decode()),
    (PLAIN, "n,,n=,r=abc", "c=biws,r=NONCE,1=x"),
    (PLAIN, "n,a=other,n=,r=abc", ""),
    (PLAIN, "n,x,n=,r=abc", ""),
    (PLAIN, "nn,,n=,r=abc", ""),
    (PLAIN, "x,,n=,r=abc", ""),
    (PLAIN, "n,,m=must,n=,r=abc", ""),
    (PLAIN, "n,,r=abc", ""),
    (PLAIN, "n,,n=ada", ""),
    (PLAIN, "n,,n=,r=\u00e9", ""),
    (PLAIN, "n,,n=,r=abc,0=x", ""),
    (PLAIN, "n,,n=,r=abc,x", ""),
    (PLAIN, "n,", ""),
    (PLAIN, "", ""),
    (PLAIN, "n,,n=,r=a\0bc", ""),
]


@pytest.mark.parametrize(("mechanism", "first", "last", "told"), OVER_TLS)
def test_wrong_bindings_are_refused(encrypted: Encrypted, mechanism: str, first: str, last: str, told: Report) -> None:
    with connected(encrypted.gateway.dsn) as raw:
        raw.encrypt(_context(), NAME)
        assert _refused(raw, encrypted.gateway.dsn, mechanism, first, last) == told


@pytest.mark.parametrize(("mechanism", "first", "last"), IN_THE_CLEAR)
def test_what_postgresql_refuses_is_refused_the_same(gateway: Gateway, mechanism: str, first: str, last: str) -> None:
    told = []
    for dsn in (gateway.direct, gateway.dsn):
        with connected(dsn) as raw:
            told.append(_refused(raw, dsn, mechanism, first, last))
    assert told[0] == told[1]


def _refused(raw: Raw, dsn: str, mechanism: str, first: str, last: str) -> Report:
    _begin(raw, dsn)
    nonce = _first(raw, mechanism, first)
    if not isinstance(nonce, str):
        return nonce
    raw.send(message(b"p", last.replace("NONCE", nonce).encode()))
    return _report(raw.receive())


def test_a_first_message_may_come_on_its_own(dsn: str) -> None:
    with connected(dsn) as raw:
        _begin(raw, dsn)
        raw.send(message(b"p", text(PLAIN) + struct.pack("!i", -1)))
        assert raw.receive() == (b"R", struct.pack("!i", 11))
        assert _finish(raw, dsn, "n,,", b"n,,", alone=True) is None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _certificate(raw: Raw) -> bytes:
    assert isinstance(raw.socket, ssl.SSLSocket)
    shown = raw.socket.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def _bound(certificate: bytes) -> bytes:
    """The authority of the tests signs with SHA-256."""
    return HEADER.encode() + hashlib.sha256(certificate).digest()


def _begin(raw: Raw, dsn: str) -> list[str]:
    """Up to the mechanisms that are offered."""
    place = urlsplit(dsn)
    raw.send(startup({"user": place.username or "", "database": place.path[1:]}))
    tag, contents = raw.receive()
    assert (tag, contents[:4]) == (b"R", struct.pack("!i", 10))
    return [name.decode() for name in contents[4:].split(b"\0") if name]


def _first(raw: Raw, mechanism: str, first: str) -> str | Report:
    """Sends a client-first message: the whole nonce, or why not."""
    sent = first.encode()
    raw.send(message(b"p", text(mechanism) + struct.pack("!i", len(sent)) + sent))
    tag, contents = raw.receive()
    if tag == b"E":
        return _report((tag, contents))
    return contents[4:].split(b",")[0][2:].decode()


def _report(received: Message) -> Report:
    assert received[0] == b"E", received
    found = fields(received[1])
    assert found["S"] == "FATAL"
    return found["C"], found["M"], found.get("D", "")


def _finish(raw: Raw, dsn: str, header: str, binding: bytes, *, alone: bool = False) -> Report | None:
    """A whole exchange with the right password: None when it was taken."""
    password = unquote(urlsplit(dsn).password or "")
    bare = b"n=,r=fyko+d2lbbFgONRv9qkxdawL"
    first = header.encode() + bare
    if alone:
        raw.send(message(b"p", first))
    else:
        offered = _begin(raw, dsn)
        assert offered == ([PLUS, PLAIN] if isinstance(raw.socket, ssl.SSLSocket) else [PLAIN])
        mechanism = PLUS if header == HEADER else PLAIN
        raw.send(message(b"p", text(mechanism) + struct.pack("!i", len(first)) + first))
    received = raw.receive()
    if received[0] == b"E":
        return _report(received)
    server_first = received[1][4:]
    given = dict(part.split(b"=", 1) for part in server_first.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(given[b"s"]), int(given[b"i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = b"c=" + base64.b64encode(binding) + b",r=" + given[b"r"]
    signed = b",".join((bare, server_first, without_proof))
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    raw.send(message(b"p", without_proof + b",p=" + base64.b64encode(proof)))
    received = raw.receive()
    return None if received[0] == b"R" else _report(received)


OPTIONS = [
    "-c work_mem=1MB -c work_mem=2MB",
    "-cwork_mem=1MB",
    "--work-mem=1MB",
    r"-c search_path=a\ b",
    r"-c DateStyle=ISO,\ DMY --",
    "-e -S 2048 -f s -n -v 3",
    "-c",
    "-c work_mem",
    "--work_mem",
    "-c work_mem=much",
    "-c nosuch=1",
    "-c a.b=1",
    "-c role=nosuch",
    "-c shared_buffers=1MB",
    "-c log_statement=all",
    "-B 100",
    "-F",
    "-O",
    "-d 2",
    "-t pl",
    "-x",
    "junk",
    "-c TimeZone=nosuch",
    "-c client_encoding=nosuch",
    "-c transaction_isolation=serializable",
    "-c transaction_read_only=on",
    "-c seed=0.5",
]


@pytest.mark.parametrize("options", OPTIONS)
def test_options_mean_what_they_mean_to_postgresql(gateway: Gateway, options: str) -> None:
    """And leave nothing behind that stops the next login."""
    told = [_told(dsn, options=options) for dsn in (gateway.direct, gateway.dsn)]
    assert told[0] == told[1]
    assert _told(gateway.dsn, work_mem="1MB") == ("1MB",)


@pytest.mark.parametrize(
    "parameters",
    [
        {"nosuch": "1"},
        {"work_mem": "much"},
        {"database": "nosuch"},
        {"database": "template0"},
        {"database": "trimaran"},
        {"replication": "f"},
        {"replication": "oFF"},
    ],
)
def test_start_up_parameters_are_postgresql_s(gateway: Gateway, parameters: dict[str, str]) -> None:
    told = [_told(dsn, **parameters) for dsn in (gateway.direct, gateway.dsn)]
    assert told[0] == told[1]


SSL_REQUEST, GSS_REQUEST = (packet(struct.pack("!i", 80877103 + more)) for more in range(2))


@pytest.mark.parametrize("requests", [[SSL_REQUEST, SSL_REQUEST], [GSS_REQUEST, SSL_REQUEST, GSS_REQUEST]])
def test_encryption_is_asked_for_once(dsn: str, requests: list[bytes]) -> None:
    with connected(dsn) as raw:
        for request in requests[:-1]:
            raw.send(request)
            assert raw.socket.recv(1) == b"N"
        raw.send(requests[-1])
        code, told, _ = _report(raw.receive())
        assert (code, told.split(":")[0]) == ("0A000", f"unsupported frontend protocol 1234.{5679 + len(requests) - 2}")


def test_a_packet_that_is_cut_off(dsn: str) -> None:
    with connected(dsn) as raw:
        raw.send(packet(struct.pack("!i", 3 << 16) + b"user\0app"))
        text = "invalid startup packet layout: expected terminator as last byte"
        assert _report(raw.receive()) == ("08P01", text, "")


def _told(dsn: str, **parameters: str) -> tuple[str | None, ...]:
    """How a session begins that is started so: what it has for `work_mem`, or code and message of its refusal."""
    place = urlsplit(dsn)
    with connected(dsn) as raw:
        raw.send(startup({"user": place.username or "", "database": place.path[1:], **parameters}))
        raw.prove(unquote(place.password or ""))
        received = raw.receive()
        while received[0] not in b"EZ":
            received = raw.receive()
        return _report(received)[:2] if received[0] == b"E" else rows(raw.ask("SHOW work_mem"))[0]
