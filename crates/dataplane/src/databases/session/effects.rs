//! What statements that were run do to their session: settings, savepoints, names of prepared statements.

use super::super::audit;
use super::super::causal::parse_position;
use super::super::connection::Connection;
use super::super::expect::Expectations;
use super::super::idle_timeout;
use super::super::plan::{Audit, Effect, Scope};
use super::super::reading::{changes_literals, reads_like_ascii};
use super::super::settings::{NO_ROLE, SETTINGS_MAX, Settings, statement_for};
use super::super::survey::Survey;
use super::{DATE_STYLE, ENCODING, FAILED, IDLE, OF_A_TRANSACTION, SAVEPOINTS_MAX, Session};

impl Session {
    pub(super) fn take_effects(&mut self, survey: &Survey<'_>, expect: &Expectations, connection: &mut Connection) {
        let was_pinned = !self.pins.is_empty();
        for (plan, statements) in survey.have_run(expect) {
            for effect in plan.effects_of_first(statements) {
                self.take_effect(effect, connection);
            }
            plan.pins_of_first(statements).filter(|pin| !audit::is_asked(pin)).for_each(|pin| self.keep(pin));
            // In a transaction it may still be undone; keeping the connection is then right, and else only a waste.
            if self.status == IDLE && !expect.failed {
                self.pins.retain(|pin| !plan.unpins.contains(pin) || audit::is_asked(pin));
            }
        }
        if was_pinned || !self.pins.is_empty() {
            self.client.keeps(self.pins.first());
        }
    }

    fn take_effect(&mut self, effect: &Effect, connection: &mut Connection) {
        if let Effect::Set { name, .. } | Effect::Reset { name: Some(name) } = effect
            && audit::is_custom(name)
        {
            // It is known from now on, even if this is undone.
            self.local_custom.push(name.clone());
        }
        if effect.changes_settings() && self.settings.act_as_another() {
            // Another role may make settings that the login may not make.
            self.need.at_least(Audit::Settings);
        }
        match effect {
            Effect::Set { scope: Scope::Local, name, .. } => self.reads_locally |= changes_literals(name),
            Effect::Set { name, .. } if OF_A_TRANSACTION.contains(&name.as_str()) => {}
            Effect::Set { name, value, .. } if name == "trimaran.after" => match value {
                Some(value) => self.horizon.after(parse_position(value).unwrap_or(u64::MAX)),
                None => self.keep("trimaran.after set by a parameter"),
            },
            Effect::Set { name, to_default: true, .. } | Effect::Reset { name: Some(name) } => {
                self.reset(name, connection);
            }
            Effect::Set { name, sql, .. } => match sql {
                // A character in another encoding than UTF-8 was lost on the way here.
                Some(sql) if self.settings.len() < SETTINGS_MAX && !sql.contains('\u{fffd}') => {
                    if name == "session_authorization" {
                        // Also where the session's start gave it a role.
                        self.settings.set("role", NO_ROLE);
                        connection.settings.set("role", NO_ROLE);
                    }
                    self.settings.set(name, sql);
                    connection.settings.set(name, sql);
                    if name == idle_timeout::NAME && idle_timeout::limit(&self.settings).is_none() {
                        self.keep("a setting that cannot be carried over");
                    }
                    if name == "client_encoding" && !reads_like_ascii(sql) {
                        self.keep(ENCODING);
                    }
                }
                _ => self.keep("a setting that cannot be carried over"),
            },
            Effect::Reset { name: None } => self.reset_all(connection),
            Effect::Discard { what } if what == "all" => {
                self.reset("session_authorization", connection);
                self.reset_all(connection);
                self.pins.retain(|pin| audit::is_asked(pin));
            }
            // Of a batch that was flushed since it began, the status is not known yet.
            Effect::Commit { .. } if self.status != FAILED => {
                if let Some(before) = &mut self.before {
                    before.clone_from(&self.settings);
                }
                self.savepoints.clear();
            }
            Effect::Commit { .. } | Effect::Rollback {} => {
                if let Some(before) = &self.before {
                    self.settings = before.clone();
                    connection.settings = before.clone();
                }
                self.savepoints.clear();
            }
            Effect::Savepoint { name } => self.savepoint(name),
            Effect::RollbackTo { name } => match self.savepoints.iter().rposition(|(known, _)| known == name) {
                Some(at) => {
                    self.settings = self.savepoints[at].1.clone();
                    connection.settings = self.settings.clone();
                    self.savepoints.truncate(at + 1);
                }
                None => self.keep("more savepoints than are followed"),
            },
            Effect::Release { name } => {
                if let Some(at) = self.savepoints.iter().rposition(|(known, _)| known == name) {
                    self.savepoints.truncate(at);
                }
            }
            _ => {}
        }
    }

    fn savepoint(&mut self, name: &str) {
        if self.savepoints.len() >= SAVEPOINTS_MAX {
            self.savepoints.remove(0);
        }
        self.savepoints.push((name.to_owned(), self.settings.clone()));
    }

    fn reset_all(&mut self, connection: &mut Connection) {
        self.settings.reset_all(&self.base);
        connection.settings.reset_all(&Settings::default());
        self.tell |= !self.base.is_empty();
    }

    fn reset(&mut self, name: &str, connection: &mut Connection) {
        if name == "session_authorization" {
            self.reset("role", connection);
        }
        if audit::is_custom(name) && self.base.get(name).is_none() {
            self.settings.empty(name);
            return connection.settings.empty(name);
        }
        connection.settings.reset(name);
        match self.base.get(&name.to_ascii_lowercase()).map(str::to_owned) {
            Some(statement) => {
                self.settings.set(name, &statement);
                self.tell = true;
            }
            None => self.settings.reset(name),
        }
    }

    /// A setting whose value builds on the one before (`SET datestyle = 'ISO'` keeps the order of day and month): what the server
    /// reports is what it is now.
    pub(super) fn take_reported(&mut self, survey: &Survey<'_>, connection: &mut Connection) {
        let of_date =
            |effect: &&Effect| matches!(effect, Effect::Set { name, to_default: false, .. } if name == DATE_STYLE);
        let mut found = survey.effects().filter(of_date).peekable();
        if found.peek().is_none() {
            return;
        }
        if found.any(|effect| matches!(effect, Effect::Set { scope: Scope::Local, .. })) {
            self.need.at_least(Audit::Settings);
        } else if let Some(value) = connection.parameter("DateStyle") {
            let statement = statement_for(DATE_STYLE, value);
            self.settings.set(DATE_STYLE, &statement);
            connection.settings.set(DATE_STYLE, &statement);
        }
    }
}
