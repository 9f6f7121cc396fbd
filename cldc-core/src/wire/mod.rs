//! The bytes of the protocol: what a packet, a message and a directory look like, in both directions.
//!
//! This module only parses and emits. It keeps no state and makes no decisions.

pub mod codes;
pub mod limits;
