//! One logical database: a primary and its replicas, as the newest snapshot says, and everything its sessions share.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard as Loaded};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::auth::password::Secret;
use super::backend::{Encryption, Endpoint, Login};
use super::causal::Sample;
use super::clients::Clients;
use super::monitor::History;
use super::node::Node;
use super::plan::{Entry, Place, Plans, Queue};
use super::pool::Limits;
use super::rest::Rest;
use super::statement::Statements;
use super::succession::Line;
use super::user::User;
use crate::clock::now_us;
use crate::error::Error;
use crate::metrics::{Counter, Sharded};
use crate::net::address::Address;
use crate::request_id::random;
use crate::servers::balance::{Chance, Load, Policy, build};
use crate::snapshot::{self, DatabaseNode, DatabaseRole};

/// What a group counts.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: Counter,
    pub replica_reads: Counter,
    /// Reads that a replica had not replayed enough for.
    pub not_yet_replayed: Counter,
    /// 25006: sent to the primary after a replica refused.
    pub refused_writes: Counter,
    pub conflicts: Counter,
    /// Repeated because a server went down.
    pub repeated: Counter,
    pub held: Counter,
    pub held_us: Counter,
    pub outcome_unknown: Counter,
    /// Not answered by their server, and found committed on the next, or not.
    pub settled_committed: Counter,
    pub settled_aborted: Counter,
    pub transactions_lost: Counter,
    /// Connections whose server was asked what unseen code had changed.
    pub audits: Counter,
    pub logins: Counter,
    pub refused_logins: Counter,
    pub cancels: Counter,
}

#[derive(Debug)]
pub struct Group {
    pub name: String,
    view: ArcSwap<View>,
    /// Of each database that has had sessions.
    plans: Mutex<HashMap<String, Arc<Plans>>>,
    queue: Arc<Queue>,
    pub statements: Statements,
    pub clients: Clients,
    /// Rings when the view has changed.
    pub changed: Notify,
    pub counters: Sharded<Counters>,
    known_parameters: Mutex<HashMap<ParametersKey, Vec<(String, String)>>>,
    /// Where the present primary was when.
    history: Mutex<History>,
    /// On while nobody uses it.
    pub rest: Arc<Rest>,
    /// Which primary has followed which.
    pub line: Line,
    /// The last node that was the primary.
    last_primary: Mutex<Option<Arc<Node>>>,
}

/// User, database, and the mark of the settings.
type ParametersKey = (String, String, u64);

/// Databases whose plans are kept although they have no sessions.
const DATABASES_MAX: usize = 100;
/// Statements shown to people.
const SHOWN_MAX: usize = 1_000;
/// Kinds of sessions whose parameters are remembered.
const PARAMETERS_MAX: usize = 1_000;

/// A group as one snapshot describes it.
pub struct View {
    pub settings: snapshot::Database,
    pub members: Vec<Member>,
    pub users: HashMap<String, Arc<User>>,
    pub monitor: Arc<Login>,
    pub limits: Limits,
    policy: Box<dyn Policy>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("members", &self.members).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub struct Member {
    pub node: Arc<Node>,
    pub role: DatabaseRole,
    pub weight: f64,
    settings: DatabaseNode,
}

thread_local! {
    static CANDIDATES: RefCell<Vec<Load>> = const { RefCell::new(Vec::new()) };
    static CHANCE: RefCell<Chance> = RefCell::new(Chance::seeded(random()));
}

impl Group {
    pub fn new(settings: snapshot::Database, threads: usize, queue: &Arc<Queue>) -> Result<Self, Error> {
        let name = settings.name.clone();
        let view = View::build(settings, None)?;
        let line = Line::default();
        line.note(view.primary(), &view.settings);
        Ok(Self {
            view: ArcSwap::from_pointee(view),
            line,
            name,
            plans: Mutex::default(),
            queue: Arc::clone(queue),
            statements: Statements::default(),
            clients: Clients::default(),
            changed: Notify::new(),
            counters: Sharded::new(threads),
            known_parameters: Mutex::default(),
            history: Mutex::default(),
            rest: Arc::default(),
            last_primary: Mutex::default(),
        })
    }

