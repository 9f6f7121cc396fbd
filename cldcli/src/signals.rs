//! Signals that ask the program to end: it ends its session first.

use std::fs;
use std::io;
use std::process;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use cldc_udp::blocking::Client;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Incoming;

use crate::status::Status;

/// How long the end of the session may take then.
const FAREWELL: Duration = Duration::from_secs(2);

/// Takes signals from now on.
#[derive(Clone)]
pub(crate) struct Signals {
    state: Arc<Mutex<State>>,
}

struct State {
    session: Option<Client>,
    listener: Option<Sender<i32>>,
    terminal: Option<Termios>,
}

/// While this lives, signals do not end the program: they are told here.
pub(crate) struct Listening {
    state: Arc<Mutex<State>>,
    signals: Receiver<i32>,
}

impl Signals {
    /// Begins. A signal that was ignored when the program began (`nohup`, or `&` in a script) stays so.
    pub(crate) fn start() -> io::Result<Self> {
        let ignored = ignored();
        let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        let mut incoming = Incoming::new(wanted)?;
        let terminal = tcgetattr(io::stdin()).ok();
        let signals = Self { state: Arc::new(Mutex::new(State { session: None, listener: None, terminal })) };
        let state = Arc::clone(&signals.state);
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in &mut incoming {
                handle(&state, signal);
            }
        })?;
        Ok(signals)
    }

    /// There is a session to end now.
    pub(crate) fn set_session(&self, session: &Client) {
        lock(&self.state).session = Some(session.with_timeout(FAREWELL));
    }

    /// Tells of signals from now on, instead of ending the program.
    pub(crate) fn listen(&self) -> Listening {
        let (tell, signals) = mpsc::channel();
        lock(&self.state).listener = Some(tell);
        Listening { state: Arc::clone(&self.state), signals }
    }
}

impl Listening {
    /// A signal that has come since the last look.
    pub(crate) fn next(&self) -> Option<i32> {
        self.signals.try_recv().ok()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        lock(&self.state).listener = None;
    }
}

fn handle(state: &Mutex<State>, signal: i32) {
    let mut state = lock(state);
    if let Some(listener) = &state.listener {
        // Whoever listens has gone only if the program is ending.
        let _ = listener.send(signal);
        return;
    }
    if let Some(session) = state.session.take() {
        // Without an answer, the server ends the session by itself.
        let _ = session.close();
    }
    if let Some(terminal) = &state.terminal {
        // The line editor may have changed it.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, terminal);
    }
    process::exit(Status::Signal(signal.try_into().unwrap_or(0)).number().into());
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The set of ignored signals, signal 1 in bit 0. Where there is no such file: none.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
