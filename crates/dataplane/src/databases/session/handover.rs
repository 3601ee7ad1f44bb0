//! From the end of a transaction to a connection that serves another session: what the server has to be asked (`audit`), what
//! the session takes over of its answer, and whether it keeps the connection.

use super::super::audit::{self, Findings, Found, Need};
use std::sync::Arc;

use super::super::connection::Connection;
use super::super::group::Group;
use super::super::idle_timeout;
use super::super::plan::{Audit, Effect};
use super::super::pool::Pool;
use super::super::reading::{is_true, reads_like_ascii};
use super::super::settings::{NO_ROLE, SETTINGS_MAX, Settings};
use super::super::survey::Survey;
use super::{ENCODING, IDLE, STRINGS, Session};

/// Why a session keeps its connection whose settings cannot be made on another.
const NOT_MADE_AGAIN: &str = "a setting that its login may not make";
const UNKNOWN_NAME: &str = "a custom setting whose name is not known";
const TOO_MANY: &str = "a setting that cannot be carried over";

impl Session {
    /// A unit is about to be sent that may change the catalogue, or not.
    pub fn begin_unit(&mut self, survey: &Survey<'_>) {
        if self.definition.is_none() && survey.may_define() {
            self.definition = Some(self.plans.begin_definition());
        }
    }

    /// Adds what the server has to be asked after a unit, however that ended.
    pub(super) fn note_needs(&mut self, survey: &Survey<'_>, failed: bool, connection: &mut Connection) {
        if survey.executes && (survey.runs.is_empty() || survey.runs_unknown) {
            self.need.add_unknown(survey.bytes);
        }
        // Planning runs functions that are called IMMUTABLE, and reading parameters those of their types.
        for plan in survey.bound().filter_map(|entry| entry.plan()).filter(|plan| plan.audit != Audit::None) {
            self.need.add(plan, survey.bytes, failed);
        }
        for plan in survey.with_effects().iter().filter_map(|entry| entry.plan()) {
            self.need.add(plan, survey.bytes, failed);
            connection.past.has_used_temporary |= plan.temp;
            self.plans.note_custom(&plan.custom);
            if survey.asks_for_sequences() {
                self.plans.note_sequences_asked_for();
            }
            if !plan.unpins.is_empty() && self.pins.iter().any(|pin| audit::is_asked(pin)) {
                self.need.at_least(Audit::State);
            }
        }
        for effect in survey.effects() {
            match effect {
                Effect::Define {} => {
                    self.has_defined = true;
                    self.need.at_least(Audit::State);
                }
                Effect::Set { name, .. } if audit::is_custom(name) => self.plans.note_custom(&[name.as_str().into()]),
                _ => {}
            }
        }
    }

    /// Whether the server has to be asked before the connection may serve another session.
    pub fn has_to_be_audited(&mut self, group: &Group) -> bool {
        let is_over = self.status == IDLE && !self.in_batch && !self.skipping;
        if !is_over || self.guard.is_none() || !group.view().settings.audit {
            return false;
        }
        if !self.plans.holds(self.plans_version) {
            // The catalogue was changed meanwhile: what was run may have done more than its plan says.
            self.need.at_least(Audit::Settings);
        }
        !self.need.is_none()
    }

    /// The questions for the server.
    pub fn audit(&mut self, expect: &mut super::Expectations) -> Option<Vec<u8>> {
        let connection = self.guard.as_mut().and_then(super::Guard::connection)?;
        let known = self.settings.custom_names().map(str::to_owned).chain(self.local_custom.drain(..));
        known.collect::<Vec<_>>().iter().for_each(|name| self.need.ask_for(name));
        if self.need.audit == Audit::Settings {
            self.plans.custom_names().iter().for_each(|name| self.need.ask_for(name));
        }
        // A statement of ours takes the place of the unnamed portal, not of the unnamed statement.
        Some(audit::ask(&self.need, &self.login.user, connection, expect))
    }

    /// Takes over what the server has answered.
    pub fn adopt(&mut self, findings: Findings, group: &Group) {
        let need = std::mem::take(&mut self.need);
        self.pins.retain(|pin| !audit::is_asked(pin));
        findings.pins.iter().for_each(|pin| self.keep(pin));
        let Some(mut guard) = self.guard.take() else { return };
        if let Some(connection) = guard.connection() {
            connection.past.has_used_temporary |= findings.has_used_temporary;
            let are_known = !connection.prepared.leftovers;
            if findings.is_misled || are_known && findings.prepared != connection.prepared.len() {
                connection.prepared.forget();
            }
            self.adopt_definitions(&findings, connection, group);
            if let Some(found) = &findings.settings {
                self.adopt_settings(found, &need, connection);
            }
        }
        self.guard = Some(guard);
        self.client.keeps(self.pins.first());
    }

