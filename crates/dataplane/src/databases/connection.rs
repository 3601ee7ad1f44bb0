//! A connection to a PostgreSQL server, and what is known of the state that it is in.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::net::Shutdown;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use socket2::Socket;

use super::backend::{Connected, note};
use super::node::Node;
use super::protocol::ProtocolError;
use super::settings::Settings;
use super::statement::Statement;
use crate::buffer::Buffer;
use crate::metrics::shard;
use crate::net::stream::Stream;

/// Statements kept prepared on one connection; the oldest is closed for a new one.
pub const PREPARED_MAX: usize = 512;

#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    /// What has arrived and was not passed on yet.
    pub inbound: Option<Buffer>,
    /// What the server reports of itself (`ParameterStatus`), in the order it did.
    pub parameters: Vec<(String, String)>,
    is_standby: bool,
    /// The settings it has been brought to.
    pub settings: Settings,
    pub prepared: Prepared,
    /// What cannot be taken back from it.
    pub past: Past,
    /// Nobody can tell its settings: it is not used by another session.
    pub is_uncertain: bool,
    /// Whose unnamed statement it holds: the session's number and which of its statements.
    pub unnamed: Option<(u32, u64)>,
    /// Statements that SQL can find by their clients' names, until they are closed.
    pub exposed: Vec<Box<[u8]>>,
    /// How others cancel what it does, or end it.
    pub target: Arc<CancelTarget>,
    /// Lives as long as the connection: see `CancelTarget::cut`.
    _handle: Option<Arc<Socket>>,
    pub idle_since_us: u64,
    /// The node's epoch when it was made: it is not used again when the node's role has changed since.
    pub epoch: u64,
    /// The pool's generation when it was made.
    pub generation: u64,
    thread: usize,
}

#[derive(Debug)]
pub struct CancelTarget {
    pub node: Arc<Node>,
    pub process: u32,
    pub secret: Vec<u8>,
    /// That of the connection.
    pub epoch: u64,
    pub born_us: u64,
    /// A request to cancel may be on its way to it.
    pub is_cancelled: AtomicBool,
    handle: Weak<Socket>,
}

impl CancelTarget {
    /// Ends the connection from outside: whoever waits for the server's answer sees it gone. For servers that do not close
    /// it themselves any more, because they hang or cannot be reached.
    pub fn cut(&self) {
        if let Some(socket) = self.handle.upgrade() {
            // Where it has ended already there is nothing to do.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Connection {
    pub fn new(connected: Connected, node: Arc<Node>, epoch: u64, now_us: u64) -> Self {
        let Connected { stream, parameters, process, secret, rest, .. } = connected;
        let mut inbound = Buffer::small();
        inbound.push(&rest);
        // Without a handle it ends by itself, later.
        let handle = stream.handle().ok().flatten().map(Arc::new);
        let weak = handle.as_ref().map_or_else(Weak::new, Arc::downgrade);
        Self {
            stream,
            inbound: Some(inbound).filter(|inbound| !inbound.is_empty()),
            is_standby: says_standby(&parameters),
            parameters,
            settings: Settings::default(),
            prepared: Prepared::default(),
            past: Past::default(),
            is_uncertain: false,
            unnamed: None,
            exposed: Vec::new(),
            target: Arc::new(CancelTarget {
                node,
                process,
                secret,
                epoch,
                born_us: now_us,
                is_cancelled: AtomicBool::new(false),
                handle: weak,
            }),
            _handle: handle,
            idle_since_us: now_us,
            epoch,
            generation: 0,
            thread: shard(),
        }
    }

    /// Whether it belongs to the event loop of the calling thread.
    pub fn is_at_home(&self) -> bool {
        self.thread == shard()
    }

    /// Joins the event loop of the calling thread. Streams that cannot move go on where they are, which works and costs more.
    pub fn adopt(self: Box<Self>) -> io::Result<Box<Self>> {
        if self.is_at_home() {
            return Ok(self);
        }
        let Self { stream, .. } = *self;
        Ok(Box::new(Self { stream: stream.into_this_loop()?, thread: shard(), ..*self }))
    }

    /// Whether nothing has come from an idle connection. What could come is its end, or news that would have to be
    /// understood first; in both cases another connection is the safer choice.
    pub fn is_quiet(&self) -> bool {
        self.inbound.is_none() && !self.stream.has_news()
    }

    /// What the server has reported last of a setting.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// It is at these settings now.
    pub fn note_settings(&mut self, settings: &Settings) {
        self.settings.become_one_with(settings);
        self.note_placeholders();
    }

    /// Custom settings that are made on it stay known to it.
    pub fn note_placeholders(&mut self) {
        for name in self.settings.custom_names() {
            if !self.past.placeholders.contains(name) {
                self.past.placeholders.insert(name.into());
            }
        }
    }

    /// Whether its server is a replica, as it says itself (`in_hot_standby`, since PostgreSQL 14).
    pub fn is_standby(&self) -> bool {
        self.is_standby
    }

    /// What a statement is called on this connection.
    pub fn name_of<'s>(&self, statement: &'s Statement) -> Cow<'s, str> {
        let mut name = Cow::Borrowed(statement.name());
        while self.prepared.is_taken(name.as_bytes()) {
            name.to_mut().push('x');
        }
        name
    }

