//! What Python decided: configuration and topology in one value, replaced as a whole.
//!
//! This is the only structure that crosses the border downwards. Unknown keys are refused, so a setting that
//! Python knows and Rust does not cannot be lost in silence.

use serde::Deserialize;

use crate::servers::balance::PolicySettings;
use crate::servers::health::active::ActiveSettings;
use crate::servers::health::passive::PassiveSettings;
use crate::servers::http::compression::Coding;

/// The whole snapshot.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Addresses: `127.0.0.1:8000`, `[::1]:8000` or `unix:/path`. Fixed at start.
    pub listeners: Vec<String>,
    /// Data-plane threads. Fixed at start.
    pub threads: usize,
    /// `None`: no TLS.
    pub tls: Option<Tls>,
    pub http: Http,
    pub access_log: AccessLog,
    pub routes: Vec<Route>,
    pub pools: Vec<Pool>,
    #[serde(default)]
    pub databases: Vec<Database>,
}

/// Encryption of the client side.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Addresses that speak TLS. Fixed at start.
    pub listeners: Vec<String>,
    pub certificates: Vec<Certificate>,
    /// File of authorities that must have signed a client's certificate; empty asks clients for none.
    pub client_ca: String,
    pub version_min: TlsVersion,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Requests in the clear are sent to this port of the same host.
    pub redirect_port: Option<u16>,
    /// `Strict-Transport-Security`; zero leaves it out.
    pub hsts_max_age_s: u64,
}

/// A certificate chain and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub certificate: String,
    pub key: String,
    /// Changes with the files; they are only read again when it does.
    pub mark: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}

/// Limits and habits of the client side.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// CIDR networks.
    pub trusted_proxies: Vec<String>,
    /// Whether trusted proxies begin their connections with a PROXY header.
    #[serde(default)]
    pub proxy_protocol: bool,
    pub forwarded: Forwarded,
    /// Whether HTTP/2 is spoken in the clear, with clients that begin with it.
    #[serde(default)]
    pub http2: bool,
    pub connections_max: usize,
    pub head_max_bytes: usize,
    pub fields_max: usize,
    /// Zero means no limit.
    pub body_max_bytes: u64,
    pub request_buffering: RequestBuffering,
    pub request_memory_bytes: usize,
    /// Empty means the system's temporary directory.
    pub spool_directory: String,
    pub response_buffer_bytes: usize,
    pub head_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub keep_alive_timeout_ms: u64,
    pub stream_idle_timeout_ms: u64,
    /// Of one client address; zero means no limit.
    #[serde(default)]
    pub connections_per_client_max: u32,
    #[serde(default)]
    pub rate_limits: Vec<RateLimit>,
    #[serde(default)]
    pub compression: Compression,
}

/// Which responses are compressed. Without `encodings` none are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compression {
    /// The one preferred most comes first.
    pub encodings: Vec<Coding>,
    /// Content types without parameters; `text/*` stands for all that begin so.
    pub types: Vec<String>,
    /// Responses that announce fewer are left alone.
    pub min_bytes: u64,
}

/// How many requests each client may send.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Path prefix, matched on whole segments.
    pub path: String,
    pub by: LimitBy,
    /// Above zero.
    pub requests_per_s: f64,
    /// Requests that may come at once.
    pub burst: u32,
}

/// What tells clients apart: `client` (the address) or `header:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LimitBy {
    Client,
    Header(String),
}

impl TryFrom<String> for LimitBy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            None if text == "client" => Ok(Self::Client),
            Some(("header", name)) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
            _ => Err(format!("by: expected client or header:NAME, got {text:?}")),
        }
    }
}

/// Which fields tell the app who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forwarded {
    X,
    Rfc7239,
    Both,
}

/// Whether a request waits for its body before it goes to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestBuffering {
    Full,
    Off,
}

/// Where and how requests are logged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    pub format: AccessLogFormat,
    /// `-` is standard output.
    pub path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    Off,
    Json,
    Combined,
}

/// Requests to a pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// A name, `*.example.com`, or `*`.
    pub host: String,
    /// Path prefix, matched on whole segments.
    pub path: String,
    pub pool: String,
}

/// Servers that answer the same requests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub name: String,
    pub policy: PolicySettings,
    pub hash_by: HashBy,
    pub slow_start_ms: u64,
    pub queue_max: usize,
    pub queue_timeout_ms: u64,
    /// Wait that may last; longer ones are for bursts.
    #[serde(default = "default_queue_target_ms")]
    pub queue_target_ms: u64,
    pub connect_timeout_ms: u64,
    pub response_timeout_ms: u64,
    pub idle_connections_max: usize,
    pub retries_max: u32,
    pub retry_share_max: f64,
    /// `None` switches active checks off.
    pub active: Option<ActiveSettings>,
    pub passive: PassiveSettings,
    pub eject_share_max: f64,
    pub panic_share: f64,
    pub servers: Vec<Server>,
}

