//! Which connections may serve a unit, by what they keep of the sessions before: custom settings that are empty there and were
//! never made here, and temporary objects, after which `temp_buffers` cannot be set.

use super::audit::is_custom;
use super::connection::Connection;
use super::plan::{Audit, Effect, Plan};
use super::settings::Settings;
use super::survey::Survey;

/// What a unit must not find on its connection.
#[derive(Debug, Default)]
pub struct Fitness {
    /// Settings that the session has made; of these it knows that they are there.
    settings: Settings,
    reads: Reads,
    /// It sets `temp_buffers`.
    before_temporary: bool,
    /// A connection on which nothing was ever set is wanted.
    unused: bool,
}

/// Custom settings that a unit may read.
#[derive(Debug, Default)]
enum Reads {
    #[default]
    None,
    Named(Vec<Box<str>>),
    Any,
}

impl Fitness {
    /// For a session that has made `settings`.
    pub fn of(survey: &Survey<'_>, settings: &Settings) -> Self {
        let reads = survey.entries.iter().filter_map(|entry| entry.plan()).fold(Reads::None, Reads::and);
        let reads = if survey.executes && survey.runs.is_empty() { Reads::Any } else { reads };
        let sets = survey.effects().any(|effect| matches!(effect, Effect::Set { name, .. } if name == "temp_buffers"));
        let before_temporary = sets || settings.get("temp_buffers").is_some();
        Self { settings: settings.clone(), reads, before_temporary, unused: false }
    }

    /// From now on only a connection that serves its first session will do.
    pub fn want_unused(&mut self) {
        self.unused = true;
    }

    /// Whether nothing has to be done to the connection before the session can use it.
    pub fn is_met_as_it_is_by(&self, connection: &Connection) -> bool {
        connection.settings.is_same(&self.settings) && self.is_met_by(connection)
    }

    pub fn is_met_by(&self, connection: &Connection) -> bool {
        let past = &connection.past;
        if self.unused {
            return past.served == 0;
        }
        if past.is_blank() {
            return true;
        }
        if self.before_temporary && past.has_used_temporary {
            return false;
        }
        let is_foreign = |name: &str| past.placeholders.contains(name) && self.settings.get(name).is_none();
        match &self.reads {
            Reads::None => true,
            Reads::Named(names) => !names.iter().any(|name| is_foreign(name)),
            Reads::Any => !past.placeholders.iter().any(|name| is_foreign(name)),
        }
    }
}

impl Reads {
    fn and(self, plan: &Plan) -> Self {
        // What is read later on the same connection is not known at the beginning of a transaction, nor when the session may have
        // to keep the connection.
        let begins = plan.effects.iter().any(|effect| matches!(effect, Effect::Begin { .. }));
        let opens = begins || !plan.pins.is_empty() || plan.audit != Audit::None;
        let resets = plan.effects.iter().filter_map(|effect| match effect {
            Effect::Reset { name: Some(name) } | Effect::Show { name } | Effect::Set { name, to_default: true, .. } => {
                Some(name.as_str()).filter(|name| is_custom(name))
            }
            _ => None,
        });
        let named = match &plan.reads_custom {
            None => return Self::Any,
            _ if opens => return Self::Any,
            Some(names) => names.iter().map(AsRef::as_ref).chain(resets).map(Box::from),
        };
        match self {
            Self::Any => Self::Any,
            Self::None => {
                Some(named.collect::<Vec<_>>()).filter(|names| !names.is_empty()).map_or(Self::None, Self::Named)
            }
            Self::Named(mut all) => {
                all.extend(named);
                Self::Named(all)
            }
        }
    }
}