    /// A value that the server has reported anew.
    pub fn note_parameter(&mut self, name: &str, value: &str) -> Result<(), ProtocolError> {
        note(&mut self.parameters, name, value)?;
        self.is_standby = says_standby(&self.parameters);
        Ok(())
    }
}

fn says_standby(parameters: &[(String, String)]) -> bool {
    parameters.iter().any(|(name, value)| name == "in_hot_standby" && value == "on")
}

/// What a connection keeps of the sessions that it has served, whatever is reset.
#[derive(Debug, Default)]
pub struct Past {
    /// Custom settings (`app.tenant`) that were made on it: they are empty afterwards, and not NULL as before.
    pub placeholders: BTreeSet<Box<str>>,
    /// Settings may have been made on it that `settings` does not have.
    pub has_unknown_settings: bool,
    /// Temporary objects were used on it.
    pub has_used_temporary: bool,
    /// `currval` and `lastval` would tell what another session has drawn.
    pub sequences_are_foreign: bool,
    /// The session that has it now, or had it last, has written, and may have drawn from a sequence.
    pub has_drawn: bool,
    /// The session that it has served last; zero before the first.
    pub served: u32,
    /// Changes of the catalogues by this connection, not reported yet, as the last audit saw them.
    pub changes: u64,
    pub relation_changes: u64,
}

impl Past {
    /// Whether there is nothing in it that a session could see.
    pub fn is_blank(&self) -> bool {
        self.placeholders.is_empty() && !self.has_used_temporary
    }
}

/// Which statements are prepared on a connection, oldest first.
#[derive(Debug, Default)]
pub struct Prepared {
    known: HashMap<u64, u64>,
    order: VecDeque<(u64, u64)>,
    uses: u64,
    /// More may be prepared than is known: names have to be closed before they are used.
    pub leftovers: bool,
    /// Names that clients have used in SQL; ours are others.
    taken: HashSet<Box<str>>,
}

impl Prepared {
    /// How many are there.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_taken(&self, name: &[u8]) -> bool {
        !self.taken.is_empty() && std::str::from_utf8(name).is_ok_and(|name| self.taken.contains(name))
    }

    /// A client uses this name in SQL. Of very many the first are as good as unused.
    pub fn take(&mut self, name: &str) {
        if self.taken.len() >= PREPARED_MAX {
            self.taken.clear();
            self.forget();
        }
        self.taken.insert(name.into());
    }

    /// Which are there is not certain any more.
    pub fn forget(&mut self) {
        *self = Self { leftovers: true, ..Self::default() };
    }

    /// Whether statement `id` is there; it counts as used.
    pub fn has(&mut self, id: u64) -> bool {
        self.uses += 1;
        let Some(last) = self.known.get_mut(&id) else {
            return false;
        };
        *last = self.uses;
        true
    }

    /// `id` is prepared from now on. Answers with one that must be closed to make room.
    pub fn add(&mut self, id: u64) -> Option<u64> {
        self.uses += 1;
        self.known.insert(id, self.uses);
        self.order.push_back((id, self.uses));
        if self.order.len() > 4 * PREPARED_MAX {
            // Most are of statements that are gone, as when preparing fails again and again.
            self.order.retain(|(id, used)| self.known.get(id).is_some_and(|last| last >= used));
            let mut seen = HashSet::new();
            self.order.retain(|(id, _)| seen.insert(*id));
        }
        if self.known.len() <= PREPARED_MAX {
            return None;
        }
        // Entries whose use is out of date go to the end; each is looked at once for every use it has had since.
        while let Some((oldest, used)) = self.order.pop_front() {
            match self.known.get(&oldest) {
                Some(&last) if last == used && oldest != id => {
                    self.known.remove(&oldest);
                    return Some(oldest);
                }
                Some(&last) => self.order.push_back((oldest, last)),
                None => {}
            }
        }
        None
    }

    pub fn remove(&mut self, id: u64) {
        self.known.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_statement_makes_room() {
        let mut prepared = Prepared::default();
        for id in 0..PREPARED_MAX as u64 {
            assert_eq!(prepared.add(id), None);
        }
        assert!(prepared.has(0));
        assert_eq!(prepared.add(1_000_000), Some(1));
        assert!(prepared.has(0));
        assert!(!prepared.has(1));
        prepared.remove(2);
        assert_eq!(prepared.add(1_000_001), None);
        assert_eq!(prepared.add(1_000_002), Some(3));
    }
    #[test]
    fn statements_that_cannot_be_prepared_leave_nothing() {
        let mut prepared = Prepared::default();
        assert_eq!(prepared.add(0), None);
        for id in 1..100_000 {
            assert_eq!(prepared.add(id), None);
            prepared.remove(id);
        }
        assert!(prepared.order.len() <= 4 * PREPARED_MAX && prepared.has(0));
        for id in 200_000..200_000 + PREPARED_MAX as u64 - 1 {
            assert_eq!(prepared.add(id), None);
        }
        assert_eq!(prepared.add(300_000), Some(200_000), "0 was used since it was prepared");
        assert!(prepared.has(0));
    }
}
