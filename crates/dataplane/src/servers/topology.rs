//! A snapshot in the form that traffic uses: routes to pools, pools with their servers.

use std::collections::HashSet;
use std::sync::Arc;

use super::pool::Pool;
use super::rate_limit::Limit;
use super::router::Router;
use super::server::Server;
use super::view::{Member, View};
use crate::error::Error;
use crate::events::Events;
use crate::net::address::Address;
use crate::net::network::Network;
use crate::net::tls::Tls;
use crate::snapshot::{self, Compression, Http, Snapshot};

/// Replaced as a whole; pools and servers in it live on while their names stay.
#[derive(Debug)]
pub struct Topology {
    pub http: Arc<Http>,
    pub tls: Option<Arc<Tls>>,
    /// `None`: responses are passed on as they are.
    pub compression: Option<Arc<Compression>>,
    pub limits: Vec<Arc<Limit>>,
    pub trusted_proxies: Vec<Network>,
    pub router: Router,
    pub pools: Vec<Arc<Pool>>,
}

/// A pool of the next topology, not yet visible to traffic.
struct Prepared {
    pool: Arc<Pool>,
    /// `None` for a new pool, which has its view already.
    view: Option<View>,
}

impl Topology {
    /// Builds from a snapshot; pools and servers of `previous` are taken over by name. On an error nothing has changed.
    pub fn build(snapshot: Snapshot, previous: Option<&Self>, events: &Arc<Events>) -> Result<Self, Error> {
        let Snapshot { threads, tls, http, routes, pools, .. } = snapshot;
        if let Some(limit) = http.rate_limits.iter().find(|limit| !(limit.requests_per_s > 0.0 && limit.burst > 0)) {
            return Err(Error::Snapshot(format!("rate_limits: {limit:?}: rate and burst must be positive")));
        }
        let limits = Limit::build(&http.rate_limits, previous.map_or(&[], |topology| &topology.limits));
        let known_tls = previous.and_then(|topology| topology.tls.as_deref());
        let tls = tls.map(|settings| Tls::build(settings, known_tls)).transpose()?.map(Arc::new);
        let trusted_proxies = http
            .trusted_proxies
            .iter()
            .map(|text| Network::parse(text))
            .collect::<Result<_, _>>()
            .map_err(Error::Snapshot)?;
        let mut names = HashSet::new();
        let mut prepared = Vec::with_capacity(pools.len());
        for settings in pools {
            if !names.insert(settings.name.clone()) {
                return Err(Error::Snapshot(format!("pools: {:?} is there twice", settings.name)));
            }
            let known = previous.and_then(|topology| topology.pools.iter().find(|pool| pool.name == settings.name));
            let members = members(&settings, known.map(Arc::as_ref), threads)?;
            let view = View::new(settings, members);
            prepared.push(match known {
                Some(pool) => Prepared { pool: Arc::clone(pool), view: Some(view) },
                None => Prepared { pool: Arc::new(Pool::new(view, threads, Arc::clone(events))), view: None },
            });
        }
        let mut router = Router::default();
        for route in routes {
            let pool = prepared.iter().find(|prepared| prepared.pool.name == route.pool);
            let pool = pool.ok_or_else(|| Error::Snapshot(format!("routes: no pool {:?}", route.pool)))?;
            router.add(&route.host, &route.path, Arc::clone(&pool.pool));
        }
        let pools = prepared
            .into_iter()
            .map(|Prepared { pool, view }| {
                match view {
                    Some(view) => pool.replace(view),
                    None => pool.judge(),
                }
                pool
            })
            .collect();
        let compression = Some(&http.compression).filter(|rules| !rules.encodings.is_empty()).cloned().map(Arc::new);
        Ok(Self { http: Arc::new(http), tls, compression, limits, trusted_proxies, router, pools })
    }
}

fn members(settings: &snapshot::Pool, known: Option<&Pool>, threads: usize) -> Result<Vec<Member>, Error> {
    let view = known.map(Pool::view);
    let mut names = HashSet::new();
    let mut members = Vec::with_capacity(settings.servers.len());
    for server in &settings.servers {
        if !names.insert(&server.name) {
            return Err(Error::Snapshot(format!("pool {:?}: server {:?} is there twice", settings.name, server.name)));
        }
        if !(server.weight.is_finite() && server.weight > 0.0) {
            return Err(Error::Snapshot(format!("server {:?}: weight must be positive", server.name)));
        }
        let address = Address::parse(&server.address).map_err(Error::Snapshot)?;
        let same = |member: &&Member| member.server.name == server.name && member.server.address == address;
        let kept =
            view.as_ref().and_then(|view| view.members.iter().find(same)).map(|member| Arc::clone(&member.server));
        members.push(Member {
            server: kept.unwrap_or_else(|| Arc::new(Server::new(&server.name, address, threads))),
            weight: server.weight,
            limit: server.in_flight_max.max(1),
            draining: server.draining,
            ready: server.ready,
            streams_hold_slots: server.streams_hold_slots,
        });
    }
    Ok(members)
}
