"""Every setting of Trimaran, declared once.

A field carries its type, default, unit (at the end of its name), bounds and one sentence. The loader, the
command line, `docs/settings.md`, the JSON schema and the checks are all derived from these declarations; nothing
is repeated by hand. The values are parsed into frozen types, so code past the loader never asks again whether
they make sense.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Balance = Literal["random", "round_robin", "least_requests", "power_of_two", "peak_ewma", "prequal", "hash", "first"]


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a setting's declaration says beside its type and default."""

    help: str
    minimum: float | None = None
    maximum: float | None = None
    flag: str | None = None
    """The command-line flag of `trimaran run`, where there is one."""
    live: bool = True
    """Whether `trimaran reload` applies a new value without a restart of Trimaran itself."""


def setting(
    default: Any,
    help: str,  # noqa: A002 - the field's own word
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    flag: str | None = None,
    live: bool = True,
) -> Any:
    """Declare one setting. A dict, list or dataclass type as default is called for each configuration."""
    metadata = {"setting": Declaration(help, minimum, maximum, flag, live)}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Count:
    """How many servers: a fixed number (`4`) or a range the scaler moves in (`"2..8"`)."""

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}..{self.most}"


@dataclass(frozen=True, slots=True)
class Bind:
    """A listening address: `127.0.0.1:8000`, `[::1]:8000`, `:8000` (every interface) or `unix:/run/app.sock`."""

    host: str
    port: int
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Remote:
    """A server that runs elsewhere: `host:port` or `unix:/path`, with an optional weight: `10.0.0.7:8000 weight=2`."""

    address: Bind
    weight: float = 1.0

    def __str__(self) -> str:
        return str(self.address) if self.weight == 1.0 else f"{self.address} weight={self.weight:g}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate for TLS. Which one a client gets is decided by the name it asks for; the first is for all others."""

    certificate: str = setting("", "PEM file with the certificate and those that lead to its authority.")
    key: str = setting("", "PEM file with the private key, not encrypted.")


@dataclass(frozen=True, slots=True)
class Tls:
    """HTTPS. Certificates are read again when their files change."""

    bind: tuple[Bind, ...] = setting((), "Addresses that speak HTTPS, like :443.", flag="--https", live=False)
    certificates: tuple[Certificate, ...] = setting((), "Certificates and their keys.")
    client_ca: str = setting("", "PEM file of authorities; clients must have a certificate from one of them.")
    version_min: Literal["1.2", "1.3"] = setting("1.2", "Lowest version of TLS.")
    redirect: bool = setting(True, "Whether requests to gateway.bind are sent to HTTPS, once it is on.")
    hsts_max_age_s: int = setting(
        0, "Tells browsers to come by HTTPS only, for this long (Strict-Transport-Security); 0 does not.", minimum=0
    )


