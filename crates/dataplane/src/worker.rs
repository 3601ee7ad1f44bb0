//! The threads that carry traffic. Each has an event loop of its own; a connection stays on one thread for life.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio_rustls::server::TlsStream;

use crate::databases;
use crate::error::Error;
use crate::metrics::use_shard;
use crate::net::listener::{Accepted, Listener, Service};
use crate::net::proxy_protocol;
use crate::net::stream::Stream;
use crate::net::tls::Tls;
use crate::plane::Plane;
use crate::servers::flow::serve;
use crate::servers::http::client::Client;
use crate::servers::http::forwarded::is_trusted;
use crate::servers::http::refusal::{CONNECTIONS, HANDSHAKE, PROXY_HEADER};
use crate::servers::http::request::Peer;
use crate::servers::http2;
use crate::servers::rate_limit::household;

#[derive(Debug)]
pub struct Worker {
    pub handle: Handle,
    pub mailbox: Mailbox,
    pub join: JoinHandle<()>,
}

/// The way to a thread. Its length is bounded by the limit on connections.
#[derive(Debug, Clone)]
pub struct Mailbox {
    letters: UnboundedSender<Letter>,
    /// Connections of that thread.
    connections: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Letter {
    Connection(Accepted),
    CloseIdle,
    End,
}

impl Mailbox {
    /// Closes connections that wait for their next request.
    pub fn close_idle(&self) {
        self.post(Letter::CloseIdle);
    }

    /// Ends the thread; what it still carries is cut off.
    pub fn end(&self) {
        self.post(Letter::End);
    }

