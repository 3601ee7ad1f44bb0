//! Proofs of identity, on both sides of the gateway. No I/O here: messages in, messages out.

pub mod password;
pub mod scram;
