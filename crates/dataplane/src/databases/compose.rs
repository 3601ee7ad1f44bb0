//! From a survey to what is sent on one connection, and what is expected of it. Done anew for each connection that a unit
//! is tried on, because each knows other statements.

use super::connection::Connection;
use super::expect::{Expect, Expectations};
use super::plan::Effect;
use super::protocol::fields::TargetKind;
use super::protocol::messages::{to_client, to_server};
use super::protocol::tag::to_server as tag;
use super::statement::{NAME, Statement};
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
}

impl Composed {
    /// A query of our own ahead of everything; its answer is kept from the client.
    pub fn own_query(&mut self, sql: &str, expect: &mut Expectations) {
        to_server::query(&mut self.ours, sql.as_bytes());
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
        self.as_it_is = !cut
            && question.is_none()
            && survey.steps.iter().all(|step| match step {
                Step::Forward(..) => true,
                Step::Unnamed(statement) => connection.unnamed == Some((number, statement.id)),
                _ => false,
            });
        if survey.effects().any(Effect::forgets_statements) {
            // When exactly nobody can tell; what is needed is prepared again.
            connection.prepared.forget();
        }
        if !self.as_it_is {
            self.ours.reserve(REWRITTEN);
        }
        expect.reserve(survey.steps.len());
        for step in &survey.steps {
            if let (Some(sql), Step::Forward(tag::SYNC, _)) = (question, step) {
                self.ask_within(sql, connection, expect);
            }
            self.step(step, number, connection, expect);
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

    fn step(&mut self, step: &Step<'_>, number: u32, connection: &mut Connection, expect: &mut Expectations) {
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
            Step::Parse(parse, statement) => {
                if connection.prepared.has(statement.id) {
                    let mut answer = Vec::new();
                    to_client::parse_complete(&mut answer);
                    expect.push(Expect::Ready(answer));
                } else {
                    let name = statement.name();
                    self.close_leftover(name.as_bytes(), connection, expect);
                    parse.write_as(name.as_bytes(), &mut self.ours);
                    expect.push(Expect::Parse { own: false, id: Some(statement.id) });
                    self.make_room(statement.id, connection, expect);
                }
            }
            Step::Bind(bind, statement) => {
                self.ensure(statement, connection, expect);
                bind.write_as(statement.name().as_bytes(), &mut self.ours);
                expect.push(Expect::Bind);
            }
            Step::Describe(target, statement) => {
                debug_assert!(target.kind == TargetKind::Statement);
                self.ensure(statement, connection, expect);
                target.write_as(statement.name().as_bytes(), &mut self.ours);
                expect.push(Expect::Describe);
            }
            Step::Deallocate => {
                // There must be something that goes; and what is gone already is prepared when it is needed.
                let gone = format!("{NAME}gone");
                to_server::close_statement(&mut self.ours, gone.as_bytes());
                expect.push(Expect::Close { own: true });
                to_server::parse(&mut self.ours, gone.as_bytes(), b"", &[]);
                expect.push(Expect::Parse { own: true, id: None });
                to_server::parse(&mut self.ours, b"", format!("DEALLOCATE {gone}").as_bytes(), &[]);
                expect.push(Expect::Parse { own: false, id: None });
                connection.unnamed = None;
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

    /// Sees to it that the connection has the statement.
    fn ensure(&mut self, statement: &Statement, connection: &mut Connection, expect: &mut Expectations) {
        if !connection.prepared.has(statement.id) {
            let name = statement.name();
            self.close_leftover(name.as_bytes(), connection, expect);
            self.prepare(name.as_bytes(), statement);
            expect.push(Expect::Parse { own: true, id: Some(statement.id) });
            self.make_room(statement.id, connection, expect);
        }
    }

    /// Closing what does not exist is no error.
    fn close_leftover(&mut self, name: &[u8], connection: &Connection, expect: &mut Expectations) {
        if connection.prepared.leftovers {
            to_server::close_statement(&mut self.ours, name);
            expect.push(Expect::Close { own: true });
        }
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
