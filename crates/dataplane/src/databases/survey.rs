//! What a unit asks for, read once: its statements, what they are called here and on servers, and what is answered without
//! asking. Nothing of a session changes here; `session` takes over what has succeeded, afterwards.

mod standby;

use std::sync::Arc;

use smallvec::SmallVec;

use super::expect::Expectations;
use super::group::Group;
use super::lexer;
use super::plan::{Effect, Entry, Plan, Plans};
use super::portals::PortalChange;
use super::protocol::ProtocolError;
use super::protocol::fields::{self, Bind, Execute, Parse, Target, TargetKind};
use super::protocol::frame;
use super::protocol::messages::to_client::{self, TransactionStatus};
use super::protocol::report::Report;
use super::protocol::tag::to_server as tag;
use super::route::Role;
use super::session::Session;
use super::statement::{NAME, Statement};
use super::unit::{End, Unit};

/// As the planner says it.
const SEQUENCE: &str = "sequence position";
/// Prepared statements of one session.
const STATEMENTS_MAX: usize = 10_000;
/// Messages of a usual batch: Parse, Bind, Describe, Execute, Sync, and one or the other more.
const BATCH: usize = 8;

/// One message, or what stands for it.
#[derive(Debug)]
pub enum Step<'u> {
    /// Goes on as it is, and is answered as its tag says.
    Forward(u8, &'u [u8]),
    Parse(Parse<'u>, Arc<Statement>),
    Bind(Bind<'u>, Arc<Statement>),
    Describe(Target<'u>, Arc<Statement>),
    Execute(&'u [u8], Option<Arc<Entry>>),
    /// A Parse with a name that the session has given already.
    Taken(Parse<'u>),
    /// Goes on as it is; the name in it is of SQL, or of nothing.
    Foreign(&'u [u8], &'u [u8]),
    /// The connection must hold no unnamed statement from here on.
    NoUnnamed,
    /// The connection must hold a statement under the client's own name from here on, for SQL to find it.
    Show(Box<[u8]>, Arc<Statement>),
    /// Up to here.
    Hide(Box<[u8]>),
    /// SQL must not find what the gateway has prepared under this name.
    Keep(Box<[u8]>),
    /// The connection must hold this unnamed statement from here on.
    Unnamed(Arc<Statement>),
    /// Answered here.
    Ready(Vec<u8>),
    /// Fails with this; nothing behind it is done.
    Failing(Vec<u8>),
}

/// What becomes of a name of the session when the Parse that stands for it has succeeded.
#[derive(Debug)]
pub enum Change {
    Define(Box<[u8]>, Arc<Statement>),
    Unnamed(Arc<Statement>),
    /// PREPARE.
    DefineInSql(Box<[u8]>),
    Forget(Box<[u8]>),
    /// All but the unnamed statement.
    ForgetAll,
    ForgetUnnamed,
}

/// What a name stands for.
#[derive(Debug)]
enum Found {
    Statement(Arc<Statement>),
    /// A statement that was prepared in SQL.
    InSql,
    Nothing,
}

/// Most units have one or two.
type Entries = SmallVec<[Arc<Entry>; 2]>;

#[derive(Debug, Default)]
pub struct Survey<'u> {
    /// The client's messages.
    pub bytes: &'u [u8],
    pub steps: SmallVec<[Step<'u>; 1]>,
    /// Distinct statements that are prepared or run, in order.
    pub entries: Entries,
    /// Those that are run, in order: what they do to the session is done.
    pub runs: Entries,
    /// Nothing that is run does anything to the session.
    is_plain: bool,
    /// Changes of names, each with the number of answers up to it; of a simple query, of statements.
    pub changes: Vec<(usize, Change)>,
    /// The same for portals.
    portals: Vec<(usize, PortalChange<'u>)>,
    /// For each of `runs` in a batch, the number of answers up to it, and whether it had been run before.
    executions: SmallVec<[(usize, bool); 2]>,
    /// Something is run, not only prepared or described.
    pub executes: bool,
    /// Something is bound, to be run here or later.
    pub binds: bool,
    /// One of the portals that are run is not known.
    pub runs_unknown: bool,
    /// How long the unit is up to an Execute to which what follows may be data.
    pub copy_at: Option<usize>,
    /// It is a simple query.
    pub is_query: bool,
    /// Messages that are answered, up to the one that is read.
    answers: usize,
    /// Names that come and that go.
    defined: usize,
    forgotten: usize,
}

impl<'u> Survey<'u> {
    pub fn of(bytes: &'u [u8], unit: Unit, session: &Session, group: &Group) -> Result<Self, ProtocolError> {
        let mut survey = Self { bytes, ..Self::default() };
        match unit.end {
            End::Query => survey.query(bytes, session)?,
            End::Call => {
                survey.executes = true;
                survey.steps.push(Step::Forward(tag::FUNCTION_CALL, bytes));
            }
            End::Sync | End::Flush { .. } | End::Terminate => survey.batch(bytes, unit.end, session, group)?,
        }
        Ok(survey)
    }

    fn query(&mut self, bytes: &'u [u8], session: &Session) -> Result<(), ProtocolError> {
        let text = fields::query(bytes)?;
        let entry = entry(&session.plans, text);
        self.executes = true;
        self.is_query = true;
        // A simple query has no parameters: what it does to names is in its text, statement by statement.
        let shown = self.show_names(&entry, session);
        self.steps.push(Step::Forward(tag::QUERY, bytes));
        self.hide_names(shown);
        if let Some(plan) = entry.plan() {
            self.changes
                .extend(plan.effects_with_places().filter_map(|(at, effect)| Some((at + 1, change_of(effect)?))));
        }
        self.runs.push(Arc::clone(&entry));
        self.entries.push(entry);
        Ok(())
    }

    fn batch(&mut self, bytes: &'u [u8], end: End, session: &Session, group: &Group) -> Result<(), ProtocolError> {
        let mut at = 0;
        self.steps.reserve(BATCH);
        while let Some(frame) = frame::next(&bytes[at..], usize::MAX)? {
            let message = &bytes[at..at + frame.length];
            at += frame.length;
            match frame.tag {
                tag::PARSE => self.parse(message, session, group)?,
                tag::BIND => self.bind(message, session)?,
                tag::DESCRIBE => self.describe(message, session)?,
                tag::CLOSE => self.close(message, session)?,
                tag::EXECUTE => {
                    let copies_in = self.execute(message, session)?;
                    if copies_in && at < bytes.len() {
                        self.copy_at = self.copy_at.or(Some(at));
                    }
                }
                other => self.steps.push(Step::Forward(other, message)),
            }
            if let Some(Step::Failing(_)) = self.steps.last() {
                // The server ignores everything up to the Sync, which goes on.
                if end == End::Sync && at < bytes.len() {
                    self.steps.push(Step::Forward(tag::SYNC, &bytes[bytes.len() - frame::HEADER..]));
                }
                break;
            }
        }
        Ok(())
    }

    /// Adds a step that the client gets an answer to, and what becomes of a name when it has succeeded.
    fn step(&mut self, step: Step<'u>, change: Option<Change>) {
        self.answers += 1;
        self.steps.push(step);
        self.changes.extend(change.map(|change| (self.answers, change)));
    }

    fn parse(&mut self, message: &'u [u8], session: &Session, group: &Group) -> Result<(), ProtocolError> {
        let parse = Parse::read(message)?;
        // Drivers that name no statements parse the same text again and again.
        let last = session.unnamed.as_ref().filter(|statement| *statement.text == *parse.query);
        let plans = &session.plans;
        let known = |statement: &Arc<Statement>| plans.renewed(&statement.entry, parse.query);
        let entry = last.map_or_else(|| entry(plans, parse.query), known);
        self.entries.push(Arc::clone(&entry));
        if parse.name.is_empty() {
            let statement = Arc::new(match last.filter(|statement| *statement.types == *parse.types) {
                Some(last) => group.statements.make_again(last),
                None => group.statements.make(parse.query, parse.types, &entry),
            });
            self.step(Step::Forward(tag::PARSE, message), Some(Change::Unnamed(statement)));
            return Ok(());
        }
        match self.find(parse.name, session) {
            Found::Statement(_) => self.step(Step::Taken(parse), None),
            Found::InSql => self.step(Step::Foreign(parse.name, message), None),
            Found::Nothing if session.statements.len() + self.defined >= STATEMENTS_MAX + self.forgotten => {
                self.fail("54000", format!("the session has {STATEMENTS_MAX} prepared statements already"));
            }
            Found::Nothing => {
                let statement = group.statements.intern(parse.query, parse.types, session.meaning(group), &entry);
                self.defined += 1;
                let change = Change::Define(parse.name.into(), Arc::clone(&statement));
                self.step(Step::Parse(parse, statement), Some(change));
            }
        }
        Ok(())
    }

    fn bind(&mut self, message: &'u [u8], session: &Session) -> Result<(), ProtocolError> {
        let bind = Bind::read(message)?;
        self.binds = true;
        let (portal, name) = (bind.portal, bind.statement);
        let Some(statement) = self.statement(name, session) else {
            self.unknown(name, message);
            self.portals.push((self.answers, PortalChange::Close(portal)));
            return Ok(());
        };
        let entry = session.plans.renewed(&statement.entry, &statement.text);
        let shown = self.show_names(&entry, session);
        let step = if name.is_empty() { Step::Forward(tag::BIND, message) } else { Step::Bind(bind, statement) };
        self.step(step, None);
        self.hide_names(shown);
        self.portals.push((self.answers, PortalChange::Bind(portal, entry)));
        Ok(())
    }

    fn describe(&mut self, message: &'u [u8], session: &Session) -> Result<(), ProtocolError> {
        let target = Target::read(message)?;
        if target.kind == TargetKind::Portal {
            let shown = self.portal(target.name, session).map(|(entry, _)| self.show_names(&entry, session));
            self.step(Step::Forward(tag::DESCRIBE, message), None);
            self.hide_names(shown.unwrap_or_default());
            return Ok(());
        }
        let name = target.name;
        let Some(statement) = self.statement(name, session) else {
            self.unknown(name, message);
            return Ok(());
        };
        let shown = self.show_names(&session.plans.renewed(&statement.entry, &statement.text), session);
        let step =
            if name.is_empty() { Step::Forward(tag::DESCRIBE, message) } else { Step::Describe(target, statement) };
        self.step(step, None);
        self.hide_names(shown);
        Ok(())
    }

    /// True when the client sends data while it runs.
    fn execute(&mut self, message: &'u [u8], session: &Session) -> Result<bool, ProtocolError> {
        let name = Execute::read(message)?.portal;
        self.executes = true;
        let Some((entry, has_run)) = self.portal(name, session) else {
            self.runs_unknown = true;
            self.step(Step::Execute(message, None), None);
            return Ok(false);
        };
        let shown = self.show_names(&entry, session);
        self.step(Step::Execute(message, Some(Arc::clone(&entry))), None);
        self.hide_names(shown);
        self.portals.push((self.answers, PortalChange::Run(name)));
        if let Some(plan) = entry.plan().filter(|_| !has_run) {
            let answers = self.answers;
            self.changes.extend(plan.effects.iter().filter_map(|effect| Some((answers, change_of(effect)?))));
        }
        let copies_in = entry.plan().is_some_and(Plan::copies_in);
        self.executions.push((self.answers, has_run));
        self.runs.push(entry);
        Ok(copies_in)
    }

    /// The plan's entry of what a portal runs, and whether it has been run.
    fn portal(&self, name: &[u8], session: &Session) -> Option<(Arc<Entry>, bool)> {
        let mut has_run = false;
        for (_, change) in self.portals.iter().rev().filter(|(_, change)| change.name() == name) {
            match change {
                PortalChange::Bind(_, entry) => return Some((Arc::clone(entry), has_run)),
                PortalChange::Run(_) => has_run = true,
                PortalChange::Close(_) => return None,
            }
        }
        session.portals.get(name).map(|portal| (Arc::clone(&portal.entry), has_run || portal.has_run))
    }

    /// The statement that is meant; the connection will hold it if it is the unnamed one. `None`: the session has none, and the
    /// server says so.
    fn statement(&mut self, name: &[u8], session: &Session) -> Option<Arc<Statement>> {
        if !name.is_empty() {
            let Found::Statement(statement) = self.find(name, session) else { return None };
            self.note(&statement, session);
            return Some(statement);
        }
        let newest = self.changes.iter().rev().find_map(|(_, change)| match change {
            Change::Unnamed(statement) => Some(Some(Arc::clone(statement))),
            Change::ForgetUnnamed => Some(None),
            _ => None,
        });
        if let Some(newest) = newest {
            // Its Parse is on the way.
            return newest;
        }
        let statement = session.unnamed.clone()?;
        self.note(&statement, session);
        self.steps.push(Step::Unnamed(Arc::clone(&statement)));
        Some(statement)
    }

    /// A Bind or a Describe of a name that the session has not given by a message.
    fn unknown(&mut self, name: &'u [u8], message: &'u [u8]) {
        if name.is_empty() {
            self.steps.push(Step::NoUnnamed);
        }
        self.step(Step::Foreign(name, message), None);
    }

    fn close(&mut self, message: &'u [u8], session: &Session) -> Result<(), ProtocolError> {
        let target = Target::read(message)?;
        if target.kind == TargetKind::Portal {
            self.step(Step::Forward(tag::CLOSE, message), None);
            self.portals.push((self.answers, PortalChange::Close(target.name)));
        } else if target.name.is_empty() {
            self.step(Step::Forward(tag::CLOSE, message), Some(Change::ForgetUnnamed));
        } else if let Found::InSql = self.find(target.name, session) {
            self.step(Step::Foreign(target.name, message), Some(Change::Forget(target.name.into())));
        } else {
            // It stays prepared on servers, where others may use it. Closing what does not exist is no error.
            let is_known = matches!(self.find(target.name, session), Found::Statement(_));
            self.forgotten += usize::from(is_known);
            let mut answer = Vec::new();
            to_client::close_complete(&mut answer);
            self.step(Step::Ready(answer), is_known.then(|| Change::Forget(target.name.into())));
        }
        Ok(())
    }

    /// What a name stands for at this point of the unit.
    fn find(&self, name: &[u8], session: &Session) -> Found {
        let changed = self.changes.iter().rev().find_map(|(_, change)| match change {
            Change::Define(defined, statement) if &**defined == name => Some(Found::Statement(Arc::clone(statement))),
            Change::DefineInSql(defined) if &**defined == name => Some(Found::InSql),
            Change::Forget(forgotten) if &**forgotten == name => Some(Found::Nothing),
            Change::ForgetAll => Some(Found::Nothing),
            _ => None,
        });
        changed.unwrap_or_else(|| match session.statements.get(name) {
            Some(statement) => Found::Statement(Arc::clone(statement)),
            None if session.names_in_sql.contains(name) => Found::InSql,
            None => Found::Nothing,
        })
    }

    /// Sees to it that a statement which names other statements in SQL (EXECUTE, DEALLOCATE, PREPARE) finds those of its session,
    /// and none of other sessions.
    fn show_names(&mut self, entry: &Arc<Entry>, session: &Session) -> Vec<Box<[u8]>> {
        let mut shown = Vec::new();
        let Some(plan) = entry.plan().filter(|plan| !plan.effects.is_empty()) else { return shown };
        for name in plan.effects.iter().filter_map(Effect::named_statement) {
            match self.find(name.as_bytes(), session) {
                Found::Statement(statement) => {
                    self.steps.push(Step::Show(name.as_bytes().into(), statement));
                    shown.push(name.as_bytes().into());
                }
                Found::Nothing if name.starts_with(NAME) => self.steps.push(Step::Keep(name.as_bytes().into())),
                Found::InSql | Found::Nothing => {}
            }
        }
        shown
    }

    /// The step that is answered when so many have been.
    pub fn answered_step(&self, answered: usize) -> Option<&Step<'u>> {
        let has_answer = |step: &&Step<'u>| match step {
            Step::Forward(kind, _) => !matches!(*kind, tag::SYNC | tag::FLUSH),
            Step::Unnamed(_) | Step::NoUnnamed | Step::Show(..) | Step::Hide(_) | Step::Keep(_) => false,
            _ => true,
        };
        self.steps.iter().filter(has_answer).nth(answered)
    }

    fn hide_names(&mut self, shown: Vec<Box<[u8]>>) {
        self.steps.extend(shown.into_iter().map(Step::Hide));
    }

    /// To be called when the plans are there.
    pub fn resolve(&mut self) {
        self.is_plain = self.runs.iter().all(|entry| entry.plan().is_some_and(Plan::leaves_the_session));
    }

    /// Plans of the statements that have been run, in order, each with how many statements of its text have succeeded.
    pub fn have_run<'s>(&'s self, expect: &'s Expectations) -> impl Iterator<Item = (&'s Plan, usize)> {
        let runs = if self.is_plain { &[] } else { &self.runs[..] };
        runs.iter().enumerate().filter_map(move |(at, entry)| {
            let statements = match self.executions.get(at) {
                _ if !expect.failed => usize::MAX,
                Some((answers, _)) if *answers > expect.answered => 0,
                Some(_) => usize::MAX,
                None => expect.commands,
            };
            let is_first = self.executions.get(at).is_none_or(|(_, has_run)| !has_run);
            entry.plan().filter(|_| statements > 0 && is_first).map(|plan| (plan, statements))
        })
    }

    /// Statements that are bound, whether they are run or not.
    pub fn bound(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.portals.iter().filter_map(|(_, change)| match change {
            PortalChange::Bind(_, entry) => Some(entry),
            _ => None,
        })
    }

    /// Changes of names that hold after the unit, in order.
    pub fn changes_made<'s>(&'s self, expect: &'s Expectations) -> impl Iterator<Item = &'s Change> {
        let done = if self.is_query { expect.commands } else { expect.answered };
        self.changes.iter().filter(move |(at, _)| !expect.failed || *at <= done).map(|(_, change)| change)
    }

    /// The same for portals.
    pub fn portals_made<'s>(&'s self, expect: &'s Expectations) -> impl Iterator<Item = &'s PortalChange<'u>> {
        self.portals.iter().filter(|(at, _)| !expect.failed || *at <= expect.answered).map(|(_, change)| change)
    }

    fn note(&mut self, statement: &Statement, session: &Session) {
        self.entries.push(session.plans.renewed(&statement.entry, &statement.text));
    }

    fn fail(&mut self, code: &str, message: String) {
        let mut error = Vec::new();
        Report::error(code, message).write_error(&mut error);
        self.steps.push(Step::Failing(error));
    }

    /// Whether it changes nothing that others can see, so that it may be repeated even when it may have been done already.
    /// A replica can change nothing, whatever is called there.
    pub fn is_harmless(&self, role: Role) -> bool {
        if !self.executes {
            return true;
        }
        !self.runs.is_empty()
            && !self.runs_unknown
            && self.runs.iter().all(|entry| {
                let Some(plan) = entry.plan() else { return false };
                let only_session = |effect: &Effect| {
                    matches!(
                        effect,
                        Effect::Begin { .. }
                            | Effect::Set { .. }
                            | Effect::Reset { .. }
                            | Effect::Show { .. }
                            | Effect::Deallocate { .. }
                    )
                };
                let is_read = plan.access == super::plan::Access::Read
                    && (role == Role::Replica || !entry.writes() && !plan.may_write);
                is_read || plan.statements as usize == plan.effects.len() && plan.effects.iter().all(only_session)
            })
    }

    /// Whether it ends a transaction by making it last.
    pub fn commits(&self) -> bool {
        self.effects().any(|effect| matches!(effect, Effect::Commit { .. } | Effect::PrepareTransaction {}))
    }

    /// Whether it is one COMMIT and nothing else, so that what is answered to it is known.
    pub fn is_commit_alone(&self) -> bool {
        let [entry] = &self.runs[..] else { return false };
        let is_commit =
            entry.plan().is_some_and(|plan| plan.statements == 1 && plan.effects == [Effect::Commit { chain: false }]);
        is_commit
            && self.steps.iter().all(|step| !matches!(step, Step::Failing(_) | Step::Taken(_) | Step::Foreign(..)))
    }

    /// Whether it is a batch that may write and does nothing to the session or to its transaction: its end commits it.
    pub fn is_plain_write(&self) -> bool {
        let is_plain = |entry: &Arc<Entry>| {
            entry.plan().is_some_and(|plan| plan.statements == 1 && plan.effects.is_empty() && plan.pins.is_empty())
                && !entry.may_copy()
        };
        !self.runs.is_empty()
            && !self.runs_unknown
            && !self.is_harmless(Role::Primary)
            && self.runs.iter().all(is_plain)
            && self.steps.iter().all(|step| !matches!(step, Step::Failing(_) | Step::Taken(_) | Step::Foreign(..)))
    }

    /// What a server answers when it has done a COMMIT alone.
    pub fn answer_to_commit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for step in &self.steps {
            match step {
                Step::Forward(tag::PARSE, _) | Step::Parse(..) => to_client::parse_complete(&mut out),
                Step::Forward(tag::BIND, _) | Step::Bind(..) => to_client::bind_complete(&mut out),
                Step::Forward(tag::DESCRIBE, message) => {
                    if Target::read(message).is_ok_and(|target| target.kind == TargetKind::Statement) {
                        to_client::parameter_description(&mut out, &[]);
                    }
                    to_client::no_data(&mut out);
                }
                Step::Describe(..) => {
                    to_client::parameter_description(&mut out, &[]);
                    to_client::no_data(&mut out);
                }
                Step::Execute(..) => to_client::command_complete(&mut out, "COMMIT"),
                Step::Forward(tag::CLOSE, _) => to_client::close_complete(&mut out),
                Step::Forward(tag::QUERY, _) => {
                    to_client::command_complete(&mut out, "COMMIT");
                    to_client::ready_for_query(&mut out, TransactionStatus::Idle);
                }
                Step::Forward(tag::SYNC, _) => to_client::ready_for_query(&mut out, TransactionStatus::Idle),
                Step::Ready(answer) => out.extend_from_slice(answer),
                _ => {}
            }
        }
        out
    }

    /// Whether it asks what its session has drawn from a sequence.
    pub fn asks_for_sequences(&self) -> bool {
        let asks = |entry: &Arc<Entry>| entry.plan().is_some_and(|plan| plan.pins.iter().any(|pin| pin == SEQUENCE));
        self.with_effects().iter().any(asks)
    }

    /// Whether it may change the catalogue, which its text shows or not.
    pub fn may_define(&self) -> bool {
        self.executes && self.runs.is_empty()
            || self
                .with_effects()
                .iter()
                .filter_map(|entry| entry.plan())
                .any(|plan| plan.may_define || plan.effects.iter().any(|effect| matches!(effect, Effect::Define {})))
    }

    /// Whether something in it reads as far as its text shows, and may write all the same.
    pub fn may_write(&self) -> bool {
        self.executes && self.runs.iter().filter_map(|entry| entry.plan()).any(|plan| plan.may_write)
    }

    /// The statement that was at fault when `executed` of the unit's have succeeded; none where that cannot be told.
    pub fn at_fault(&self, executed: usize) -> Option<&Arc<Entry>> {
        match &self.entries[..] {
            [only] => Some(only),
            _ => self.runs.get(executed),
        }
    }

    /// Effects of all statements that are run, in order.
    pub fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.with_effects().iter().filter_map(|entry| entry.plan()).flat_map(|plan| &plan.effects)
    }

    /// Statements that are run, unless none of them does anything to the session.
    pub fn with_effects(&self) -> &[Arc<Entry>] {
        if self.is_plain { &[] } else { &self.runs }
    }
}

/// What a statement in SQL does to names.
fn change_of(effect: &Effect) -> Option<Change> {
    Some(match effect {
        Effect::Prepare { name } => Change::DefineInSql(name.as_bytes().into()),
        Effect::Deallocate { name: Some(name) } => Change::Forget(name.as_bytes().into()),
        effect if effect.forgets_statements() => Change::ForgetAll,
        _ => return None,
    })
}

/// The plan's entry of a statement.
fn entry(plans: &Plans, text: &[u8]) -> Arc<Entry> {
    thread_local! {
        static KEY: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    KEY.with_borrow_mut(|key| {
        key.clear();
        lexer::key(text, key);
        plans.entry(key, text)
    })
}
