//! Plans: what the planner (Python) says of a statement, once per distinct statement and version of the catalogue.
//!
//! `entry` is a statement with its plan, `cache` finds it by its key, `queue` takes it to the planner and back.

use std::sync::LazyLock;

use serde::Deserialize;

mod cache;
mod entry;
mod queue;

pub use cache::{Definition, Plans};
pub use entry::{Entry, Lesson};
pub use queue::{Place, Question, Queue};

/// Whether a statement may go to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    Write,
}

/// What a statement does to its session. Kinds that the gateway has no use for are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    Begin {
        read_only: Option<bool>,
        /// The isolation level's name, where it says one.
        #[serde(default)]
        isolation: Option<String>,
    },
    Commit {
        /// Another transaction begins at once.
        #[serde(default)]
        chain: bool,
    },
    Rollback {},
    Set {
        name: String,
        scope: Scope,
        to_default: bool,
        /// The text of the value, where it is a single constant.
        value: Option<String>,
        /// What makes the same setting on another connection, where that can be told.
        sql: Option<String>,
    },
    Reset {
        name: Option<String>,
    },
    Discard {
        what: String,
    },
    Deallocate {
        name: Option<String>,
    },
    Show {
        name: String,
    },
    PrepareTransaction {},
    Savepoint {
        name: String,
    },
    Release {
        name: String,
    },
    RollbackTo {
        name: String,
    },
    /// The client sends data while it runs.
    CopyIn {},
    /// A statement that SQL can run by this name.
    Prepare {
        name: String,
    },
    /// Runs one.
    Execute {
        name: String,
    },
    /// Results of other statements may have other columns from now on.
    Define {},
    /// Concerns connections to a database (all: none is named) that nobody uses: they stand in its way, or are out of date
    /// after it.
    Vacate {
        database: Option<String>,
    },
    #[serde(other)]
    Other,
}

impl Effect {
    /// Whether all prepared statements of the server connection are gone after it.
    pub fn forgets_statements(&self) -> bool {
        match self {
            Self::Deallocate { name } => name.is_none(),
            Self::Discard { what } => what == "all",
            _ => false,
        }
    }

    /// Whether it changes settings that outlive the transaction.
    pub fn changes_settings(&self) -> bool {
        match self {
            Self::Set { scope, .. } => *scope == Scope::Session,
            Self::Reset { .. } => true,
            Self::Discard { what } => what == "all",
            _ => false,
        }
    }

    /// The prepared statement that it is about, as SQL names it.
    pub fn named_statement(&self) -> Option<&str> {
        match self {
            Self::Prepare { name } | Self::Execute { name } => Some(name),
            Self::Deallocate { name } => name.as_deref(),
            _ => None,
        }
    }

    /// Whether others may see something of it.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Other | Self::CopyIn {} | Self::Execute { .. } | Self::Define {} | Self::Vacate { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Session,
    Local,
}

/// What a statement is to a READ ONLY transaction that began on a replica; `trimaran.databases.planner.standby`. From the best
/// to the worst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standby {
    /// It reads nothing, and does the same at the beginning of the transaction on another server.
    Replay,
    /// A replica serves it.
    Serve,
    /// The primary is to serve it, while the transaction has read nothing.
    #[default]
    Move,
    /// A replica would do it for itself alone, or keep state of the session.
    Never,
}

/// The planner's answer; `trimaran.databases.planner.Plan`. It may know more than the gateway reads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Plan {
    pub access: Access,
    pub effects: Vec<Effect>,
    /// Why the session must keep its server connection from now on.
    pub pins: Vec<String>,
    /// Such reasons that end with it.
    pub unpins: Vec<String>,
    pub statements: u32,
    pub reason: String,
    /// `primary` or `replica`, as a comment of the client says.
    pub hint: Option<String>,
    /// It was not understood: the plan holds for this very text only.
    pub doubtful: bool,
    /// It calls a function that may be the user's, and do anything where that is possible.
    #[serde(default)]
    pub may_write: bool,
    #[serde(default)]
    pub standby: Standby,
    /// What the server has to be asked about the session once it was run.
    #[serde(default)]
    pub audit: Audit,
    /// Names of custom settings (`app.tenant`) that unseen code may make.
    #[serde(default)]
    pub custom: Vec<Box<str>>,
    /// Unseen code may make custom settings under names that nobody knows.
    #[serde(default)]
    pub unknown_settings: bool,
    /// Names of custom settings that it may read; any, where there is none.
    #[serde(default)]
    pub reads_custom: Option<Vec<Box<str>>>,
    /// It may define something that its text does not show.
    #[serde(default)]
    pub may_define: bool,
    /// It uses temporary objects, at least until the end of its transaction.
    #[serde(default)]
    pub temp: bool,
    /// It was made without the catalogue, and is made again soon.
    #[serde(default)]
    pub provisional: bool,
    /// Which statement of the text each effect is of, from zero.
    #[serde(default)]
    pub effects_at: Vec<usize>,
    /// The same for pins.
    #[serde(default)]
    pub pins_at: Vec<usize>,
}

/// What code that a statement's text does not show may have changed in its session, so that the server has to be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audit {
    #[default]
    None,
    /// Advisory locks, temporary objects, cursors, channels, statements prepared in SQL.
    State,
    /// Those and settings.
    Settings,
}

impl Plan {
    /// Effects of the first statements of the text.
    pub fn effects_of_first(&self, statements: usize) -> impl Iterator<Item = &Effect> {
        self.effects_with_places().filter(move |(at, _)| *at < statements).map(|(_, effect)| effect)
    }

    /// All effects, with which statement each is of.
    pub fn effects_with_places(&self) -> impl Iterator<Item = (usize, &Effect)> {
        let at = self.effects_at.iter().chain(std::iter::repeat(&0));
        self.effects.iter().zip(at).map(|(effect, at)| (*at, effect))
    }

    /// Pins of the first statements of the text.
    pub fn pins_of_first(&self, statements: usize) -> impl Iterator<Item = &String> {
        let at = self.pins_at.iter().chain(std::iter::repeat(&0));
        self.pins.iter().zip(at).filter(move |(_, at)| **at < statements).map(|(pin, _)| pin)
    }

    /// Whether the client sends data while it runs.
    pub fn copies_in(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::CopyIn {}))
    }

    /// Whether it does nothing to its session.
    pub fn leaves_the_session(&self) -> bool {
        self.effects.is_empty() && self.pins.is_empty() && self.unpins.is_empty() && self.audit == Audit::None
    }

    /// Of a statement that was not planned in time: the primary runs it, and is asked what it has done.
    pub fn unplanned() -> &'static Self {
        static UNPLANNED: LazyLock<Plan> = LazyLock::new(|| Plan::doubtful("it was not planned in time"));
        &UNPLANNED
    }

    pub fn is_unplanned(&self) -> bool {
        std::ptr::eq(self, Self::unplanned())
    }

    /// For what cannot be planned: the primary runs it, and is asked afterwards what it has done to the session.
    pub fn doubtful(reason: &str) -> Self {
        Self {
            access: Access::Write,
            effects: Vec::new(),
            pins: Vec::new(),
            unpins: Vec::new(),
            statements: 1,
            reason: reason.to_owned(),
            hint: None,
            doubtful: true,
            may_write: true,
            audit: Audit::Settings,
            custom: Vec::new(),
            unknown_settings: false,
            reads_custom: None,
            may_define: true,
            temp: true,
            provisional: false,
            effects_at: Vec::new(),
            pins_at: Vec::new(),
            standby: Standby::Never,
        }
    }
}

#[cfg(test)]
mod tests;
