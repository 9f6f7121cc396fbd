//! `cldcli demo`: a real server, real clients, and a check behind every line that is shown.
//!
//! A server is this program again, as a process of its own ([`serve`]). [`stage`] starts and kills servers, and [`cell`]
//! makes a cell of them. [`story`] is what is shown of one server, [`fail_over`] what of a cell, [`teller`] how.

mod cell;
mod fail_over;
mod stage;
mod story;
mod teller;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Read};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::signals::Signals;
use crate::status::Status;
use stage::Stage;

/// How long the demonstration may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How soon a signal is noticed.
const GLANCE: Duration = Duration::from_millis(50);

/// Stands first on the command line of a process that is to be the server.
const SERVE: &str = "serve-for-demo";

/// Is the server, if the arguments say so. It ends when its standard input does: with the demonstration, however that
/// ends.
pub(crate) fn serve(args: &[OsString]) -> Option<ExitCode> {
    let (name, rest) = args.split_first()?;
    let (_, rest) = rest.split_first().filter(|(first, _)| *first == SERVE)?;
    let orphaned = || {
        // There is nothing to read; an error is an end as well.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(Status::Done.number().into());
    };
    if let Err(error) = thread::Builder::new().name("parent".into()).spawn(orphaned) {
        crate::notes::say(&format!("cldcli: cannot start a thread: {error}\n"));
        return Some(ExitCode::FAILURE);
    }
    Some(cld_server::run([name].into_iter().chain(rest).cloned()))
}

/// Shows it: one server, or the fail-over in a cell of so many. Whatever happens, it ends in time, and leaves no process
/// and no file behind.
pub(crate) fn run(cell: Option<usize>) -> Result<Status, Failure> {
    let begun = Instant::now();
    let signals = Signals::start().map_err(problem("taking signals"))?.listen();
    let stage = Arc::new(Stage::prepare()?);
    let (tell, told) = mpsc::channel();
    let told_of = Arc::clone(&stage);
    let show = move || {
        drop(tell.send(match cell {
            None => story::tell(&told_of),
            Some(servers) => fail_over::tell(&told_of, servers),
        }));
    };
    thread::Builder::new().name("story".into()).spawn(show).map_err(problem("starting a thread"))?;
    let outcome = loop {
        let outcome = told.recv_timeout(GLANCE);
        // It comes first: an interrupt from the terminal ends the servers as well, which is no failure then.
        if let Some(signal) = signals.next() {
            break Ok(Status::Signal(u8::try_from(signal).unwrap_or(0)));
        }
        match outcome {
            Ok(outcome) => break outcome.map(|()| Status::Done),
            Err(RecvTimeoutError::Disconnected) => break Err(Failure::Demo("it ended early".into())),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if begun.elapsed() > LIMIT {
            break Err(Failure::Demo(format!("it has not ended within {} s", LIMIT.as_secs())));
        }
    };
    if let Err(Failure::Demo(_)) = outcome {
        crate::notes::say(&stage.last_words());
    }
    stage.clean_up();
    outcome
}

/// What was being done, and went wrong.
fn problem<E: Display>(doing: &str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::Demo(format!("{doing}: {error}"))
}
