//! `cldcli`: files, locks and events of a CLD cell, from a shell or a script.
//!
//! [`run`] does what the command line says. [`shell`] has the commands, which know a session by the traits of [`remote`]
//! only; their lines come from [`lines`] or, on a terminal, from [`terminal`].
#![forbid(unsafe_code)]

mod args;
mod bytes;
mod command;
mod connect;
mod date;
#[cfg(feature = "demo")]
mod demo;
mod failure;
mod key_file;
mod lines;
mod lock_command;
mod notes;
mod output;
mod remote;
mod run;
mod shell;
mod signals;
mod status;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::run(std::env::args_os().collect())
}