    /// The plans of a database, for its sessions. Those of databases without sessions go when there are too many.
    pub fn plans_of(&self, database: &str) -> Arc<Plans> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = plans.get(database) {
            return Arc::clone(known);
        }
        if plans.len() >= DATABASES_MAX {
            plans.retain(|_, plans| Arc::strong_count(plans) > 1);
        }
        let place = Place { group: self.name.clone(), database: database.to_owned() };
        let made = Arc::new(Plans::new(place, Arc::clone(&self.queue)));
        plans.insert(database.to_owned(), Arc::clone(&made));
        made
    }

    pub fn all_plans(&self) -> Vec<Arc<Plans>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Statements of all databases that are in memory, the most executed first; so many at most.
    pub fn statements_known(&self, count: usize) -> Vec<(Arc<Plans>, Arc<Entry>)> {
        let mut all: Vec<_> = self
            .all_plans()
            .into_iter()
            .flat_map(|plans| plans.all().into_iter().map(move |entry| (Arc::clone(&plans), entry)))
            .collect();
        all.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.executions.load(Ordering::Relaxed)));
        all.truncate(count);
        all
    }

    /// The same for Python: `trimaran db plans`.
    pub fn plan_facts(&self) -> Vec<Value> {
        let facts = |(plans, entry): (Arc<Plans>, Arc<Entry>)| {
            let (role, reason) = entry.goes_to();
            json!({
                "database": plans.place.database,
                "statement": &*entry.text,
                "executions": entry.executions.load(Ordering::Relaxed),
                "goes_to": role,
                "learnt": entry.was_learnt(),
                "reason": reason,
            })
        };
        self.statements_known(SHOWN_MAX).into_iter().map(facts).collect()
    }

    pub fn view(&self) -> Loaded<Arc<View>> {
        self.view.load()
    }

    /// The next view, not in force yet.
    pub fn prepare(&self, settings: snapshot::Database) -> Result<View, Error> {
        View::build(settings, Some(&self.view()))
    }

    /// Puts a view in force. Nodes whose role has changed begin a new epoch: their connections are not used again.
    pub fn replace(&self, view: View) {
        let before = self.view();
        for member in &view.members {
            let known = before.members.iter().find(|known| Arc::ptr_eq(&known.node, &member.node));
            if known.is_some_and(|known| known.role != member.role) {
                member.node.begin_epoch();
            }
        }
        self.line.note(view.primary(), &view.settings);
        let is_promotion = !same_node(before.primary(), view.primary());
        self.view.store(Arc::new(view));
        if is_promotion {
            *self.history() = History::default();
        }
        self.known_parameters().clear();
        self.changed.notify_waiters();
        self.cut_lost();
        self.wake();
    }

    /// It is used: where it rested, every node is asked how it is.
    pub fn wake(&self) {
        if self.rest.end() {
            for member in &self.view().members {
                member.node.vitals.ask();
            }
        }
    }

    /// Units of all sessions so far.
    pub fn requests(&self) -> u64 {
        self.counters.sum(|counters| counters.requests.get())
    }

    /// Ends what waits for an answer that cannot be expected any more: of a former primary once there is another, which is
    /// only after it was fenced, and of replicas that are out and do not answer.
    pub fn cut_lost(&self) {
        let view = self.view();
        let mut last = self.last_primary.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(primary) = view.primary()
            && let Some(former) = last.replace(Arc::clone(primary))
            && !Arc::ptr_eq(&former, primary)
        {
            former.abandon();
        }
        for Member { node, role, .. } in &view.members {
            let is_silent = node.vitals.sample().failures > 0;
            if *role == DatabaseRole::Out && is_silent && !same_node(last.as_ref(), Some(node)) {
                node.abandon();
            }
        }
        drop(last);
        for target in self.clients.all().iter().filter_map(|client| client.serving()) {
            if target.node.has_abandoned(target.epoch) {
                target.cut();
            }
        }
    }

    /// What servers have reported to a session with these settings.
    pub fn parameters(&self, login: &Login, mark: u64) -> Option<Vec<(String, String)>> {
        self.known_parameters().get(&(login.user.clone(), login.database.clone(), mark)).cloned()
    }

    pub fn remember_parameters(&self, login: &Login, mark: u64, parameters: &[(String, String)]) {
        let mut known = self.known_parameters();
        if known.len() >= PARAMETERS_MAX {
            known.clear();
        }
        known.insert((login.user.clone(), login.database.clone(), mark), parameters.to_vec());
    }

    /// Takes note of where the primary is.
    pub fn note_position(&self, sample: Sample) {
        self.history().note(sample.begun_us, sample.position);
    }

    /// For how long a node at `position` has lacked something that the primary had.
    pub fn lag_ms(&self, position: u64) -> u64 {
        self.history().lag_us(position, now_us()) / 1000
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connections to a database (all: none is named) that nobody uses, and those in use when they are given back.
    /// What is known of its servers' parameters is asked anew.
    pub fn vacate(&self, database: Option<&str>) {
        let concerned = |name: &str| database.is_none_or(|database| database == name);
        for member in &self.view().members {
            member.node.pools().iter().filter(|pool| concerned(&pool.login().database)).for_each(|pool| pool.vacate());
        }
        self.known_parameters().retain(|(_, name, _), _| !concerned(name));
    }

    fn known_parameters(&self) -> MutexGuard<'_, HashMap<ParametersKey, Vec<(String, String)>>> {
        self.known_parameters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All counters by name.
    pub fn counts(&self) -> [(&'static str, u64); 16] {
        let sum = |read: fn(&Counters) -> &Counter| self.counters.sum(|counters| read(counters).get());
        [
            ("requests_total", sum(|c| &c.requests)),
            ("replica_reads_total", sum(|c| &c.replica_reads)),
            ("not_yet_replayed_total", sum(|c| &c.not_yet_replayed)),
            ("refused_writes_total", sum(|c| &c.refused_writes)),
            ("conflicts_total", sum(|c| &c.conflicts)),
            ("repeated_total", sum(|c| &c.repeated)),
            ("held_total", sum(|c| &c.held)),
            ("held_us_total", sum(|c| &c.held_us)),
            ("outcome_unknown_total", sum(|c| &c.outcome_unknown)),
            ("settled_committed_total", sum(|c| &c.settled_committed)),
            ("settled_aborted_total", sum(|c| &c.settled_aborted)),
            ("transactions_lost_total", sum(|c| &c.transactions_lost)),
            ("audits_total", sum(|c| &c.audits)),
            ("logins_total", sum(|c| &c.logins)),
            ("refused_logins_total", sum(|c| &c.refused_logins)),
            ("cancels_total", sum(|c| &c.cancels)),
        ]
    }

    /// What Python sees of it: `trimaran.facts.DatabaseFacts`.
    pub fn facts(&self) -> Value {
        let view = self.view();
        let newest = view.primary_sample().position;
        let nodes: Vec<Value> = view.members.iter().map(|member| self.node_facts(member, newest)).collect();
        let counts: Map<String, Value> =
            self.counts().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        json!({"name": self.name, "clients": self.clients.len(), "counts": counts, "nodes": nodes})
    }

    fn node_facts(&self, member: &Member, newest: u64) -> Value {
        let node = &member.node;
        let sample = node.vitals.sample();
        let position = sample.answer.map_or(0, |answer| answer.position);
        let usages: Vec<_> = node.pools().iter().map(|pool| pool.usage()).collect();
        json!({
            "name": node.name,
            "reachable": sample.is_reachable(),
            "position": position,
            "lag_bytes": newest.saturating_sub(position),
            "lag_ms": sample.answer.map(|answer| self.lag_ms(answer.position)),
            "connections": usages.iter().map(|usage| usage.open).sum::<usize>(),
            "in_use": node.in_use.load(Ordering::Relaxed),
            "waiting": usages.iter().map(|usage| usage.waiting).sum::<usize>(),
            "requests_total": node.requests.get(),
        })
    }
}

fn same_node(one: Option<&Arc<Node>>, other: Option<&Arc<Node>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

fn endpoint(node: &DatabaseNode) -> Result<Endpoint, String> {
    let authorities = Some(node.ca.as_str()).filter(|file| !file.is_empty());
    let encryption = Encryption::new(node.tls.as_str(), authorities, &node.server_name)?;
    Ok(Endpoint { address: Address::parse(&node.address)?, encryption })
}

impl View {
    fn build(settings: snapshot::Database, before: Option<&Self>) -> Result<Self, Error> {
        let wrong = |what: String| Error::Snapshot(format!("database {:?}: {what}", settings.name));
        let mut names = HashSet::new();
        let mut members = Vec::with_capacity(settings.nodes.len());
        for node in &settings.nodes {
            if !names.insert(&node.name) {
                return Err(wrong(format!("node {:?} is there twice", node.name)));
            }
            if !(node.weight.is_finite() && node.weight > 0.0) {
                return Err(wrong(format!("node {:?}: weight must be positive", node.name)));
            }
            let same = |member: &&Member| member.settings.is_same_place(node);
            let kept = before.and_then(|view| view.members.iter().find(same)).map(|member| Arc::clone(&member.node));
            let made = match kept {
                Some(kept) => kept,
                None => Arc::new(Node::new(&node.name, endpoint(node).map_err(wrong)?)),
            };
            members.push(Member { node: made, role: node.role, weight: node.weight, settings: node.clone() });
        }
        if members.iter().filter(|member| member.role == DatabaseRole::Primary).count() > 1 {
            return Err(wrong("more than one primary".to_owned()));
        }
        let users = settings
            .users
            .iter()
            .map(|user| {
                let known = before.and_then(|view| view.users.get(&user.name));
                Ok((user.name.clone(), User::build(user, known).map_err(wrong)?))
            })
            .collect::<Result<_, Error>>()?;
        let monitor = Arc::new(Login {
            user: settings.monitor.user.clone(),
            database: settings.monitor.database.clone(),
            secret: Secret::password(&settings.monitor.password),
        });
        let limits = Limits {
            connections_max: settings.connections_max.max(1),
            lifetime_us: settings.server_lifetime_ms.saturating_mul(1000),
            idle_us: settings.server_idle_ms.saturating_mul(1000),
            connect: Duration::from_millis(settings.connect_timeout_ms),
        };
        let policy = build(&settings.reads.policy, members.len());
        Ok(Self { settings, members, users, monitor, limits, policy })
    }

    pub fn primary(&self) -> Option<&Arc<Node>> {
        self.members.iter().find(|member| member.role == DatabaseRole::Primary).map(|member| &member.node)
    }

    /// The newest sample of the primary's position.
    pub fn primary_sample(&self) -> Sample {
        self.primary().map_or(Sample { begun_us: 0, position: 0 }, |node| node.sample())
    }

    /// Whether any replica is there to be read from.
    pub fn has_replicas(&self) -> bool {
        self.members.iter().any(|member| member.role == DatabaseRole::Replica)
    }

    /// Whether a replica that answers is seen to lack something that the primary has.
    pub fn has_laggards(&self) -> bool {
        let newest = self.primary_sample().position;
        self.members.iter().filter(|member| member.role == DatabaseRole::Replica).any(|member| {
            let sample = member.node.vitals.sample();
            sample.is_reachable() && sample.answer.is_some_and(|answer| answer.position < newest)
        })
    }

    /// Whether anything is under way, or a replica lacks something.
    pub fn is_busy(&self) -> bool {
        self.has_laggards() || self.members.iter().any(|member| member.node.in_use.load(Ordering::Relaxed) > 0)
    }

    /// A replica that has replayed `position`, chosen by the policy. `avoid` are those that have just failed.
    pub fn replica(&self, group: &Group, position: u64, avoid: &[Arc<Node>]) -> Option<&Arc<Node>> {
        let reads = &self.settings.reads;
        let newest = self.primary_sample().position;
        let limit = u32::try_from(self.limits.connections_max).unwrap_or(u32::MAX);
        CANDIDATES.with_borrow_mut(|candidates| {
            candidates.clear();
            for (index, Member { node, role, weight, .. }) in self.members.iter().enumerate() {
                let sample = node.vitals.sample();
                let Some(answer) = sample.answer.filter(|answer| sample.is_reachable() && answer.in_recovery) else {
                    continue;
                };
                let lag_bytes = newest.saturating_sub(answer.position);
                let fit = *role == DatabaseRole::Replica
                    && answer.position >= position
                    && (reads.lag_max_bytes == 0 || lag_bytes <= reads.lag_max_bytes)
                    && (reads.lag_max_ms == 0 || lag_bytes == 0 || group.lag_ms(answer.position) <= reads.lag_max_ms)
                    && !avoid.iter().any(|other| Arc::ptr_eq(other, node));
                if fit {
                    let in_flight = node.in_use.load(Ordering::Relaxed);
                    let load =
                        Load { index, identity: node.identity, weight: *weight, in_flight, limit, latency_us: 0.0 };
                    candidates.push(load);
                }
            }
            let at = match candidates.len() {
                0 => return None,
                1 => 0,
                _ => CHANCE.with_borrow_mut(|chance| self.policy.pick(candidates, None, chance)),
            };
            self.members.get(candidates[at].index).map(|member| &member.node)
        })
    }
}