@dataclass(frozen=True, slots=True)
class Compression:
    """Responses that the app has not encoded are compressed for clients that accept it."""

    encodings: tuple[Literal["zstd", "br", "gzip"], ...] = setting(
        (), "Encodings to use, the preferred one first; none: responses are passed on as they are."
    )
    types: tuple[str, ...] = setting(
        (
            "text/*",
            "application/json",
            "application/javascript",
            "application/xml",
            "application/manifest+json",
            "application/ld+json",
            "application/problem+json",
            "application/rss+xml",
            "application/atom+xml",
            "application/wasm",
            "image/svg+xml",
        ),
        "Content types to compress; text/* stands for all that begin so. Event streams never are.",
    )
    min_bytes: int = setting(1_024, "Responses that announce a smaller body are left alone.", minimum=0)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests each client may send; more get 429."""

    path: str = setting("/", "Path prefix that it is for, matched on whole segments.")
    by: str = setting(
        "client", "What tells clients apart: client (the address) or header:NAME, and the address of those without."
    )
    requests_per_s: float = setting(10.0, "Requests per second in the long run.", minimum=0.001, maximum=1_000_000)
    burst: int = setting(20, "Requests that may come at once.", minimum=1, maximum=1_000_000)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The HTTP listener: where it listens and what it accepts."""

    bind: tuple[Bind, ...] = setting(
        (Bind("127.0.0.1", 8000),), "Addresses the gateway listens on.", flag="--bind", live=False
    )
    tls: Tls = setting(Tls, "HTTPS.")
    http2: bool = setting(True, "Whether HTTP/2 is spoken: over TLS, and in the clear with clients that begin with it.")
    threads: int = setting(0, "Data-plane threads; 0 means one per core.", minimum=0, maximum=256, live=False)
    trusted_proxies: tuple[str, ...] = setting(
        (), "Networks (CIDR) whose Forwarded and X-Forwarded-* fields and request ids are believed."
    )
    proxy_protocol: bool = setting(
        False, "Whether trusted_proxies begin each connection with a PROXY header (version 1 or 2), as they then must."
    )
    forwarded: Literal["x", "rfc7239", "both"] = setting(
        "x", "Fields that tell the app who asked: X-Forwarded-*, Forwarded (RFC 7239), or both."
    )
    connections_max: int = setting(20_000, "Open client connections; further ones wait to be accepted.", minimum=1)
    connections_per_client_max: int = setting(
        0,
        "Open connections of one client address (IPv6: /64); 0 means no limit. Trusted proxies are exempt.",
        minimum=0,
    )
    compression: Compression = setting(Compression, "Compressed responses.")
    rate_limits: tuple[RateLimit, ...] = setting((), "How many requests each client may send.")
    head_max_bytes: int = setting(32_768, "Largest request head.", minimum=1_024, maximum=1_048_576)
    fields_max: int = setting(100, "Most header fields in one head.", minimum=8, maximum=256)
    body_max_bytes: int = setting(104_857_600, "Largest request body; 0 means no limit.", minimum=0)
    request_buffering: Literal["full", "off"] = setting(
        "full",
        "full: a request goes to a server when all of its body has arrived, so slow clients hold no server;"
        " off: bodies are streamed.",
    )
    request_memory_bytes: int = setting(
        262_144, "Part of a buffered request body kept in memory; the rest is spooled to disk.", minimum=0
    )
    spool_directory: str = setting("", "Where large request bodies are spooled; empty means the system's choice.")
    response_buffer_bytes: int = setting(
        1_048_576, "How far a server may run ahead of a slow client before it is held back.", minimum=16_384
    )
    head_timeout_ms: int = setting(10_000, "Longest wait for a complete request head.", minimum=100)
    body_timeout_ms: int = setting(30_000, "Longest pause while a request body arrives.", minimum=100)
    write_timeout_ms: int = setting(30_000, "Longest pause while a client takes its response.", minimum=100)
    keep_alive_timeout_ms: int = setting(75_000, "How long an idle client connection is kept.", minimum=0)
    stream_idle_timeout_ms: int = setting(
        3_600_000, "Longest silence on an upgraded connection (WebSocket) or event stream.", minimum=1_000
    )
    access_log: Literal["off", "json", "combined"] = setting("off", "Access log format.", flag="--access-log")
    access_log_path: str = setting("-", "Access log file; - is standard output.")


@dataclass(frozen=True, slots=True)
class Health:
    """How a pool learns that a server is unwell."""

    check: Literal["auto", "http", "tcp", "off"] = setting(
        "auto", "Active check: http, tcp, off, or auto (http when a path is set, else tcp)."
    )
    path: str = setting("", "Path of the http check, for example /healthz.")
    expect: str = setting("200-399", "Statuses that pass the http check.")
    interval_ms: int = setting(2_000, "Time between two active checks of a server.", minimum=50)
    timeout_ms: int = setting(1_000, "Longest wait for one check.", minimum=10)
    rise: int = setting(2, "Passed checks in a row that bring a server up.", minimum=1)
    fall: int = setting(3, "Failed checks in a row that take a server down.", minimum=1)
    eject_failures: int = setting(
        3, "Failed requests in a row that eject a server; 0 switches ejection off.", minimum=0
    )
    eject_base_ms: int = setting(1_000, "First ejection time; doubles with each further ejection.", minimum=10)
    eject_max_ms: int = setting(60_000, "Longest ejection time.", minimum=10)
    eject_share_max: float = setting(0.5, "Largest share of a pool that may be ejected at once.", minimum=0, maximum=1)
    panic_share: float = setting(
        0.3,
        "When fewer than this share of servers are healthy, health is ignored and all are used.",
        minimum=0,
        maximum=1,
    )


