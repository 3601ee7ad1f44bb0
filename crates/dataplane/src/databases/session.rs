//! What belongs to a client and must hold whichever connection serves it: its transaction, settings, statements, and what it
//! has written.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::audit::Need;
use super::backend::Login;
use super::causal::Horizon;
use super::clients::{ClientEntry, Presence};
use super::connection::Connection;
use super::expect::Expectations;
use super::group::Group;
use super::idle_timeout;
use super::node::Node;
use super::plan::{Access, Definition, Effect, Plans};
use super::pool::{Guard, Pool};
use super::portals::Portals;
use super::protocol::messages::to_client::{self, TransactionStatus};
use super::protocol::tag::to_server as tag;
use super::reading::{
    Reading, changes_literals, hash, is_true, last_word, reads_like_ascii, says_read_only, says_serializable,
};
use super::readonly::Beginning;
use super::route::{Role, Situation};
use super::settings::Settings;
use super::statement::{Meaning, Statement};
use super::survey::{Change, Step, Survey};
use crate::clock::now_us;

/// What a status byte says.
pub const IDLE: u8 = b'I';
pub const IN_TRANSACTION: u8 = b'T';
pub const FAILED: u8 = b'E';

/// Savepoints of one transaction whose settings are known; beyond them the oldest are forgotten.
const SAVEPOINTS_MAX: usize = 10_000;
const ENCODING: &str = "a client encoding that the gateway cannot read";
/// Settings that end with the transaction, whatever the statement says.
const OF_A_TRANSACTION: [&str; 4] =
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable", "transaction_snapshot"];
const DATE_STYLE: &str = "datestyle";
/// As the planner says it.
const STRINGS: &str = "standard_conforming_strings is off";

mod effects;
mod handover;

#[derive(Debug)]
pub struct Session {
    pub client: Arc<ClientEntry>,
    _presence: Presence,
    pub login: Arc<Login>,
    /// Settings from the start-up packet: what RESET goes back to.
    pub base: Settings,
    pub settings: Settings,
    /// Settings when the transaction began, for its rollback.
    before: Option<Settings>,
    /// Settings at each savepoint.
    savepoints: Vec<(String, Settings)>,
    /// Something was defined in the transaction.
    defines: bool,
    /// Held while something that the session runs may change the catalogue.
    definition: Option<Definition>,
    /// It surely does.
    has_defined: bool,
    /// Custom settings that the transaction has made for itself.
    local_custom: Vec<String>,
    /// What its connection is brought to instead of `settings`, for a unit that leaves a role which cannot be taken on.
    pub without_role: Option<Settings>,
    /// What the server has to be asked before the connection serves another session.
    pub need: Need,
    /// Version of the catalogue that the plans of the transaction are for.
    plans_version: u64,
    /// The server has reported a value that its defaults have, and the session's base has another: it is to be told.
    pub tell: bool,
    pub status: u8,
    /// Its transaction went down with its server; it has to be told at the next statement, and to roll back.
    pub lost: bool,
    /// The client does not know it yet.
    pub untold: bool,
    /// The server has done a part of a batch whose Sync has not come: an implicit transaction may be open.
    pub in_batch: bool,
    /// Why it keeps its connection after the transaction.
    pub pins: Vec<String>,
    /// Of its database.
    pub plans: Arc<Plans>,
    pub statements: HashMap<Box<[u8]>, Arc<Statement>>,
    pub unnamed: Option<Arc<Statement>>,
    /// Of PREPARE.
    pub names_in_sql: HashSet<Box<[u8]>>,
    pub portals: Portals,
    /// A batch has failed: everything up to its Sync is ignored.
    pub skipping: bool,
    pub horizon: Horizon,
    /// The transaction may have written.
    dirty: bool,
    /// The transaction has said that it is READ ONLY.
    is_read_only: bool,
    /// What the transaction has done, where it is on a replica.
    beginning: Option<Beginning>,
    /// The version of the settings with which a replica has refused its transactions as serializable.
    serializable_at: Option<u64>,
    pub guard: Option<Guard>,
    /// Role of the node that the guard is of.
    pub role: Role,
    /// What the settings of a mark mean for routes.
    situation: Option<(u64, Situation)>,
    /// How long it may be idle, with the settings of a mark.
    idle_limit: Option<(u64, Option<Duration>)>,
    /// Hash of its login's database and user; not zero.
    whose: u64,
    /// What its settings make of names and literals.
    reading: Reading,
    /// The transaction has settings of its own for literals.
    reads_locally: bool,
    /// Where it has borrowed lately, by the node's address, which is another's only when the pool is gone.
    pools: Vec<(usize, Weak<Pool>)>,
}

