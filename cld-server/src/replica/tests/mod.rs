//! Tests of the engine: alone, and as a cell in a simulated network with disks that lose what is not durable.

mod cluster;
mod faults;
mod lease;
mod members;
mod messages;
mod single;
mod snapshots;
mod store;