@dataclass(frozen=True, slots=True)
class Pool:
    """Servers that answer the same requests: own processes of an app, remote addresses, or both."""

    app: str | None = setting(None, "The app as module:attribute, for example mysite.wsgi:application.", live=False)
    interface: Literal["auto", "asgi", "wsgi"] = setting("auto", "The app's interface.", flag="--interface")
    engine: str = setting("auto", "App server that runs the app in each process; auto is the measured default.")
    count: Count = setting(Count(2, 2), "Own servers: a number, or a range like 2..8 for the scaler.", flag="--servers")
    addresses: tuple[Remote, ...] = setting((), "Remote servers: host:port, unix:/path; names are re-resolved.")
    resolve_interval_ms: int = setting(10_000, "Time between two look-ups of remote names.", minimum=500)
    threads: int = setting(
        4, "Threads of a WSGI server, so also its requests in flight.", minimum=1, maximum=512, flag="--threads"
    )
    in_flight_max: int = setting(
        0, "Requests in flight per server; 0 means its threads (WSGI) or 100 (ASGI, remote).", minimum=0
    )
    balance: Balance = setting("least_requests", "Balancing policy.", flag="--balance")
    hash_by: str = setting("client", "What the hash policy hashes: client, path, header:NAME or cookie:NAME.")
    hash_bound: float = setting(
        1.25, "Bounded load of the hash policy: most load of a server, over the average.", minimum=1
    )
    slow_start_ms: int = setting(0, "A new server's share grows over this time.", minimum=0)
    queue_max: int = setting(1_000, "Requests that may wait for a server; more get 503.", minimum=0)
    queue_timeout_ms: int = setting(10_000, "Longest wait in the queue; then 503.", minimum=1)
    queue_target_ms: int = setting(
        1_000,
        "Wait that may last. When everyone has waited longer for queue_timeout_ms, those who would too get 503 at once.",
        minimum=1,
    )
    connect_timeout_ms: int = setting(2_000, "Longest wait for a connection to a server.", minimum=1)
    response_timeout_ms: int = setting(
        60_000, "Longest wait for a server's response head, and between its parts.", minimum=1
    )
    idle_connections_max: int = setting(64, "Idle connections kept to one server by one data-plane thread.", minimum=0)
    retries_max: int = setting(
        2, "Further servers a request may be tried on, when that is safe.", minimum=0, maximum=10
    )
    retry_share_max: float = setting(
        0.2, "Retries allowed as a share of recent requests (never less than ten a second).", minimum=0, maximum=1
    )
    boot_timeout_ms: int = setting(60_000, "Longest wait until a starting server is ready.", minimum=100)
    drain_timeout_ms: int = setting(30_000, "How long a leaving server may finish its requests and streams.", minimum=0)
    restart_delay_ms: int = setting(
        200, "Pause before a crashed server is started again; doubles up to the maximum.", minimum=0
    )
    restart_delay_max_ms: int = setting(30_000, "Longest pause between two starts of a crashing server.", minimum=0)
    memory_max_mib: int = setting(0, "A server above this resident memory is replaced; 0 means no limit.", minimum=0)
    lifetime_max_s: int = setting(0, "A server older than this is replaced; 0 means no limit.", minimum=0)
    environment: Mapping[str, str] = setting(dict, "Variables set for the app's processes.")
    health: Health = setting(Health, "Health checks of this pool.")


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests go to which pool. The longest matching prefix of the most exact host wins."""

    pool: str = setting("app", "Name of the pool.")
    host: str = setting("*", "Host: a name, *.example.com, or * for any.")
    path: str = setting("/", "Path prefix, matched on whole segments.")


@dataclass(frozen=True, slots=True)
class Scaling:
    """How the scaler moves a pool's server count inside its range."""

    interval_ms: int = setting(500, "Time between two decisions.", minimum=50)
    target_share: float = setting(
        0.6, "Share of slots that may be busy before servers are added.", minimum=0.05, maximum=1
    )
    queue_age_ms: int = setting(200, "A request waiting longer than this is an emergency: add servers now.", minimum=1)
    window_s: float = setting(5.0, "Arrival rate and service time are averaged over this time.", minimum=0.5)
    idle_s: float = setting(30.0, "How long fewer servers must have sufficed before one is removed.", minimum=0)


@dataclass(frozen=True, slots=True)
class Admin:
    """The status page, its API and the metrics."""

    bind: Bind = setting(Bind("127.0.0.1", 8001), "Address of the admin listener.", flag="--admin", live=False)
    enabled: bool = setting(True, "Whether the admin listener runs.", live=False)
    token: str = setting("", "Bearer token; required when the admin listener is not on loopback.", live=False)


@dataclass(frozen=True, slots=True)
class Reads:
    """How the gateway spreads reads over the replicas of a database."""

    split: bool = setting(True, "Whether statements that only read go to replicas.")
    balance: Balance = setting("least_requests", "Policy that chooses among replicas, as for servers.")
    causal: Literal["off", "session", "linear"] = setting(
        "session",
        "What a read is sure to see: off: whatever the replica has; session: all that its own session has committed;"
        " linear: all that anybody had committed before it came.",
    )
    wait_ms: int = setting(
        0,
        "How long a read may wait for a replica that has replayed enough, before it goes to the primary.",
        minimum=0,
        maximum=60_000,
    )
    lag_max_bytes: int = setting(67_108_864, "A replica further behind gets no reads; 0 means no limit.", minimum=0)
    lag_max_ms: int = setting(10_000, "The same by time; 0 means no limit.", minimum=0)