impl Session {
    pub fn new(
        client: Arc<ClientEntry>,
        presence: Presence,
        login: Arc<Login>,
        base: Settings,
        plans: Arc<Plans>,
    ) -> Self {
        let pins = base.get("client_encoding").filter(|statement| !reads_like_ascii(statement));
        let whose = hash((&login.database, &login.user)) | 1;
        let pins = pins.map(|_| ENCODING.to_owned()).into_iter().collect();
        Self {
            client,
            _presence: presence,
            login,
            settings: base.clone(),
            base,
            before: None,
            savepoints: Vec::new(),
            defines: false,
            definition: None,
            has_defined: false,
            local_custom: Vec::new(),
            need: Need::default(),
            without_role: None,
            plans_version: plans.version(),
            tell: false,
            status: IDLE,
            lost: false,
            untold: false,
            in_batch: false,
            pins,
            plans,
            statements: HashMap::new(),
            unnamed: None,
            names_in_sql: HashSet::new(),
            portals: Portals::default(),
            skipping: false,
            horizon: Horizon::default(),
            dirty: false,
            is_read_only: false,
            beginning: None,
            serializable_at: None,
            guard: None,
            role: Role::Primary,
            situation: None,
            idle_limit: None,
            whose,
            reading: Reading::default(),
            reads_locally: false,
            pools: Vec::new(),
        }
    }

    pub fn number(&self) -> u32 {
        self.client.process
    }

    /// The pool of its login on a node.
    pub fn pool(&mut self, node: &Arc<Node>) -> Arc<Pool> {
        let address = Arc::as_ptr(node) as usize;
        let known = self.pools.iter().find(|(of, _)| *of == address);
        if let Some(pool) = known.and_then(|(_, pool)| pool.upgrade()) {
            return pool;
        }
        let pool = node.pool(&self.login);
        self.pools.retain(|(of, pool)| *of != address && pool.strong_count() > 0);
        self.pools.push((address, Arc::downgrade(&pool)));
        pool
    }

    /// What decides, beside their texts, what its statements mean.
    pub fn meaning(&self, group: &Group) -> Meaning {
        let owner = (!self.pins.is_empty() || self.reading.is_local).then(|| self.number());
        let plans = self.plans.id();
        Meaning { plans, definitions: group.statements.definitions(), names: self.reading.names, owner }
    }

    /// To be called before a unit is surveyed: where settings have changed what literals mean, the session's names stand for
    /// statements with the new meaning, as connections that do not have them yet would prepare them.
    pub fn renew_names(&mut self, group: &Group) {
        if self.status == IDLE && !self.in_batch {
            self.plans_version = self.plans.version();
        }
        self.reads_locally &= self.status != IDLE || self.in_batch;
        if self.reading.holds(&self.settings, self.reads_locally) {
            return;
        }
        let before = std::mem::replace(&mut self.reading, Reading::of(&self.settings, self.reads_locally));
        if !before.is_same_for_literals(&self.reading) {
            let meaning = self.meaning(group);
            for statement in self.statements.values_mut() {
                *statement = group.statements.intern(&statement.text, &statement.types, meaning, &statement.entry);
            }
        }
    }

    /// How long it may be idle now, if there is a limit.
    pub fn idle_limit(&mut self) -> Option<Duration> {
        if self.status != IDLE || self.in_batch || self.skipping {
            return None;
        }
        let mark = self.settings.mark();
        match self.idle_limit {
            Some((of, limit)) if of == mark => limit,
            _ => {
                let limit = idle_timeout::limit(&self.settings).filter(|limit| !limit.is_zero());
                self.idle_limit = Some((mark, limit));
                limit
            }
        }
    }

