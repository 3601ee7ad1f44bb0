//! What the properties compare with: the same formats read a second time, plainly, from the standards.

pub mod hpack;
pub mod http2;
pub mod sql;
