"""Rules between settings: each is right by itself, but they do not fit together."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from trimaran.errors import ConfigError

from .load import Loaded
from .model import Bind, Database, Pool

_FIELD_NAME = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
LOOPBACK_NAMES = ("localhost",)
_NODES_MAX = 8


def check(loaded: Loaded) -> list[ConfigError]:
    """Everything that does not fit, in the order of the file; empty when the configuration can be started."""
    return list(_problems(loaded))


def is_loopback(bind: Bind) -> bool:
    """Whether only this machine can reach the address."""
    if bind.path is not None or bind.host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(bind.host).is_loopback
    except ValueError:
        return False


def expected_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """`200-299,404` as ranges. Raises ValueError."""
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([1-5]\d\d)(?:-([1-5]\d\d))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError("statuses like 200-399 or 200,204")
        ranges.append((int(match[1]), int(match[2] or match[1])))
    return tuple(ranges)


def _problems(loaded: Loaded) -> Iterator[ConfigError]:
    config, source = loaded.config, loaded.source
    gateway = config.gateway
    addresses = [bind for bind in (*gateway.bind, *gateway.tls.bind) if bind.path is not None or bind.port]
    if not gateway.bind and not gateway.tls.bind:
        yield ConfigError(source, "gateway.bind", [], "expected at least one address")
    if len(set(addresses)) < len(addresses):
        yield ConfigError(source, "gateway.bind", [str(bind) for bind in addresses], "the same address twice")
    yield from _tls_problems(loaded)
    for at, limit in enumerate(gateway.rate_limits):
        if not limit.path.startswith("/"):
            yield ConfigError(
                source, f"gateway.rate_limits[{at}].path", limit.path, "expected a path that begins with /"
            )
        if not re.fullmatch(rf"client|header:{_FIELD_NAME}", limit.by):
            yield ConfigError(source, f"gateway.rate_limits[{at}].by", limit.by, "expected client or header:NAME")
    for kind in gateway.compression.types:
        if not re.fullmatch(r"[a-z0-9.+-]+/(\*|[a-z0-9.+-]+\*?)", kind, re.IGNORECASE):
            yield ConfigError(source, "gateway.compression.types", kind, "expected a content type like text/html")
    if len(set(gateway.compression.encodings)) < len(gateway.compression.encodings):
        yield ConfigError(
            source, "gateway.compression.encodings", list(gateway.compression.encodings), "the same one twice"
        )
    for network in gateway.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            yield ConfigError(source, "gateway.trusted_proxies", network, "expected a network like 10.0.0.0/8")
    if gateway.spool_directory and not (loaded.directory / gateway.spool_directory).is_dir():
        yield ConfigError(source, "gateway.spool_directory", gateway.spool_directory, "expected an existing directory")
    pools = config.all_pools()
    if not pools:
        yield ConfigError(source, "app", None, "expected an app like mysite.wsgi:application, or servers.addresses")
    if "app" in config.pools and (config.servers.app or config.servers.addresses):
        yield ConfigError(source, "pools.app", None, "the pool app is [servers] already; choose another name")
    for name, pool in pools.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
            yield ConfigError(source, f"pools.{name}", None, "expected a name of at most 32 letters, digits, - and _")
        yield from _pool_problems(
            pool, "servers" if name == "app" and name not in config.pools else f"pools.{name}", source
        )
    for at, route in enumerate(config.routes):
        key = f"routes[{at}]"
        if route.pool not in pools:
            yield ConfigError(source, f"{key}.pool", route.pool, f"expected one of the pools {', '.join(pools)}")
        if not route.path.startswith("/"):
            yield ConfigError(source, f"{key}.path", route.path, "expected a path that begins with /")
        if not re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9.\-\[\]:]+", route.host):
            yield ConfigError(source, f"{key}.host", route.host, "expected a name, *.example.com, or *")
    if not config.routes and pools and "app" not in pools:
        yield ConfigError(source, "routes", None, f"expected routes to the pools {', '.join(pools)}")
    if config.admin.enabled and not config.admin.token and not is_loopback(config.admin.bind):
        expected = "expected a loopback address, or a token in admin.token: everyone can reach this one"
        yield ConfigError(source, "admin.bind", str(config.admin.bind), expected)
    for name, database in config.databases.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name):
            yield ConfigError(source, f"databases.{name}", None, "expected a name of small letters, digits and _")
        yield from _database_problems(name, database, source)


def _database_problems(name: str, database: Database, source: str) -> Iterator[ConfigError]:
    key = f"databases.{name}"
    if database.nodes == "embedded":
        return
    if not 1 <= len(database.nodes) <= _NODES_MAX:
        expected = f'expected "embedded" or up to {_NODES_MAX} DSNs'
        yield ConfigError(source, f"{key}.nodes", list(database.nodes), expected)
    for at, dsn in enumerate(database.nodes):
        if not re.match(r"postgres(ql)?://", dsn):
            # The text may hold a password, so it is not repeated.
            yield ConfigError(source, f"{key}.nodes[{at}]", None, "expected a DSN like postgresql://user@host/name")
    if len(set(database.nodes)) < len(database.nodes):
        yield ConfigError(source, f"{key}.nodes", None, "the same DSN twice")
    if database.replicas:
        expected = "expected 0: replicas are made of embedded nodes only; name your own in nodes"
        yield ConfigError(source, f"{key}.replicas", database.replicas, expected)


def _tls_problems(loaded: Loaded) -> Iterator[ConfigError]:
    tls, source = loaded.config.gateway.tls, loaded.source
    if tls.bind and not tls.certificates:
        yield ConfigError(source, "gateway.tls.certificates", None, "expected at least one, to speak HTTPS")
    for bind in tls.bind:
        if bind.path is not None:
            yield ConfigError(source, "gateway.tls.bind", str(bind), "expected an address like :443")
    for at, certificate in enumerate(tls.certificates):
        key = f"gateway.tls.certificates[{at}]"
        if problem := _certificate_problem(
            loaded.directory / certificate.certificate, loaded.directory / certificate.key
        ):
            yield ConfigError(source, key, certificate.certificate or None, problem)
    if tls.client_ca:
        try:
            ssl.create_default_context(cafile=loaded.directory / tls.client_ca)
        except (OSError, ssl.SSLError) as error:
            expected = f"expected a PEM file of authorities: {error}"
            yield ConfigError(source, "gateway.tls.client_ca", tls.client_ca, expected)


def _certificate_problem(certificate: Path, key: Path) -> str | None:
    """Why the files cannot be used, found out by loading them."""

    def no_password() -> str:
        raise ValueError("the key is encrypted")

    for file in (certificate, key):
        if not file.is_file():
            return f"expected PEM files for certificate and key; there is no file {file}"
        if not os.access(file, os.R_OK):
            return f"expected PEM files for certificate and key; {file} may not be read"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, no_password)
    except (OSError, ValueError, ssl.SSLError) as error:
        return f"expected a PEM certificate and its key, not encrypted: {error}"
    return None


def _pool_problems(pool: Pool, key: str, source: str) -> Iterator[ConfigError]:
    if not pool.app and not pool.addresses:
        yield ConfigError(source, key, None, "expected an app or addresses")
    if pool.app is not None and not re.fullmatch(r"[\w.]+(:[\w.]+(\(\))?)?", pool.app):
        yield ConfigError(source, f"{key}.app", pool.app, "expected module:attribute, like mysite.wsgi:application")
    if pool.app and pool.count.least < 1:
        yield ConfigError(source, f"{key}.count", str(pool.count), "expected at least one server")
    if not re.fullmatch(rf"client|path|(header|cookie):{_FIELD_NAME}", pool.hash_by):
        expected = "expected client, path, header:NAME or cookie:NAME"
        yield ConfigError(source, f"{key}.hash_by", pool.hash_by, expected)
    health = pool.health
    if health.check == "http" and not health.path:
        yield ConfigError(
            source, f"{key}.health.path", health.path, "expected a path for the http check, like /healthz"
        )
    if health.path and not health.path.startswith("/"):
        yield ConfigError(source, f"{key}.health.path", health.path, "expected a path that begins with /")
    try:
        expected_statuses(health.expect)
    except ValueError as error:
        yield ConfigError(source, f"{key}.health.expect", health.expect, f"expected {error}")
