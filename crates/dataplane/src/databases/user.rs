//! A user of a group: how it proves itself here, and how the gateway logs in for it.

use std::sync::Arc;

use super::auth::password::Secret;
use super::auth::scram::verifier::Verifier;
use super::backend::Login;
use super::frontend::{Credentials, Identity};
use crate::snapshot::DatabaseUser;

#[derive(Debug)]
pub struct User {
    settings: DatabaseUser,
    pub credentials: Credentials,
}

impl User {
    /// From the snapshot; what is known of `before` is kept where nothing has changed, because keys are costly to derive.
    pub fn build(settings: &DatabaseUser, before: Option<&Arc<Self>>) -> Result<Arc<Self>, String> {
        if let Some(before) = before.filter(|before| before.settings == *settings) {
            return Ok(Arc::clone(before));
        }
        let verifier = match (&settings.password, &settings.verifier) {
            (Some(password), None) => Verifier::of_password(password),
            (None, Some(verifier)) => verifier.parse::<Verifier>().map_err(|error| format!("{error:?}"))?,
            _ => return Err(format!("user {:?}: expected a password or a verifier", settings.name)),
        };
        Ok(Arc::new(Self { settings: settings.clone(), credentials: Credentials { verifier } }))
    }

    /// Whether the console is open to it.
    pub fn is_operator(&self) -> bool {
        self.settings.operator
    }

    /// How the gateway logs in to servers for it: with the password, or with what the client has proved itself with.
    pub fn login(&self, database: &str, identity: Identity) -> Arc<Login> {
        let secret = match &self.settings.password {
            Some(password) => Secret::password(password),
            None => Secret::ClientKey { client_key: identity.client_key, verifier: identity.verifier },
        };
        Arc::new(Login { user: self.settings.name.clone(), database: database.to_owned(), secret })
    }
}
