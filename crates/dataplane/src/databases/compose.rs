//! From a survey to what is sent on one connection, and what is expected of it. Done anew for each connection that a unit
//! is tried on, because each knows other statements.

use super::connection::Connection;
use super::expect::{Expect, Expectations};
use super::plan::Effect;
use super::protocol::fields::TargetKind;
use super::protocol::messages::{to_client, to_server};
use super::protocol::tag::to_server as tag;
use super::statement::{NAME, Statement, TAKEN};
use super::survey::{Step, Survey};

/// Room for most units that are rewritten, in bytes.
const REWRITTEN: usize = 512;
/// Number of the statement that is our own question; those of clients count from zero.
const QUESTION: u64 = u64::MAX;

/// What to send.
#[derive(Debug, Default)]
pub struct Composed {
    /// Ours, or a rewritten unit.
    pub ours: Vec<u8>,
    /// Whether the client's own bytes follow as they are.
    pub as_it_is: bool,
    /// The session's transaction has failed.
    pub is_failed: bool,
}

impl Composed {
    /// A query of our own ahead of everything; its answer is kept from the client.
    pub fn own_query(&mut self, sql: &str, expect: &mut Expectations) {
        to_server::query(&mut self.ours, sql.as_bytes());
        expect.push(Expect::Own);
    }

    /// A statement that a client has sent before, as a query of our own.
    pub fn own_statement(&mut self, text: &[u8], expect: &mut Expectations) {
        to_server::query(&mut self.ours, text);
        expect.push(Expect::Own);
    }

    /// A question of our own ahead of everything, with one value as its answer. Like every simple query it ends the
    /// connection's unnamed statement.
    pub fn ask(&mut self, sql: &str, connection: &mut Connection, expect: &mut Expectations) {
        to_server::query(&mut self.ours, sql.as_bytes());
        connection.unnamed = None;
        expect.push(Expect::Ask);
    }

    /// The unit, for a session of this number.
    ///
    /// `cut` says that it is a part of a long pipeline: the server is asked to show what it has so far. `question` is asked
    /// ahead of its Sync, in the transaction that ends there, and answered before that does.
    pub fn unit(
        &mut self,
        survey: &Survey<'_>,
        number: u32,
        cut: bool,
        question: Option<&str>,
        connection: &mut Connection,
        expect: &mut Expectations,
    ) {
        // A failed statement may have kept them from being closed.
        let exposed = std::mem::take(&mut connection.exposed);
        self.as_it_is = !cut
            && question.is_none()
            && exposed.is_empty()
            && survey.steps.iter().all(|step| match step {
                Step::Forward(..) | Step::Execute(..) => true,
                Step::Unnamed(statement) => connection.unnamed == Some((number, statement.id)),
                _ => false,
            });
        if survey.is_query && survey.effects().any(Effect::forgets_statements) {
            connection.prepared.forget();
        }
        if !self.as_it_is {
            self.ours.reserve(REWRITTEN);
        }
        expect.reserve(survey.steps.len());
        for name in exposed {
            self.close(&name, expect);
        }
        for step in &survey.steps {
            if let (Some(sql), Step::Forward(tag::SYNC, _)) = (question, step) {
                self.ask_within(sql, connection, expect);
            }
            self.step(step, survey.is_query, number, connection, expect);
        }
        if cut {
            to_server::flush(&mut self.ours);
        }
    }

    fn ask_within(&mut self, sql: &str, connection: &mut Connection, expect: &mut Expectations) {
        let name = format!("{NAME}{QUESTION}");
        if !connection.prepared.has(QUESTION) {
            self.close_leftover(name.as_bytes(), connection, expect);
            to_server::parse(&mut self.ours, name.as_bytes(), sql.as_bytes(), &[]);
            expect.push(Expect::Parse { own: true, id: Some(QUESTION) });
            self.make_room(QUESTION, connection, expect);
        }
        to_server::bind(&mut self.ours, b"", name.as_bytes(), &[]);
        to_server::execute(&mut self.ours, b"", 0);
        to_server::flush(&mut self.ours);
        expect.push(Expect::AskBind);
        expect.push(Expect::AskExecute);
    }

