//! What matters of a unit where a replica may refuse it.

use smallvec::SmallVec;

use super::super::protocol::fields::{self, Bind, Execute, Parse};
use super::super::protocol::frame;
use super::super::protocol::report::Report;
use super::super::protocol::tag::to_server as tag;
use super::super::unit::End;
use super::{Step, Survey};

impl Survey<'_> {
    /// The texts of those that are run, in order. None: something is run that was not bound here, or bound and not run, so
    /// that it cannot be done again elsewhere.
    pub fn texts(&self) -> Option<SmallVec<[&[u8]; 2]>> {
        let (mut texts, mut unnamed) = (SmallVec::<[&[u8]; 2]>::new(), &[][..]);
        let mut bound: SmallVec<[(&[u8], &[u8]); 2]> = SmallVec::new();
        for step in &self.steps {
            match step {
                Step::Forward(tag::QUERY, message) => texts.extend(fields::query(message).ok()),
                Step::Forward(tag::PARSE, message) => {
                    unnamed = Parse::read(message).map_or(&[][..], |parse| parse.query);
                }
                Step::Unnamed(statement) => unnamed = &statement.text,
                Step::Forward(tag::BIND, message) => bound.push((Bind::read(message).ok()?.portal, unnamed)),
                Step::Bind(bind, statement) => bound.push((bind.portal, &statement.text)),
                Step::Execute(message, _) => {
                    let portal = Execute::read(message).ok()?.portal;
                    let at = bound.iter().rposition(|(name, _)| *name == portal)?;
                    texts.push(bound.remove(at).1);
                }
                _ => {}
            }
        }
        bound.is_empty().then_some(texts)
    }

    /// The number of the function that a call asks for.
    pub fn call(&self) -> Option<u32> {
        match &self.steps[..] {
            [Step::Forward(tag::FUNCTION_CALL, message)] => {
                message.get(frame::HEADER..frame::HEADER + 4)?.try_into().ok().map(u32::from_be_bytes)
            }
            _ => None,
        }
    }

    /// A unit that fails with this on its server, in place of one that ends so.
    pub fn failing(report: &Report, end: End) -> Self {
        let mut error = Vec::new();
        report.write_error(&mut error);
        let last: &[u8] = if matches!(end, End::Flush { .. }) { &[b'H', 0, 0, 0, 4] } else { &[b'S', 0, 0, 0, 4] };
        let mut survey = Self::default();
        survey.steps.push(Step::Failing(error));
        survey.steps.push(Step::Forward(last[0], last));
        survey
    }

    /// Whether what is run is several statements: a replica may refuse one behind an answer to another.
    pub fn has_several(&self) -> bool {
        self.runs.len() > 1 || self.runs.iter().filter_map(|entry| entry.plan()).any(|plan| plan.statements > 1)
    }
}
