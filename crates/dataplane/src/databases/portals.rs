//! Portals: which statement is run when a client says Execute, which names only the portal.

use std::collections::HashMap;
use std::sync::Arc;

use super::plan::Entry;

/// Portals of one transaction; what more of them do is taken for unknown.
const PORTALS_MAX: usize = 10_000;

#[derive(Debug, Clone)]
pub struct Portal {
    pub entry: Arc<Entry>,
    /// Its effects have been taken: another Execute only goes on with its rows.
    pub has_run: bool,
}

/// A change of portals that a message makes when it has succeeded.
#[derive(Debug)]
pub enum PortalChange<'u> {
    Bind(&'u [u8], Arc<Entry>),
    Run(&'u [u8]),
    Close(&'u [u8]),
}

impl PortalChange<'_> {
    pub const fn name(&self) -> &[u8] {
        match self {
            Self::Bind(name, _) | Self::Run(name) | Self::Close(name) => name,
        }
    }
}

/// Portals of a transaction that goes on behind the batch which has made them.
#[derive(Debug, Default)]
pub struct Portals(HashMap<Box<[u8]>, Portal>);

impl Portals {
    pub fn get(&self, name: &[u8]) -> Option<&Portal> {
        self.0.get(name)
    }

    /// Takes over what a batch has done.
    pub fn change<'c, 'u: 'c>(&mut self, changes: impl Iterator<Item = &'c PortalChange<'u>>) {
        for change in changes {
            match change {
                PortalChange::Bind(name, entry) => {
                    if self.0.len() < PORTALS_MAX {
                        let portal = Portal { entry: Arc::clone(entry), has_run: false };
                        self.0.insert((*name).into(), portal);
                    }
                }
                PortalChange::Run(name) => {
                    if let Some(portal) = self.0.get_mut(*name) {
                        portal.has_run = true;
                    }
                }
                PortalChange::Close(name) => {
                    self.0.remove(*name);
                }
            }
        }
    }

    /// A simple query ends the unnamed one.
    pub fn drop_unnamed(&mut self) {
        self.0.remove(&b""[..]);
    }

    /// The transaction is over.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
