//! The replicated CLD server: one state machine that is fed bytes and time, and the shell around it.
//!
//! CLD keeps a name space of small files, and sessions that hold locks on them: a place where programs on many machines
//! agree on who is master, and read their configuration. The `cld` program is [`run`]; the server itself is
//! [`node::Node`], which has no clock, sockets, threads or files, and runs as well in a test or a simulation.
//!
//! # The way of a write
//! 1. `net` takes a datagram from a socket and gives it, with the time, to the [`node`].
//! 2. [`endpoint`] finds the session, checks the HMAC with the user's secret ([`keys`]), and puts the packets in order:
//!    a request. Packets that are wrong end here. Reads are answered here too, from the [`database`].
//! 3. What changes something becomes a [`database::Command`]. All commands that wait make one entry of the log.
//! 4. [`replica`], the consensus engine, has the entry written by [`storage`]; `net` does that on a thread for the disk.
//!    It is committed when a quorum has it; a single server is a cell of one, and takes the same way.
//! 5. [`database::Database::apply`] does the command, in the same way on every server of the cell.
//! 6. The endpoint tells the clients: the reply, events, and locks that others were waiting for.
//!
//! # Where things are
//! | part | is about |
//! |---|---|
//! | [`node`] | the state machine that joins the others |
//! | [`endpoint`] | sessions as streams of packets: numbers, resends, leases, admission |
//! | [`database`] | the replicated state: files, handles, locks, sessions, replies; limits |
//! | [`replica`] | consensus: what is in the log, and who is master |
//! | [`storage`] | the log and snapshots on the disk, verified when they are opened |
//! | [`peer`] | links between the servers of the cell: secret, encryption, frames |
//! | [`codec`] | how commands and snapshots are written as bytes |
//! | [`versions`] | versions of the cell: what needs which, and when a cell is upgraded |
//! | [`keys`] | users and secrets, and their file |
//! | `net` | sockets, clocks, signals, disk threads: the task that owns the node |
//! | `admin` | what an operator asks a running server: status, members, snapshots |
//! | `config`, `cli` | options: command line and file |
//! | `daemon` | the program: background, log, pid and port files, `--check`, `cld user`, `cld cell` and the commands that ask a server |

mod admin;
mod atomic_file;
mod cli;
pub mod codec;
mod config;
mod daemon;
pub mod database;
pub mod endpoint;
pub mod keys;
mod net;
pub mod node;
pub mod peer;
pub mod replica;
pub mod storage;
pub mod versions;

pub use daemon::run;
