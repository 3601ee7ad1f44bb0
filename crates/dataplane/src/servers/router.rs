//! Requests to pools, by host and path prefix.

use std::borrow::Cow;
use std::sync::Arc;

use super::pool::Pool;

/// Routes in the order in which they are tried: exact hosts, then wildcards (longest first), then any; within a host
/// the longest prefix first.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    host: Host,
    /// Without a slash at the end; empty matches every path.
    prefix: Vec<u8>,
    pool: Arc<Pool>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Exact(Vec<u8>),
    /// Holds `.example.com` for `*.example.com`.
    Suffix(Vec<u8>),
    Any,
}

impl Host {
    fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some("") => Self::Any,
            Some(suffix) => Self::Suffix(suffix.as_bytes().to_vec()),
            None => Self::Exact(text.into_bytes()),
        }
    }

    fn matches(&self, host: &[u8]) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            Self::Any => true,
        }
    }

    /// Smaller is tried earlier.
    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (0, 0),
            Self::Suffix(suffix) => (1, usize::MAX - suffix.len()),
            Self::Any => (2, 0),
        }
    }
}

/// Lower case, without port and without the dot of a fully qualified name.
pub fn normal_host(host: &[u8]) -> Cow<'_, [u8]> {
    let end = if host.first() == Some(&b'[') {
        memchr::memchr(b']', host).map_or(host.len(), |at| at + 1)
    } else {
        memchr::memchr(b':', host).unwrap_or(host.len())
    };
    let name = host[..end].strip_suffix(b".").unwrap_or(&host[..end]);
    if name.iter().any(u8::is_ascii_uppercase) { name.to_ascii_lowercase().into() } else { name.into() }
}

impl Router {
    pub fn add(&mut self, host: &str, path: &str, pool: Arc<Pool>) {
        let prefix = path.trim_end_matches('/').as_bytes().to_vec();
        self.routes.push(Route { host: Host::parse(host), prefix, pool });
        self.routes.sort_by_key(|route| (route.host.rank(), usize::MAX - route.prefix.len()));
    }

    /// `host` is normal; `path` has no query.
    pub fn route(&self, host: &[u8], path: &[u8]) -> Option<Arc<Pool>> {
        let found = self.routes.iter().find(|route| {
            let rest = path.strip_prefix(&route.prefix[..]);
            route.host.matches(host)
                && rest.is_some_and(|rest| route.prefix.is_empty() || matches!(rest, [] | [b'/', ..]))
        });
        found.map(|route| Arc::clone(&route.pool))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_host_then_the_longest_prefix_wins() {
        let mut router = Router::default();
        for (host, path, pool) in [
            ("*", "/", "rest"),
            ("*", "/api", "api"),
            ("*", "/api/v2/", "v2"),
            ("*.example.com", "/", "tenant"),
            ("*.eu.example.com", "/", "eu"),
            ("www.Example.com", "/", "www"),
        ] {
            router.add(host, path, Pool::empty(pool));
        }
        for (host, path, expected) in [
            ("a.test", "/", "rest"),
            ("a.test", "/api", "api"),
            ("a.test", "/api/x", "api"),
            ("a.test", "/apis", "rest"),
            ("a.test", "/api/v2", "v2"),
            ("a.test", "*", "rest"),
            ("shop.example.com", "/api", "tenant"),
            ("shop.eu.example.com", "/", "eu"),
            ("WWW.example.COM:8000", "/", "www"),
            ("www.example.com.", "/", "www"),
            ("example.com", "/", "rest"),
            ("[::1]:80", "/", "rest"),
        ] {
            let pool = router.route(&normal_host(host.as_bytes()), path.as_bytes()).unwrap();
            assert_eq!(pool.name, expected, "{host}{path}");
        }
    }
}
