//! Whether a server gets requests: what checks say (`active`), what traffic says (`passive`), and the decision over a
//! whole pool (`state`). All of it is pure: sockets and clocks belong to the caller.

pub mod active;
pub mod passive;
pub mod state;
