//! The PostgreSQL gateway: one address per group, behind it a primary and its replicas.
//!
//! Start reading at `flow::carry`, the journey of one unit (everything a client sends up to where it expects an answer):
//!
//! ```text
//! unit      collect it whole            survey    what it asks for, by names that hold on every server
//! plan      what its statements do      route     primary or replica, decided once, with a reason
//! borrow    a connection of that node   compose   what to send on it      exchange  send it, pass the answer on
//! session   take over what it has done               lost      or say what is known, when its server has gone
//! audit     ask what unseen code has changed         fitness   which connections may serve a session
//! ```
//!
//! `protocol` knows messages and does no I/O, `auth` knows proofs and does no I/O; `frontend` opens connections from
//! clients, `backend` opens connections to servers, `monitor` asks each node how it is. What is not here: deciding who is
//! primary, which is Python's; a snapshot tells.

pub mod auth;
pub mod backend;
pub mod frontend;
pub mod monitor;
pub mod protocol;

mod admin;
pub(crate) mod audit;
mod borrow;
pub(crate) mod causal;
pub(crate) mod client;
mod clients;
mod compose;
pub(crate) mod connection;
pub(crate) mod exchange;
pub(crate) mod expect;
mod fitness;
pub mod flow;
pub mod group;
mod handover;
mod held;
mod idle_timeout;
mod lessons;
pub(crate) mod lexer;
mod lost;
mod names;
pub(crate) mod node;
mod open;
pub mod plan;
mod pool;
mod portals;
mod position;
mod reading;
mod readonly;
mod recent;
mod refusal;
mod rest;
mod route;
mod session;
pub(crate) mod settings;
mod settle;
mod start_options;
mod statement;
mod succession;
mod survey;
pub(crate) mod transfer;
pub(crate) mod unit;
mod user;
pub mod watch;