    fn post(&self, letter: Letter) {
        // A thread that has ended needs no letters.
        let _ = self.letters.send(letter);
    }
}

impl Worker {
    pub fn start(index: usize, plane: Arc<Plane>) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(Error::Runtime)?;
        let handle = runtime.handle().clone();
        let (sender, letters) = unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let mailbox = Mailbox { letters: sender, connections: Arc::clone(&connections) };
        let work = move || {
            use_shard(index);
            runtime.block_on(carry(letters, connections, plane));
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name(format!("gateway-{index}"));
        let join = thread.spawn(work).map_err(Error::Runtime)?;
        Ok(Self { handle, mailbox, join })
    }
}

thread_local! {
    /// The connections of this thread: how to end each, and whether that would hurt nobody.
    static OPEN: RefCell<HashMap<u64, (AbortHandle, Arc<AtomicBool>)>> = RefCell::default();
}

async fn carry(mut letters: UnboundedReceiver<Letter>, connections: Arc<AtomicUsize>, plane: Arc<Plane>) {
    let mut next_id = 0;
    while let Some(letter) = letters.recv().await {
        match letter {
            Letter::Connection(accepted) if matches!(accepted.service, Service::Database(_)) => {
                begin_database(accepted, &connections, &plane);
            }
            Letter::Connection(accepted) => {
                next_id += 1;
                let mut presence = Presence {
                    id: next_id,
                    connections: Arc::clone(&connections),
                    plane: Arc::clone(&plane),
                    client: None,
                };
                if presence.is_admitted(accepted.peer) {
                    begin(accepted, presence);
                }
            }
            Letter::CloseIdle => OPEN.with_borrow(|open| {
                for (task, _) in open.values().filter(|(_, idle)| idle.load(Ordering::Relaxed)) {
                    task.abort();
                }
            }),
            Letter::End => return,
        }
    }
}

fn begin(accepted: Accepted, presence: Presence) {
    let mut peer = Peer { address: accepted.peer, https: matches!(accepted.service, Service::Https), http2: false };
    let Ok(mut stream) = accepted.into_stream() else {
        return;
    };
    let idle = Arc::new(AtomicBool::new(false));
    let own_idle = Arc::clone(&idle);
    let (id, plane) = (presence.id, Arc::clone(&presence.plane));
    plane.traffic.mine().connections_total.add(1);
    let task = tokio::spawn(async move {
        let _presence = presence;
        if let Some(client) = introduced(&mut stream, peer, &plane).await {
            peer.address = client;
        } else {
            plane.traffic.mine().refused[PROXY_HEADER].add(1);
            return;
        }
        if !peer.https {
            let client = Client::new(stream, peer, Arc::clone(&own_idle));
            if let Some(client) = serve(client, Arc::clone(&plane)).await {
                let (stream, arrived) = client.into_parts();
                Box::pin(http2::serve(stream, arrived, peer, own_idle, plane)).await;
            }
        } else if let Some(stream) = Box::pin(encrypted(stream, &plane)).await {
            let is_http2 = Tls::is_http2(&stream);
            let stream = Stream::Tls(Box::new(stream.into()));
            if is_http2 {
                Box::pin(http2::serve(stream, None, peer, own_idle, plane)).await;
            } else {
                serve(Client::new(stream, peer, own_idle), plane).await;
            }
        }
    });
    OPEN.with_borrow_mut(|open| open.insert(id, (task.abort_handle(), idle)));
}

/// A client of a database. How many there may be is the group's limit; they are not among the connections that a web
/// client's connections are counted against, and the end of the plane cuts them off: whoever uses a database ends first.
fn begin_database(accepted: Accepted, connections: &Arc<AtomicUsize>, plane: &Arc<Plane>) {
    let share = Share(Arc::clone(connections));
    let Service::Database(name) = &accepted.service else { return };
    let Some(group) = plane.databases.iter().find(|group| *group.name == **name).cloned() else { return };
    let (peer, plane) = (accepted.peer, Arc::clone(plane));
    if let Ok(stream) = accepted.into_stream() {
        if peer.is_loopback() {
            stream.spare_congestion_control();
        }
        tokio::spawn(async move {
            let _share = share;
            databases::flow::serve(stream, peer, group, plane).await;
        });
    }
}

/// A connection among those of its thread, for as long as it exists: new ones go to the thread with the fewest.
struct Share(Arc<AtomicUsize>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The client as a trusted proxy introduces it, where that is asked for. `None`: it should have, and did not.
async fn introduced(stream: &mut Stream, peer: Peer, plane: &Plane) -> Option<IpAddr> {
    let limit_ms = {
        let topology = plane.topology();
        let is_expected = topology.http.proxy_protocol && is_trusted(&topology.trusted_proxies, peer.address);
        is_expected.then_some(topology.http.head_timeout_ms)
    };
    match (stream, limit_ms) {
        (Stream::Tcp(stream), Some(limit_ms)) => {
            let header = tokio::time::timeout(Duration::from_millis(limit_ms), proxy_protocol::read(stream)).await;
            header.ok()?.ok().map(|client| client.unwrap_or(peer.address))
        }
        _ => Some(peer.address),
    }
}

/// The stream after its TLS handshake, if there is one in time.
async fn encrypted(stream: Stream, plane: &Plane) -> Option<TlsStream<TcpStream>> {
    let (tls, limit_ms) = {
        let topology = plane.topology();
        (topology.tls.clone()?, topology.http.head_timeout_ms)
    };
    let Stream::Tcp(stream) = stream else { return None };
    let shaken = tokio::time::timeout(Duration::from_millis(limit_ms), tls.accept(stream)).await;
    if let Ok(Ok(stream)) = shaken {
        return Some(stream);
    }
    plane.traffic.mine().refused[HANDSHAKE].add(1);
    None
}

/// Counts a connection for as long as it exists, however it ends.
struct Presence {
    id: u64,
    connections: Arc<AtomicUsize>,
    plane: Arc<Plane>,
    /// Who is counted, where there is a limit for each client.
    client: Option<IpAddr>,
}

impl Presence {
    /// Whether this client may have one more connection. Trusted proxies speak for many.
    fn is_admitted(&mut self, peer: IpAddr) -> bool {
        let topology = self.plane.topology();
        let most = topology.http.connections_per_client_max;
        if most == 0 || is_trusted(&topology.trusted_proxies, peer) {
            return true;
        }
        let client = household(peer);
        let admitted = self.plane.admit(client, most);
        if admitted {
            self.client = Some(client);
        } else {
            self.plane.traffic.mine().refused[CONNECTIONS].add(1);
        }
        admitted
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.plane.dismiss(client);
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.plane.connections.fetch_sub(1, Ordering::SeqCst);
        self.plane.connection_ended.notify_one();
        // When the thread itself ends, its list may be gone before its connections.
        let _ = OPEN.try_with(|open| open.try_borrow_mut().map(|mut open| open.remove(&self.id)));
    }
}

/// Accepts connections and gives each to the thread that has the fewest. Ends when aborted; the listener closes then.
pub async fn accept(listener: Listener, mailboxes: Vec<Mailbox>, plane: Arc<Plane>) {
    // Deprecated because a type could hand out a descriptor it does not own; a `Listener` owns its socket for life, and
    // the replacement is `unsafe`.
    #[allow(deprecated)]
    let Ok(listener) = AsyncFd::with_interest(listener, Interest::READABLE) else {
        return;
    };
    let is_web = !matches!(listener.get_ref().service(), Service::Database(_));
    loop {
        if is_web && plane.connections.load(Ordering::SeqCst) >= plane.topology().http.connections_max {
            plane.connection_ended.notified().await;
            continue;
        }
        let ready = listener.readable().await;
        let accepted = ready.map(|mut ready| ready.try_io(|listener| listener.get_ref().accept()));
        match accepted {
            Ok(Ok(Ok(accepted))) => {
                if is_web {
                    plane.connections.fetch_add(1, Ordering::SeqCst);
                }
                let least = mailboxes.iter().min_by_key(|mailbox| mailbox.connections.load(Ordering::Relaxed));
                if let Some(mailbox) = least {
                    mailbox.connections.fetch_add(1, Ordering::Relaxed);
                    mailbox.post(Letter::Connection(accepted));
                }
            }
            // Somebody else's wake-up, or a connection that was gone before it was taken.
            Ok(Err(_)) => {}
            // Out of file descriptors or memory: wait for some to be given back.
            Ok(Ok(Err(_))) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