    fn step(
        &mut self,
        step: &Step<'_>,
        is_query: bool,
        number: u32,
        connection: &mut Connection,
        expect: &mut Expectations,
    ) {
        match step {
            Step::Forward(kind, message) => {
                if !self.as_it_is {
                    self.ours.extend_from_slice(message);
                }
                if matches!(*kind, tag::PARSE | tag::QUERY) {
                    connection.unnamed = None;
                }
                if let Some(answer) = answer_to(*kind) {
                    expect.push(answer);
                }
            }
            Step::Execute(message, entry) => {
                if !self.as_it_is {
                    self.ours.extend_from_slice(message);
                }
                let plan = entry.as_ref().and_then(|entry| entry.plan());
                if plan.is_some_and(|plan| plan.effects.iter().any(Effect::forgets_statements)) {
                    connection.prepared.forget();
                }
                expect.push(Expect::Execute);
            }
            Step::Parse(parse, statement) => {
                let name = connection.name_of(statement);
                if !connection.prepared.has(statement.id) {
                    self.close_leftover(name.as_bytes(), connection, expect);
                } else if self.is_failed {
                    // A failed transaction takes only the statements that end it.
                    self.close(name.as_bytes(), expect);
                } else {
                    let mut answer = Vec::new();
                    to_client::parse_complete(&mut answer);
                    return expect.push(Expect::Ready(answer));
                }
                parse.write_as(name.as_bytes(), &mut self.ours);
                expect.push(Expect::Parse { own: false, id: Some(statement.id) });
                self.make_room(statement.id, connection, expect);
            }
            Step::Taken(parse) => {
                let taken = format!("{NAME}{TAKEN}");
                self.close(taken.as_bytes(), expect);
                to_server::parse(&mut self.ours, taken.as_bytes(), b"", &[]);
                connection.exposed.push(taken.as_bytes().into());
                expect.push(Expect::Parse { own: true, id: None });
                parse.write_as(taken.as_bytes(), &mut self.ours);
                expect.push(Expect::Parse { own: false, id: None });
            }
            Step::Foreign(name, message) => {
                self.keep(name, connection, expect);
                self.ours.extend_from_slice(message);
                if let Some(answer) = answer_to(message[0]) {
                    expect.push(answer);
                }
            }
            Step::NoUnnamed => {
                self.close(b"", expect);
                connection.unnamed = None;
            }
            Step::Show(name, statement) => self.show(name, statement, is_query, connection, expect),
            Step::Hide(name) => self.hide(name, is_query, connection, expect),
            Step::Keep(name) => self.keep(name, connection, expect),
            Step::Bind(bind, statement) => {
                self.ensure(statement, connection, expect);
                bind.write_as(connection.name_of(statement).as_bytes(), &mut self.ours);
                expect.push(Expect::Bind);
            }
            Step::Describe(target, statement) => {
                debug_assert!(target.kind == TargetKind::Statement);
                self.ensure(statement, connection, expect);
                target.write_as(connection.name_of(statement).as_bytes(), &mut self.ours);
                expect.push(Expect::Describe);
            }
            Step::Unnamed(statement) => {
                if connection.unnamed != Some((number, statement.id)) {
                    self.prepare(b"", statement);
                    expect.push(Expect::Parse { own: true, id: None });
                    connection.unnamed = Some((number, statement.id));
                }
            }
            Step::Ready(answer) => expect.push(Expect::Ready(answer.clone())),
            Step::Failing(error) => {
                // No statement has this name, so the server fails here, and undoes what the batch has done so far.
                to_server::bind(&mut self.ours, b"", format!("{NAME}none").as_bytes(), &[]);
                expect.push(Expect::Failing(error.clone()));
            }
        }
    }