fn default_queue_target_ms() -> u64 {
    1_000
}

/// What the hash policy hashes. Its text form is `client`, `path`, `header:NAME` or `cookie:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum HashBy {
    Client,
    Path,
    Header(String),
    Cookie(String),
}

impl TryFrom<String> for HashBy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            None if text == "client" => Ok(Self::Client),
            None if text == "path" => Ok(Self::Path),
            Some(("header", name)) if !name.is_empty() => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("cookie", name)) if !name.is_empty() => Ok(Self::Cookie(name.to_owned())),
            _ => Err(format!("hash_by: expected client, path, header:NAME or cookie:NAME, got {text:?}")),
        }
    }
}

/// One server of a pool. Its name is its identity across snapshots.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub name: String,
    /// `unix:/path` or `IP:PORT`; names are resolved by Python.
    pub address: String,
    pub weight: f64,
    pub in_flight_max: u32,
    /// Takes no new requests; those in progress go on.
    pub draining: bool,
    /// Known to be ready (an own process that said so); otherwise the first active checks decide.
    pub ready: bool,
    /// Event streams keep their slot (a WSGI server holds a thread for each).
    pub streams_hold_slots: bool,
}

/// One logical database: a primary and its replicas behind one address.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub name: String,
    /// Where clients connect. Fixed at start.
    pub listener: String,
    /// Whether clients may encrypt, with the certificates of `tls`.
    pub tls: bool,
    pub users: Vec<DatabaseUser>,
    pub nodes: Vec<DatabaseNode>,
    /// Who asks the nodes how they are.
    pub monitor: Monitor,
    pub clients_max: usize,
    /// Of one user to one database on one node.
    pub connections_max: usize,
    /// Longest wait for a connection.
    pub checkout_timeout_ms: u64,
    /// Longest wait for a primary, while there is none.
    pub hold_timeout_ms: u64,
    pub connect_timeout_ms: u64,
    pub login_timeout_ms: u64,
    pub server_lifetime_ms: u64,
    pub server_idle_ms: u64,
    /// Largest message of a client.
    pub request_max_bytes: usize,
    /// Whether servers are asked what unseen code has changed; off only in tests, to show what is found then.
    #[serde(default = "yes")]
    pub audit: bool,
    /// Of which writes the transaction id is learnt.
    #[serde(default)]
    pub settle_commits: SettleCommits,
    /// Of the primary; zero where it is not known.
    #[serde(default)]
    pub timeline: u32,
    /// How the primary became one.
    #[serde(default)]
    pub promotion: Option<Promotion>,
    pub reads: Reads,
}

const fn yes() -> bool {
    true
}

/// Which writes are settled when their server goes before it has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleCommits {
    #[default]
    Off,
    /// Those with a COMMIT of their own.
    Transactions,
    /// Single statements of the extended protocol too.
    All,
}

/// Which transactions of its predecessor a primary had when it became one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    pub former_timeline: u32,
    /// Transactions below it had arrived.
    pub seen_xid: u64,
    /// Transactions from it on had not.
    pub next_xid: u64,
}

/// Who may connect: with a password, or with what PostgreSQL stores of one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseUser {
    pub name: String,
    pub password: Option<String>,
    /// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
    pub verifier: Option<String>,
    /// Whether the console is open to it.
    #[serde(default)]
    pub operator: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseNode {
    pub name: String,
    /// `IP:PORT` or `unix:/path/.s.PGSQL.5432`.
    pub address: String,
    pub tls: NodeTls,
    /// File of authorities, for verify-ca and verify-full.
    pub ca: String,
    /// The name that its certificate must have, for verify-full.
    pub server_name: String,
    pub role: DatabaseRole,
    pub weight: f64,
}

impl DatabaseNode {
    /// Whether the other is the same server, reached in the same way; its role and weight may differ.
    pub fn is_same_place(&self, other: &Self) -> bool {
        (&self.name, &self.address, self.tls, &self.ca, &self.server_name)
            == (&other.name, &other.address, other.tls, &other.ca, &other.server_name)
    }
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeTls {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl NodeTls {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseRole {
    Primary,
    Replica,
    /// Gets nothing: it is being changed, or does not follow.
    Out,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitor {
    pub user: String,
    pub password: String,
    pub database: String,
    /// Time between two questions to a node, and while nobody uses the group.
    pub interval_ms: u64,
    pub rest_ms: u64,
}

/// How reads are spread.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reads {
    /// Whether reads go to replicas at all.
    pub split: bool,
    pub policy: PolicySettings,
    pub causal: Causal,
    /// How long a read may wait for a replica before it goes to the primary.
    pub wait_ms: u64,
    /// Replicas further behind get no reads; zero means no limit.
    pub lag_max_bytes: u64,
    pub lag_max_ms: u64,
}

/// What a read is sure to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Causal {
    /// Whatever the replica has.
    Off,
    /// Everything its own session has committed.
    Session,
    /// Everything that was committed before it came.
    Linear,
}
