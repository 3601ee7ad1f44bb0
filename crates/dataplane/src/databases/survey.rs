//! What a unit asks for, read once: its statements, what they are called here and on servers, and what is answered without
//! asking. Nothing of a session changes here; `session` takes over what has succeeded, afterwards.

use std::sync::Arc;

use smallvec::SmallVec;

use super::group::Group;
use super::lexer;
use super::plan::{Effect, Entry, Plan, Plans};
use super::protocol::ProtocolError;
use super::protocol::fields::{self, Bind, Execute, Parse, Target, TargetKind};
use super::protocol::frame;
use super::protocol::messages::to_client::{self, TransactionStatus};
use super::protocol::report::Report;
use super::protocol::tag::to_server as tag;
use super::route::Role;
use super::session::Session;
use super::statement::Statement;
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
    /// A Parse of DEALLOCATE with a name that only this session knows.
    Deallocate,
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
    Forget(Box<[u8]>),
    ForgetUnnamed,
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
    /// Changes of names, each with the number of Parse and Close messages up to it.
    pub changes: Vec<(usize, Change)>,
    /// Something is run, not only prepared or described.
    pub executes: bool,
    /// It is a simple query.
    pub is_query: bool,
    parses: usize,
    /// Names that come and that go.
    defined: usize,
    forgotten: usize,
    /// Messages that prepare a DEALLOCATE: the places of the step and of the change of names that follows, and the plan's entry.
    deallocations: Vec<(usize, usize, Arc<Entry>)>,
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
        self.runs.push(Arc::clone(&entry));
        self.entries.push(entry);
        self.executes = true;
        self.is_query = true;
        self.steps.push(Step::Forward(tag::QUERY, bytes));
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
                    Execute::read(message)?;
                    self.executes = true;
                    self.steps.push(Step::Forward(tag::EXECUTE, message));
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

    fn parse(&mut self, message: &'u [u8], session: &Session, group: &Group) -> Result<(), ProtocolError> {
        let parse = Parse::read(message)?;
        // Drivers that name no statements parse the same text again and again.
        let last = session.unnamed.as_ref().filter(|statement| *statement.text == *parse.query);
        let plans = &session.plans;
        let known = |statement: &Arc<Statement>| plans.renewed(&statement.entry, parse.query);
        let entry = last.map_or_else(|| entry(plans, parse.query), known);
        self.entries.push(Arc::clone(&entry));
        self.parses += 1;
        if parse.name.is_empty() {
            let statement = Arc::new(match last.filter(|statement| *statement.types == *parse.types) {
                Some(last) => group.statements.make_again(last),
                None => group.statements.make(parse.query, parse.types, &entry),
            });
            self.changes.push((self.parses, Change::Unnamed(statement)));
            if parse.query.trim_ascii_start().get(..10).is_some_and(|word| word.eq_ignore_ascii_case(b"deallocate")) {
                self.deallocations.push((self.steps.len(), self.changes.len(), Arc::clone(&entry)));
            }
            self.steps.push(Step::Forward(tag::PARSE, message));
            return Ok(());
        }
        if self.find(parse.name, session).is_some() {
            let name = String::from_utf8_lossy(parse.name);
            self.fail("42P05", format!("prepared statement \"{name}\" already exists"));
        } else if session.statements.len() + self.defined >= STATEMENTS_MAX + self.forgotten {
            self.fail("54000", format!("the session has {STATEMENTS_MAX} prepared statements already"));
        } else {
            let statement = group.statements.intern(parse.query, parse.types, session.meaning(group), &entry);
            self.defined += 1;
            self.changes.push((self.parses, Change::Define(parse.name.into(), Arc::clone(&statement))));
            self.steps.push(Step::Parse(parse, statement));
        }
        Ok(())
    }

    fn bind(&mut self, message: &'u [u8], session: &Session) -> Result<(), ProtocolError> {
        let bind = Bind::read(message)?;
        let Some(statement) = self.statement(bind.statement, session) else { return Ok(()) };
        // Whether its portal is run in this unit or in a later one of the transaction makes no difference to anybody.
        self.executes = true;
        self.runs.push(session.plans.renewed(&statement.entry, &statement.text));
        if bind.statement.is_empty() {
            self.steps.push(Step::Forward(tag::BIND, message));
        } else {
            self.steps.push(Step::Bind(bind, statement));
        }
        Ok(())
    }

    fn describe(&mut self, message: &'u [u8], session: &Session) -> Result<(), ProtocolError> {
        let target = Target::read(message)?;
        if target.kind == TargetKind::Portal {
            self.steps.push(Step::Forward(tag::DESCRIBE, message));
            return Ok(());
        }
        let Some(statement) = self.statement(target.name, session) else { return Ok(()) };
        if target.name.is_empty() {
            self.steps.push(Step::Forward(tag::DESCRIBE, message));
        } else {
            self.steps.push(Step::Describe(target, statement));
        }
        Ok(())
    }

    /// The statement that is meant; the connection will hold it if it is the unnamed one. `None`: there is none, and the
    /// unit fails there.
    fn statement(&mut self, name: &[u8], session: &Session) -> Option<Arc<Statement>> {
        if !name.is_empty() {
            if let Some(statement) = self.find(name, session) {
                self.note(&statement, session);
                return Some(statement);
            }
            let name = String::from_utf8_lossy(name);
            self.fail("26000", format!("prepared statement \"{name}\" does not exist"));
            return None;
        }
        let newest = self.changes.iter().rev().find_map(|(_, change)| match change {
            Change::Unnamed(statement) => Some(Some(Arc::clone(statement))),
            Change::ForgetUnnamed => Some(None),
            _ => None,
        });
        match newest {
            // Its Parse is on the way.
            Some(Some(statement)) => Some(statement),
            None if session.unnamed.is_some() => {
                let statement = session.unnamed.clone()?;
                self.note(&statement, session);
                self.steps.push(Step::Unnamed(Arc::clone(&statement)));
                Some(statement)
            }
            _ => {
                self.fail("26000", "unnamed prepared statement does not exist".to_owned());
                None
            }
        }
    }

    fn close(&mut self, message: &'u [u8], session: &Session) -> Result<(), ProtocolError> {
        let target = Target::read(message)?;
        self.parses += 1;
        if target.kind == TargetKind::Statement && target.name.is_empty() {
            self.changes.push((self.parses, Change::ForgetUnnamed));
        } else if target.kind == TargetKind::Statement {
            // It stays prepared on servers, where others may use it. Closing what does not exist is no error.
            if self.find(target.name, session).is_some() {
                self.forgotten += 1;
                self.changes.push((self.parses, Change::Forget(target.name.into())));
            }
            let mut answer = Vec::new();
            to_client::close_complete(&mut answer);
            self.steps.push(Step::Ready(answer));
            return Ok(());
        }
        self.steps.push(Step::Forward(tag::CLOSE, message));
        Ok(())
    }

    /// The statement that has this name at this point of the unit.
    fn find(&self, name: &[u8], session: &Session) -> Option<Arc<Statement>> {
        let changed = self.changes.iter().rev().find_map(|(_, change)| match change {
            Change::Define(defined, statement) if &**defined == name => Some(Some(Arc::clone(statement))),
            Change::Forget(forgotten) if &**forgotten == name => Some(None),
            _ => None,
        });
        changed.unwrap_or_else(|| session.statements.get(name).cloned())
    }

    /// To be called when the plans are there: servers do not know the names that a DEALLOCATE in a batch may have.
    pub fn resolve(&mut self, session: &Session) {
        self.is_plain = self.runs.iter().all(|entry| entry.plan().is_some_and(Plan::leaves_the_session));
        for (step, change, entry) in std::mem::take(&mut self.deallocations).into_iter().rev() {
            let Some(plan) = entry.plan() else { continue };
            let [Effect::Deallocate { name: Some(name) }] = &plan.effects[..] else { continue };
            if plan.statements == 1 && self.find(name.as_bytes(), session).is_some() {
                self.steps[step] = Step::Deallocate;
                let parses = self.changes[change - 1].0;
                self.changes.insert(change, (parses, Change::Forget(name.as_bytes().into())));
            }
        }
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
        is_commit && self.steps.iter().all(|step| !matches!(step, Step::Deallocate | Step::Failing(_)))
    }

    /// Whether it is a batch that may write and does nothing to the session or to its transaction: its end commits it.
    pub fn is_plain_write(&self) -> bool {
        let is_plain = |entry: &Arc<Entry>| {
            entry.plan().is_some_and(|plan| plan.statements == 1 && plan.effects.is_empty() && plan.pins.is_empty())
                && !entry.may_copy()
        };
        !self.runs.is_empty()
            && !self.is_harmless(Role::Primary)
            && self.runs.iter().all(is_plain)
            && self.steps.iter().all(|step| !matches!(step, Step::Deallocate | Step::Failing(_)))
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
                Step::Forward(tag::EXECUTE, _) => to_client::command_complete(&mut out, "COMMIT"),
                Step::Forward(tag::CLOSE, _) => to_client::close_complete(&mut out),
                Step::Forward(tag::QUERY, _) => {
                    to_client::command_complete(&mut out, "COMMIT");
                    to_client::ready_for_query(&mut out, TransactionStatus::Idle);
                }
                Step::Forward(tag::SYNC, _) => to_client::ready_for_query(&mut out, TransactionStatus::Idle),
                Step::Ready(answer) => out.extend_from_slice(answer),
                Step::Forward(..) | Step::Unnamed(_) | Step::Deallocate | Step::Failing(_) => {}
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