@dataclass(frozen=True, slots=True)
class Database:
    """One PostgreSQL database of the app."""

    gateway: bool = setting(
        True, "Whether the app reaches its database through the gateway: pooled, split, and over failovers.", live=False
    )
    bind: Bind = setting(Bind("127.0.0.1", 6432), "Address of the gateway of this database.", live=False)
    tls: bool = setting(False, "Whether clients may encrypt, with the certificates of gateway.tls.")
    reads: Reads = setting(Reads, "How reads are spread.")
    clients_max: int = setting(5_000, "Open client connections; further ones are refused.", minimum=1)
    connections_max: int = setting(
        20, "Connections to one node for each user and database, shared by all its clients.", minimum=1, maximum=10_000
    )
    checkout_timeout_ms: int = setting(10_000, "Longest wait for such a connection.", minimum=1)
    hold_timeout_ms: int = setting(
        30_000, "How long statements are held while no node takes writes (a failover).", minimum=0
    )
    settle_commits: Literal["off", "transactions", "all"] = setting(
        "transactions",
        "Of which writes the gateway learns the transaction id, so that it can find out after a failover whether they"
        " were committed: off: of none; transactions: of those with a COMMIT of their own; all: also of single"
        " statements of the extended protocol.",
    )
    connect_timeout_ms: int = setting(2_000, "Longest wait for a new connection to a node.", minimum=10)
    login_timeout_ms: int = setting(10_000, "Longest wait for a client to say who it is.", minimum=100)
    server_lifetime_ms: int = setting(3_600_000, "A connection to a node is not used again after this.", minimum=1_000)
    server_idle_ms: int = setting(300_000, "An idle connection to a node is closed after this.", minimum=1_000)
    request_max_bytes: int = setting(
        268_435_456, "Largest message of a client, in memory while it is served.", minimum=65_536, maximum=1_073_741_823
    )

    nodes: Literal["embedded"] | tuple[str, ...] = setting(
        "embedded",
        "embedded: Trimaran runs PostgreSQL itself; or a list of DSNs, of your primary and its replicas.",
        live=False,
    )
    replicas: int = setting(
        0, "Embedded replicas beside the primary, which read and take over.", minimum=0, maximum=7, live=False
    )
    synchronous: bool = setting(
        True,
        "A commit is acknowledged when a replica has it too, as long as one is up: a failover then loses none. Of your own"
        " nodes, only where `failover` is true.",
        live=False,
    )
    failover: bool | None = setting(
        None,
        "Whether Trimaran promotes a replica when the primary fails. Without a value: yes for embedded nodes, and no for"
        " your own, where it follows whom others promote (Patroni, a person).",
        live=False,
    )
    probe_interval_ms: int = setting(
        150, "How often each node is asked how it is.", minimum=20, maximum=10_000, live=False
    )
    probe_timeout_ms: int = setting(
        200, "An answer that takes longer is a failed probe.", minimum=20, maximum=10_000, live=False
    )
    probe_failures: int = setting(
        3, "Failed probes in a row after which a node counts as down.", minimum=1, maximum=100, live=False
    )
    write_stall_ms: int = setting(
        3_000,
        "The primary counts as down when a commit to its own disk takes longer; a replica stops being waited for when it"
        " is behind for longer.",
        minimum=200,
        maximum=600_000,
        live=False,
    )
    disk_free_min_mb: int = setting(
        64,
        "An embedded primary with less room on its disk gives its role to a replica that has more.",
        minimum=0,
        live=False,
    )
    switchover_timeout_ms: int = setting(
        10_000, "How long a planned promotion may wait for the replica before it is given up.", minimum=100, live=False
    )
    port: int = setting(
        0, "Port of the first embedded node; 0 means a free one, remembered.", minimum=0, maximum=65_535, live=False
    )
    environment: str = setting("DATABASE_URL", "Variable in which the app finds the database's address.", live=False)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole of `trimaran.toml`."""

    app: str | None = setting(None, "The app as module:attribute; short for servers.app.", live=False)
    directory: str = setting(".", "The app's directory, relative to the file.", live=False)
    state_directory: str = setting(
        ".trimaran", "Where Trimaran keeps sockets, secrets and embedded databases.", live=False
    )
    prepare: tuple[str, ...] = setting(
        (), "Commands run to the end, in order, before the first server starts.", live=False
    )
    gateway: Gateway = setting(Gateway, "The HTTP listener.")
    servers: Pool = setting(Pool, "The pool named app, and the defaults of the others.")
    pools: Mapping[str, Pool] = setting(dict, "Further pools by name.")
    routes: tuple[Route, ...] = setting((), "Requests to pools; empty sends everything to the pool app.")
    scaling: Scaling = setting(Scaling, "The scaler.")
    admin: Admin = setting(Admin, "The admin listener.")
    databases: Mapping[str, Database] = setting(dict, "Databases by name.", live=False)

    def all_pools(self) -> Mapping[str, Pool]:
        """Pools by name. `servers` is the pool `app` wherever it has an app or addresses."""
        own = {"app": self.servers} if self.servers.app or self.servers.addresses else {}
        return {**own, **self.pools}