    pub fn situation(&mut self, split: bool) -> Situation {
        match self.situation {
            Some((mark, known)) if mark == self.settings.mark() && known.split == split => known,
            _ => {
                let found = self.find_situation(split);
                self.situation = Some((self.settings.mark(), found));
                found
            }
        }
    }

    fn find_situation(&self, split: bool) -> Situation {
        let value = |name| self.settings.get(name).and_then(last_word);
        Situation {
            split,
            reads_only: self.settings.get("default_transaction_read_only").is_some_and(says_read_only),
            serializable: self.serializable_at == Some(self.settings.mark())
                || self.settings.get("default_transaction_isolation").is_some_and(says_serializable),
            unusual: value("standard_conforming_strings").is_some_and(|value| !is_true(&value))
                || value("client_encoding").is_some_and(|value| !reads_like_ascii(&value)),
            goes_on: false,
            runs: true,
        }
    }

    /// Takes over what a unit has done, when its answer has come. `status` is that of its end; none for a part of a batch.
    pub fn settle(&mut self, survey: &Survey<'_>, expect: &Expectations, status: Option<u8>, group: &Group) {
        // At the Sync behind an error it is known that nothing of the batch holds.
        let failed = expect.failed || self.skipping;
        self.take_names(survey, expect);
        let Some(mut guard) = self.guard.take() else { return };
        // Nothing else changes them. A ROLLBACK in the same text takes back what was set before it, also without a BEGIN.
        let at_start = survey.effects().next().map(|_| self.settings.clone());
        if let Some(at_start) = &at_start {
            self.begin_with(Some(at_start.clone()));
        }
        if let Some(connection) = guard.connection() {
            self.note_needs(survey, expect.failed, connection);
            note_prepared(connection, survey, expect, self.number());
            connection.is_uncertain |= expect.is_uncertain || idle_timeout::is_left(survey, &self.settings);
            self.take_effects(survey, expect, connection);
            if !expect.failed {
                self.take_reported(survey, connection);
            }
            self.defines |= survey.effects().any(|effect| matches!(effect, Effect::Define {}));
            if self.defines || expect.outdated {
                group.statements.note_definition();
            }
            let Some(status) = status else {
                self.dirty |= writes(survey);
                self.in_batch = true;
                if let Some(beginning) = &mut self.beginning {
                    beginning.note_failure();
                }
                self.guard = Some(guard);
                return;
            };
            self.in_batch = false;
            self.take_status(status, survey, failed, at_start, connection);
        }
        if let Some(connection) = guard.connection() {
            connection.past.has_drawn |= writes(survey);
        }
        self.guard = Some(guard);
    }

    /// The answer to a batch that only gives and takes back names, where no server has to be asked: the session has none,
    /// and what is prepared has been prepared by others.
    pub fn names_alone(&mut self, survey: &Survey<'_>) -> Option<Vec<u8>> {
        if self.guard.is_some() || self.in_batch || self.lost || self.status != IDLE || survey.executes {
            return None;
        }
        let mut answer = Vec::new();
        for step in &survey.steps {
            match step {
                Step::Ready(ready) => answer.extend_from_slice(ready),
                Step::Parse(_, statement) if statement.is_proven(self.whose) => {
                    to_client::parse_complete(&mut answer);
                }
                Step::Forward(tag::SYNC, _) => to_client::ready_for_query(&mut answer, TransactionStatus::Idle),
                _ => return None,
            }
        }
        self.take_names(survey, &Expectations::default());
        Some(answer)
    }

