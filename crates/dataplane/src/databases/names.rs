//! Names of prepared statements in what a server reports: clients read those that they have given.

use std::collections::HashMap;
use std::sync::Arc;

use super::plan::Effect;
use super::protocol::frame::HEADER;
use super::statement::{NAME, Statement, TAKEN};
use super::survey::{Step, Survey};

/// The names of a session, for the reports about one unit.
#[derive(Debug, Clone, Copy)]
pub struct Names<'n, 'u> {
    pub survey: &'n Survey<'u>,
    pub statements: &'n HashMap<Box<[u8]>, Arc<Statement>>,
}

impl Names<'_, '_> {
    /// An `ErrorResponse` or a `NoticeResponse` with the client's names in place of ours; `None` where it has none of ours.
    /// `answered` is how many of the unit's messages have been answered before.
    pub fn restore(&self, report: &[u8], answered: usize) -> Option<Vec<u8>> {
        if find(report).is_none() || self.survey.is_query {
            return None;
        }
        let step = self.survey.answered_step(answered);
        if Self::is_of_client(step) {
            return None;
        }
        let (mut out, mut rest, mut is_changed) = (report[..HEADER].to_vec(), &report[HEADER..], false);
        while let Some(at) = find(rest) {
            let (before, behind) = rest.split_at(at + NAME.len());
            let length = behind.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let (which, after) = behind.split_at(length);
            if let Some(name) = self.name(which, step) {
                out.extend_from_slice(&before[..at]);
                out.extend_from_slice(name);
                is_changed = true;
            } else {
                out.extend_from_slice(before);
                out.extend_from_slice(which);
            }
            rest = after;
        }
        out.extend_from_slice(rest);
        let length = u32::try_from(out.len() - 1).ok()?;
        out[1..HEADER].copy_from_slice(&length.to_be_bytes());
        is_changed.then_some(out)
    }

    /// Whether names in a report about this step are the client's already: it has sent them itself, or they stand in its SQL.
    fn is_of_client(step: Option<&Step<'_>>) -> bool {
        match step {
            Some(Step::Foreign(..)) => true,
            Some(Step::Execute(_, Some(entry))) => entry
                .plan()
                .is_some_and(|plan| plan.effects.iter().any(|effect| Effect::named_statement(effect).is_some())),
            _ => false,
        }
    }

    /// What the client calls the statement that is ours with this end of its name.
    fn name<'a>(&'a self, which: &[u8], step: Option<&'a Step<'_>>) -> Option<&'a [u8]> {
        let id = std::str::from_utf8(which).ok()?;
        let id = id.trim_end_matches('x').parse::<u64>().ok();
        let named = |step: &'a Step<'_>| match step {
            Step::Parse(parse, statement) if Some(statement.id) == id => Some(parse.name),
            Step::Taken(parse) if which == TAKEN.as_bytes() => Some(parse.name),
            Step::Bind(bind, statement) if Some(statement.id) == id => Some(bind.statement),
            Step::Describe(target, statement) if Some(statement.id) == id => Some(target.name),
            _ => None,
        };
        step.and_then(named).or_else(|| self.survey.steps.iter().find_map(named)).or_else(|| {
            let known = self.statements.iter().find(|(_, statement)| Some(statement.id) == id);
            known.map(|(name, _)| &**name)
        })
    }
}

fn find(text: &[u8]) -> Option<usize> {
    text.windows(NAME.len()).position(|window| window == NAME.as_bytes())
}