    /// Prepares a statement under the client's own name, for SQL to find it. Where the transaction has failed, nothing is run.
    fn show(
        &mut self,
        name: &[u8],
        statement: &Statement,
        is_query: bool,
        connection: &mut Connection,
        expect: &mut Expectations,
    ) {
        if self.is_failed {
            return;
        }
        self.keep(name, connection, expect);
        self.prepare(name, statement);
        connection.exposed.push(name.into());
        if is_query {
            // An error must not make the server ignore the query.
            to_server::sync(&mut self.ours);
            expect.push(Expect::Own);
        } else {
            expect.push(Expect::Parse { own: true, id: None });
        }
    }

    fn hide(&mut self, name: &[u8], is_query: bool, connection: &mut Connection, expect: &mut Expectations) {
        if self.is_failed {
            return;
        }
        self.close(name, expect);
        connection.exposed.retain(|exposed| **exposed != *name);
        if is_query {
            to_server::flush(&mut self.ours);
        }
    }

    /// Sees to it that the connection has the statement.
    fn ensure(&mut self, statement: &Statement, connection: &mut Connection, expect: &mut Expectations) {
        if !connection.prepared.has(statement.id) {
            let name = connection.name_of(statement);
            self.close_leftover(name.as_bytes(), connection, expect);
            self.prepare(name.as_bytes(), statement);
            expect.push(Expect::Parse { own: true, id: Some(statement.id) });
            self.make_room(statement.id, connection, expect);
        }
    }

    /// Closing what does not exist is no error.
    fn close_leftover(&mut self, name: &[u8], connection: &Connection, expect: &mut Expectations) {
        if connection.prepared.leftovers {
            self.close(name, expect);
        }
    }

    fn close(&mut self, name: &[u8], expect: &mut Expectations) {
        to_server::close_statement(&mut self.ours, name);
        expect.push(Expect::Close { own: true });
    }

    /// Leaves a name that looks like ours to the client: what is prepared under it is closed, and prepared anew under another.
    fn keep(&mut self, name: &[u8], connection: &mut Connection, expect: &mut Expectations) {
        if !name.starts_with(NAME.as_bytes()) || connection.prepared.is_taken(name) {
            return;
        }
        self.close(name, expect);
        let name = String::from_utf8_lossy(name);
        if let Some(id) = name.strip_prefix(NAME).and_then(|id| id.parse().ok()) {
            connection.prepared.remove(id);
        }
        connection.prepared.take(&name);
    }

    fn prepare(&mut self, name: &[u8], statement: &Statement) {
        let types: Vec<u32> =
            statement.types.chunks_exact(4).map(|id| u32::from_be_bytes([id[0], id[1], id[2], id[3]])).collect();
        to_server::parse(&mut self.ours, name, &statement.text, &types);
    }

    /// The statement counts as prepared from here on; should it fail, `Expectations::prepared` does not have it.
    fn make_room(&mut self, id: u64, connection: &mut Connection, expect: &mut Expectations) {
        if let Some(oldest) = connection.prepared.add(id) {
            to_server::close_statement(&mut self.ours, format!("{NAME}{oldest}").as_bytes());
            expect.push(Expect::Close { own: true });
        }
        expect.hoped.push(id);
    }
}

/// What the server answers to a message that goes on as it is.
fn answer_to(kind: u8) -> Option<Expect> {
    Some(match kind {
        tag::PARSE => Expect::Parse { own: false, id: None },
        tag::BIND => Expect::Bind,
        tag::DESCRIBE => Expect::Describe,
        tag::EXECUTE => Expect::Execute,
        tag::CLOSE => Expect::Close { own: false },
        tag::SYNC => Expect::Sync,
        tag::QUERY => Expect::Query,
        tag::FUNCTION_CALL => Expect::Call,
        _ => return None,
    })
}