    fn take_names(&mut self, survey: &Survey<'_>, expect: &Expectations) {
        self.skipping = expect.skipping;
        for change in survey.changes_made(expect) {
            match change {
                Change::Define(name, statement) => {
                    statement.prove(self.whose);
                    self.statements.insert(name.clone(), Arc::clone(statement));
                }
                Change::DefineInSql(name) => {
                    self.names_in_sql.insert(name.clone());
                }
                Change::Forget(name) => {
                    self.statements.remove(name);
                    self.names_in_sql.remove(name);
                }
                Change::ForgetAll => {
                    self.statements.clear();
                    self.names_in_sql.clear();
                }
                Change::Unnamed(statement) => self.unnamed = Some(Arc::clone(statement)),
                Change::ForgetUnnamed => self.unnamed = None,
            }
        }
        if survey.is_query {
            self.unnamed = None;
            self.portals.drop_unnamed();
        }
        match expect.status {
            Some(IDLE) => self.portals.clear(),
            _ => self.portals.change(survey.portals_made(expect)),
        }
    }

    fn keep(&mut self, reason: &str) {
        if !self.pins.iter().any(|pin| pin == reason) {
            self.pins.push(reason.to_owned());
        }
    }

    fn take_status(
        &mut self,
        status: u8,
        survey: &Survey<'_>,
        failed: bool,
        at_start: Option<Settings>,
        connection: &mut Connection,
    ) {
        let was = std::mem::replace(&mut self.status, status);
        self.client.status.store(status, Ordering::Relaxed);
        self.dirty |= writes(survey);
        if status == IDLE {
            self.untold = false;
            // A rollback has put the settings back already.
            let ends =
                |e: &Effect| matches!(e, Effect::Commit { .. } | Effect::Rollback {} | Effect::PrepareTransaction {});
            let kept = !failed && (was == IDLE || survey.effects().any(ends));
            let before = self.before.take();
            self.savepoints.clear();
            self.defines = false;
            if !kept && let Some(before) = before {
                self.settings = before.clone();
                connection.settings = before;
            }
            for name in std::mem::take(&mut self.local_custom) {
                if self.settings.get(&name).is_none() {
                    self.settings.empty(&name);
                    connection.settings.empty(&name);
                }
            }
            connection.note_placeholders();
            self.ended();
        } else {
            if was == IDLE {
                // What was set in the same unit before BEGIN belongs to the transaction too.
                self.begin_with(at_start);
            }
            self.take_modes(survey);
            if self.role == Role::Replica {
                let beginning = self.beginning.get_or_insert_default();
                if failed { beginning.note_failure() } else { beginning.note(survey) }
            }
        }
    }

    /// No transaction is open any more. However it has ended, a part of what it did may be committed: a text may have
    /// several transactions, and a procedure too. To believe it costs a read on the primary at most.
    fn ended(&mut self) {
        self.beginning = None;
        self.is_read_only = false;
        if std::mem::take(&mut self.dirty) && self.role == Role::Primary {
            self.horizon.wrote(now_us());
        }
    }

    /// A unit that may have committed something was lost with its server.
    pub fn note_lost(&mut self, survey: &Survey<'_>) {
        self.dirty |= writes(survey);
    }

    fn take_modes(&mut self, survey: &Survey<'_>) {
        for effect in survey.effects() {
            match effect {
                Effect::Begin { read_only, .. } => {
                    self.is_read_only = read_only.unwrap_or_else(|| self.find_situation(false).reads_only);
                }
                Effect::Set { name, value, .. } if name == "transaction_read_only" => {
                    self.is_read_only = value.as_deref().is_some_and(is_true);
                }
                _ => {}
            }
        }
    }

    /// What the transaction on a replica has done.
    pub fn beginning(&self) -> Option<&Beginning> {
        self.beginning.as_ref()
    }

    /// Goes back to where the transaction began; answers with the settings that it has made since.
    pub fn go_back(&mut self) -> Settings {
        self.set_status(IDLE);
        let before = self.settings_before().clone();
        std::mem::replace(&mut self.settings, before)
    }

    /// Whether nothing has to be asked of the server about what the transaction has done.
    pub fn is_clean(&self) -> bool {
        self.need.is_none()
    }

    /// The settings that a rollback of its transaction brings back.
    pub fn settings_before(&self) -> &Settings {
        self.before.as_ref().unwrap_or(&self.settings)
    }

