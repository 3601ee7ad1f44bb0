//! What a unit asks for, read once: its statements, what they are called here and on servers, and what is answered without
//! asking. Nothing of a session changes here; `session` takes over what has succeeded, afterwards.

use std::borrow::Cow;
use std::sync::Arc;

use super::group::Group;
use super::lexer;
use super::plan::{Effect, Entry};
use super::protocol::ProtocolError;
use super::protocol::fields::{self, Bind, Execute, Parse, Target, TargetKind};
use super::protocol::frame;
use super::protocol::messages::to_client;
use super::protocol::report::Report;
use super::protocol::tag::to_server as tag;
use super::session::Session;
use super::statement::Statement;
use super::unit::{End, Unit};

/// Prepared statements of one session.
const STATEMENTS_MAX: usize = 10_000;

/// One message, or what stands for it.
#[derive(Debug)]
pub enum Step<'u> {
    /// Goes on as it is, and is answered as its tag says.
    Forward(u8, &'u [u8]),
    Parse(Parse<'u>, Arc<Statement>),
    Bind(Bind<'u>, Arc<Statement>),
    Describe(Target<'u>, Arc<Statement>),
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

#[derive(Debug, Default)]
pub struct Survey<'u> {
    pub steps: Vec<Step<'u>>,
    /// Distinct statements that are prepared or run, in order.
    pub entries: Vec<Arc<Entry>>,
    /// Changes of names, each with the number of Parse messages up to it.
    pub changes: Vec<(usize, Change)>,
    /// Something is run, not only prepared or described.
    pub executes: bool,
    /// The text of a simple query.
    pub query: Option<Cow<'u, str>>,
    parses: usize,
}

impl<'u> Survey<'u> {
    pub fn of(bytes: &'u [u8], unit: Unit, session: &Session, group: &Group) -> Result<Self, ProtocolError> {
        let mut survey = Self::default();
        match unit.end {
            End::Query => survey.query(bytes, group)?,
            End::Call => {
                survey.executes = true;
                survey.steps.push(Step::Forward(tag::FUNCTION_CALL, bytes));
            }
            End::Sync | End::Flush { .. } | End::Terminate => survey.batch(bytes, session, group)?,
        }
        Ok(survey)
    }

    fn query(&mut self, bytes: &'u [u8], group: &Group) -> Result<(), ProtocolError> {
        let text = fields::query(bytes)?;
        self.entries.push(entry(group, text));
        self.executes = true;
        self.query = Some(String::from_utf8_lossy(text));
        self.steps.push(Step::Forward(tag::QUERY, bytes));
        Ok(())
    }

    fn batch(&mut self, bytes: &'u [u8], session: &Session, group: &Group) -> Result<(), ProtocolError> {
        let mut at = 0;
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
                if bytes.len() >= frame::HEADER && bytes[bytes.len() - frame::HEADER] == tag::SYNC && at < bytes.len() {
                    self.steps.push(Step::Forward(tag::SYNC, &bytes[bytes.len() - frame::HEADER..]));
                }
                break;
            }
        }
        Ok(())
    }

    fn parse(&mut self, message: &'u [u8], session: &Session, group: &Group) -> Result<(), ProtocolError> {
        let parse = Parse::read(message)?;
        let entry = entry(group, parse.query);
        self.entries.push(Arc::clone(&entry));
        self.parses += 1;
        if parse.name.is_empty() {
            let statement = Arc::new(group.statements.make(parse.query, parse.types, &entry));
            self.changes.push((self.parses, Change::Unnamed(statement)));
            self.steps.push(Step::Forward(tag::PARSE, message));
            return Ok(());
        }
        if self.find(parse.name, session).is_some() {
            let name = String::from_utf8_lossy(parse.name);
            self.fail("42P05", format!("prepared statement \"{name}\" already exists"));
        } else if session.statements.len() + self.changes.len() >= STATEMENTS_MAX {
            self.fail("54000", format!("the session has {STATEMENTS_MAX} prepared statements already"));
        } else {
            let statement = group.statements.intern(parse.query, parse.types, &entry);
            self.changes.push((self.parses, Change::Define(parse.name.into(), Arc::clone(&statement))));
            self.steps.push(Step::Parse(parse, statement));
        }
        Ok(())
    }

    fn bind(&mut self, message: &'u [u8], session: &Session) -> Result<(), ProtocolError> {
        let bind = Bind::read(message)?;
        let Some(statement) = self.statement(bind.statement, session) else { return Ok(()) };
        if let Some(statement) = statement {
            self.steps.push(Step::Bind(bind, statement));
        } else {
            self.steps.push(Step::Forward(tag::BIND, message));
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
        if let Some(statement) = statement {
            self.steps.push(Step::Describe(target, statement));
        } else {
            self.steps.push(Step::Forward(tag::DESCRIBE, message));
        }
        Ok(())
    }

    /// The statement that is meant: `Some(None)` is the unnamed one, which the connection will hold. `None`: there is none,
    /// and the unit fails there.
    #[allow(clippy::option_option)] // Three answers, each used once.
    fn statement(&mut self, name: &[u8], session: &Session) -> Option<Option<Arc<Statement>>> {
        if !name.is_empty() {
            if let Some(statement) = self.find(name, session) {
                self.note(&statement);
                return Some(Some(statement));
            }
            let name = String::from_utf8_lossy(name);
            self.fail("26000", format!("prepared statement \"{name}\" does not exist"));
            return None;
        }
        let newest = self.changes.iter().rev().find_map(|(_, change)| match change {
            Change::Unnamed(statement) => Some(Some(statement)),
            Change::ForgetUnnamed => Some(None),
            _ => None,
        });
        match newest {
            // Its Parse is on the way.
            Some(Some(_)) => Some(None),
            None if session.unnamed.is_some() => {
                let statement = session.unnamed.clone()?;
                self.note(&statement);
                self.steps.push(Step::Unnamed(statement));
                Some(None)
            }
            _ => {
                self.fail("26000", "unnamed prepared statement does not exist".to_owned());
                None
            }
        }
    }

    fn close(&mut self, message: &'u [u8], session: &Session) -> Result<(), ProtocolError> {
        let target = Target::read(message)?;
        if target.kind == TargetKind::Statement && target.name.is_empty() {
            self.changes.push((self.parses, Change::ForgetUnnamed));
        } else if target.kind == TargetKind::Statement {
            // It stays prepared on servers, where others may use it. Closing what does not exist is no error.
            if self.find(target.name, session).is_some() {
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

    fn note(&mut self, statement: &Statement) {
        self.entries.push(Arc::clone(&statement.entry));
    }

    fn fail(&mut self, code: &str, message: String) {
        let mut error = Vec::new();
        Report::error(code, message).write_error(&mut error);
        self.steps.push(Step::Failing(error));
    }

    /// Whether it changes nothing that others can see, so that it may be repeated even when it may have been done already.
    pub fn is_harmless(&self) -> bool {
        if !self.executes {
            return true;
        }
        !self.entries.is_empty()
            && self.entries.iter().all(|entry| {
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
                let is_read = plan.access == super::plan::Access::Read && !entry.was_learnt();
                is_read || plan.statements as usize == plan.effects.len() && plan.effects.iter().all(only_session)
            })
    }

    /// Effects of all its statements, in order.
    pub fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.entries.iter().filter_map(|entry| entry.plan()).flat_map(|plan| &plan.effects)
    }
}

/// The plan's entry of a statement.
fn entry(group: &Group, text: &[u8]) -> Arc<Entry> {
    thread_local! {
        static KEY: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    KEY.with_borrow_mut(|key| {
        key.clear();
        lexer::key(text, key);
        group.plans.entry(key, &String::from_utf8_lossy(text))
    })
}
