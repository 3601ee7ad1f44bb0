//! Carries traffic: HTTP from clients to app servers.
//!
//! Start reading at `servers::flow`, the journey of one request. `plane` is what Python holds; `snapshot` is what
//! Python sends. No policy that a person would change often lives here, and no Python.

mod access_log;
mod buffer;
mod clock;
pub mod databases;
pub mod error;
mod events;
mod metrics;
mod net;
pub mod plane;
#[cfg(any(test, feature = "fuzzing"))]
pub mod properties;
mod request_id;
pub mod servers;
mod snapshot;
mod worker;