    /// Another connection has come to where the transaction was, with these settings.
    pub fn go_on(&mut self, within: Settings) {
        self.settings = within;
        self.beginning = None;
        self.set_status(IN_TRANSACTION);
    }

    /// A replica has refused its transactions as serializable, as a default says that the gateway does not know.
    pub fn note_serializable(&mut self) {
        self.serializable_at = Some(self.settings.mark());
        self.situation = None;
    }

    /// Whether what is open cannot have changed anything that lasts.
    pub fn changes_nothing(&self) -> bool {
        self.role == Role::Replica || self.is_read_only || !self.dirty
    }

    /// A transaction has begun, with these settings or those of now.
    fn begin_with(&mut self, at_start: Option<Settings>) {
        if self.before.is_none() {
            self.before = Some(at_start.unwrap_or_else(|| self.settings.clone()));
        }
    }

    /// What was open is committed, although its server did not live to say so.
    pub fn take_commit(&mut self, survey: &Survey<'_>, group: &Group) {
        self.take_names(survey, &Expectations::default());
        if std::mem::take(&mut self.defines) {
            group.statements.note_definition();
        }
        self.before = None;
        self.savepoints.clear();
        (self.dirty, self.in_batch, self.untold) = (true, false, false);
        self.ended();
        self.set_status(IDLE);
    }

    /// The transaction went down with its server.
    pub fn lose_transaction(&mut self) {
        if let Some(before) = self.before.take() {
            self.settings = before;
        }
        self.savepoints.clear();
        self.defines = false;
        self.definition = None;
        self.need = Need::default();
        self.in_batch = false;
        self.lost = true;
        self.ended();
        self.set_status(FAILED);
    }

    /// Whether what is open may have written.
    pub fn may_have_written(&self) -> bool {
        self.dirty
    }

    pub fn set_status(&mut self, status: u8) {
        self.status = status;
        self.client.status.store(status, Ordering::Relaxed);
    }

    /// Nothing is under way any more, whatever was.
    pub fn end_transaction(&mut self) {
        self.lose_transaction();
        (self.lost, self.untold) = (false, false);
        self.set_status(IDLE);
    }
}

/// Whether the unit may have written something that the session must see later.
fn writes(survey: &Survey<'_>) -> bool {
    let session_only = |effect: &Effect| !effect.is_public();
    // A function call, or a portal of an earlier unit, tells nothing of itself.
    survey.executes && (survey.runs.is_empty() || survey.runs_unknown)
        || survey.runs.iter().any(|entry| {
            entry.writes()
                || entry.plan().is_none_or(|plan| {
                    plan.may_write
                        || plan.access == Access::Write
                            && !(plan.statements as usize == plan.effects.len()
                                && plan.effects.iter().all(session_only))
                })
        })
}

/// Whether a unit changes what literals mean in the statements that it prepares itself.
fn changes_its_reading(survey: &Survey<'_>) -> bool {
    survey.effects().any(|effect| match effect {
        Effect::Set { name, .. } | Effect::Reset { name: Some(name) } => changes_literals(name),
        Effect::Reset { name: None } | Effect::Rollback {} | Effect::RollbackTo { .. } => true,
        _ => false,
    })
}

fn note_prepared(connection: &mut Connection, survey: &Survey<'_>, expect: &Expectations, number: u32) {
    let is_doubtful = !expect.hoped.is_empty() && changes_its_reading(survey);
    if is_doubtful || survey.effects().any(Effect::forgets_statements) {
        connection.prepared.forget();
    }
    for id in expect.hoped.iter().filter(|id| !expect.prepared.contains(id)) {
        connection.prepared.remove(*id);
    }
    if expect.failed {
        connection.unnamed = None;
        connection.prepared.leftovers |= expect.closing > 0;
        return;
    }
    for (_, change) in &survey.changes {
        match change {
            Change::Unnamed(statement) => connection.unnamed = Some((number, statement.id)),
            Change::ForgetUnnamed => connection.unnamed = None,
            _ => {}
        }
    }
}
