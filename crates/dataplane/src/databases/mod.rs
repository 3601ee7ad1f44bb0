//! The PostgreSQL gateway.
//!
//! `protocol` knows messages and does no I/O, `auth` knows proofs and does no I/O; `frontend` opens connections from
//! clients, `backend` opens connections to servers, `monitor` asks each node how it is.

pub mod auth;
pub mod backend;
pub mod frontend;
pub mod monitor;
pub mod protocol;
mod transfer;