    fn adopt_definitions(&mut self, findings: &Findings, connection: &mut Connection, group: &Group) {
        let past = &mut connection.past;
        let (mine, all) = findings.changes;
        let changed = std::mem::replace(&mut past.changes, mine) != mine || self.plans.note_changes(all);
        let (mine, all) = findings.relation_changes;
        let outdated =
            std::mem::replace(&mut past.relation_changes, mine) != mine || self.plans.note_relation_changes(all);
        let Some(definition) = self.definition.take() else { return };
        if outdated || changed {
            group.statements.note_definition();
        }
        if !changed && !std::mem::take(&mut self.has_defined) {
            definition.nothing_changed();
        }
    }

    fn adopt_settings(&mut self, found: &[Found], need: &Need, connection: &mut Connection) {
        let pending = self.settings.pending_on(&connection.settings);
        let is_empty = |name: &str| found.iter().any(|one| one.name == name && one.value.is_empty());
        let mut settings = Settings::default();
        for one in found {
            let name = one.name.as_str();
            if name == "session_authorization" && one.value == self.login.user {
                continue;
            }
            if name == "role" && one.value == "none" {
                // One of the session's start is taken on again.
                if connection.settings.get("role").is_some() {
                    settings.set("role", NO_ROLE);
                }
                continue;
            }
            let is_foreign = connection.past.placeholders.contains(name) && self.settings.get(name).is_none();
            if audit::is_custom(name) && one.value.is_empty() && is_foreign {
                // It is there since another session made it.
                continue;
            }
            if settings.len() >= SETTINGS_MAX || one.value.contains('\u{fffd}') {
                // A character in another encoding than UTF-8 was lost on the way here.
                self.keep(TOO_MANY);
            } else if audit::is_custom(name) && one.value.is_empty() {
                settings.empty(name);
            } else {
                settings.set(name, &audit::statement_of(one));
            }
            if !one.may_be_made {
                self.keep(NOT_MADE_AGAIN);
            }
            if name == "client_encoding" && !reads_like_ascii(&one.value) {
                self.keep(ENCODING);
            }
            if name == "standard_conforming_strings" && !is_true(&one.value) {
                self.keep(STRINGS);
            }
        }
        if need.unknown {
            self.keep(UNKNOWN_NAME);
        }
        match (settings.get(idle_timeout::NAME), self.settings.get(idle_timeout::NAME)) {
            (Some(_), _) => connection.is_uncertain = true,
            // Servers do not have it.
            (None, Some(statement)) => settings.set(idle_timeout::NAME, statement),
            (None, None) => {}
        }
        connection.note_settings(&settings);
        // What the session has since its start is made again when it is needed: a RESET went back behind it.
        for (name, statement) in pending {
            let is_known = settings.get(&name).is_some();
            if !is_known || audit::is_custom(&name) && is_empty(&name) {
                settings.set(&name, &statement);
            }
        }
        connection.past.has_unknown_settings = true;
        // What else such code leaves behind cannot be known: the connection serves this session and no other.
        connection.is_uncertain |= need.unknown;
        self.settings = settings;
    }

    /// The pool that the session gives its connection back to as soon as another waits for one: it keeps it only for settings that
    /// may be there under names that nobody knows.
    pub fn yields_to(&self) -> Option<Arc<Pool>> {
        let is_over = self.status == IDLE && !self.in_batch && !self.skipping;
        let may = is_over && !self.pins.is_empty() && self.pins.iter().all(|pin| pin == UNKNOWN_NAME);
        self.guard.as_ref().filter(|_| may)?.pool().cloned()
    }

    /// Gives the connection back for another session, and with it the settings that it was kept for.
    pub fn yield_connection(&mut self) {
        self.pins.retain(|pin| pin != UNKNOWN_NAME);
        self.client.keeps(self.pins.first());
        self.release();
    }

    /// Closes the connection.
    pub fn drop_connection(&mut self) {
        self.client.borrowed(None);
        self.guard = None;
    }

    /// Whether its connection has served others before.
    pub fn has_used_connection(&mut self) -> bool {
        let connection = self.guard.as_mut().and_then(super::Guard::connection);
        connection.is_some_and(|connection| connection.past.served != 0)
    }

    /// Gives the connection back, unless the session has to keep it.
    pub fn release(&mut self) {
        if self.status != IDLE || self.in_batch || self.guard.is_none() {
            return;
        }
        // Whatever was defined is known from here on.
        self.definition = None;
        self.has_defined = false;
        self.need = Need::default();
        if !self.pins.is_empty() {
            return;
        }
        self.client.borrowed(None);
        let number = self.number();
        if let Some(mut guard) = self.guard.take()
            && let Some(connection) = guard.connection()
            // One whose state is not known is closed instead.
            && !connection.is_uncertain
        {
            connection.past.served = number;
            guard.give_back();
        }
    }
}
