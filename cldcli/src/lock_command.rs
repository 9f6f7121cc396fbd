//! `lock PATH -- COMMAND`: a program that runs only while a lock is held.

use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use cldc_udp::blocking::Lock;
use cldc_udp::{Error, Sequencer};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::args::SEQUENCER;
use crate::failure::Failure;
use crate::signals::Listening;
use crate::status::Status;

/// How long a program has between SIGTERM and SIGKILL, at most.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How soon the loss of the lock, and a signal, are noticed.
const GLANCE: Duration = Duration::from_millis(50);

/// How long a program has between SIGTERM and SIGKILL, under a lease of this length.
///
/// It is told to end when so much of the lease is left, so that it is dead before the server can give the lock to
/// others. What the client counts less than the server would not do for that: that is for clocks that differ, and with
/// a lease of 30 s it is 0.6 s, with one of 2 s 40 ms. An eighth of a short lease is left only when renewing it has
/// failed for long: that is begun at a third.
pub(crate) fn last_words(lease: Duration) -> Duration {
    LAST_WORDS.min(lease / 8)
}

/// A lock as far as its holder is concerned.
pub(crate) trait Held {
    /// For how long it is held for certain, if nothing renews the lease.
    fn safe_for(&self) -> Duration;
}

impl Held for Lock {
    fn safe_for(&self) -> Duration {
        Lock::safe_for(self)
    }
}

/// Waits for the lock in a thread of its own, so that a signal can end the waiting.
///
/// # Errors
/// [`Failure::NoLock`]; the status of the signal that came first.
pub(crate) fn obtain<L: Send + 'static>(
    path: &str,
    ask: impl FnOnce() -> Result<Option<L>, Error> + Send + 'static,
    signals: &Listening,
) -> Result<Result<L, Status>, Failure> {
    let no_lock = |error| Failure::NoLock { path: path.into(), error };
    let (tell, told) = mpsc::channel();
    let asking = move || drop(tell.send(ask()));
    thread::Builder::new().name("lock".into()).spawn(asking).map_err(|error| no_lock(Error::Io(error)))?;
    loop {
        match told.recv_timeout(GLANCE) {
            Ok(Ok(Some(lock))) => return Ok(Ok(lock)),
            Ok(Ok(None)) => return Err(no_lock(Error::Server(cldc_udp::Code::LockConflict))),
            Ok(Err(error)) => return Err(no_lock(error)),
            Err(RecvTimeoutError::Disconnected) => return Err(no_lock(Error::Closed)),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(signal) = signals.next() {
            return Ok(Err(Status::Signal(u8::try_from(signal).unwrap_or(0))));
        }
    }
}

/// Lets a program know its lock's sequencer; without one, not that of another lock either.
pub(crate) fn show(command: &mut Command, sequencer: Option<Sequencer>) {
    match sequencer {
        Some(sequencer) => command.env(SEQUENCER, sequencer.to_os_string()),
        None => command.env_remove(SEQUENCER),
    };
}

/// Runs a program, and kills it if the lock is lost, or would not outlive the program's last words. Signals are passed
/// on.
///
/// # Errors
/// [`Failure::Spawn`], [`Failure::LockLost`].
pub(crate) fn run(
    path: &str,
    lock: &impl Held,
    last_words: Duration,
    command: Command,
    signals: &Listening,
) -> Result<Status, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawn = |error| Failure::Spawn { command: name.clone(), error };
    let mut running = Running::start(command).map_err(spawn)?;
    // Both ends of the last words are noticed a little late.
    let enough = last_words + 2 * GLANCE;
    let mut killed_at: Option<Instant> = None;
    while !running.has_ended(GLANCE) {
        match killed_at {
            None if lock.safe_for() <= enough => {
                running.signal(Signal::TERM);
                killed_at = Some(Instant::now());
            }
            Some(at) if at.elapsed() >= last_words => running.signal(Signal::KILL),
            _ => {}
        }
        while let Some(signal) = signals.next().and_then(Signal::from_named_raw) {
            running.pass_on(signal);
        }
    }
    if killed_at.is_some() {
        // Whatever the program has started, and has not ended with it.
        running.signal(Signal::KILL);
    }
    let status = running.child.wait().map_err(spawn)?;
    if killed_at.is_some() { Err(Failure::LockLost(path.into())) } else { Ok(ended(status)) }
}

fn ended(status: ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Command(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => Status::Signal(signal.and_then(|signal| signal.try_into().ok()).unwrap_or(0)),
    }
}

/// A program that runs.
struct Running {
    child: Child,
    pid: Pid,
    /// It has a process group of its own, so that what it has started is killed with it. On a terminal it stays in
    /// ours: only the foreground group may read from there.
    own_group: bool,
    /// Told when the program has ended. Until [`Child::wait`], its process id is not given to another.
    ended: Receiver<()>,
}

impl Running {
    fn start(mut command: Command) -> io::Result<Self> {
        let own_group = !io::stdin().is_terminal();
        if own_group {
            command.process_group(0);
        }
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let (tell, ended) = mpsc::channel();
        let watch = move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
            // Nobody waits for it if its beginning failed.
            let _ = tell.send(());
        };
        if let Err(error) = thread::Builder::new().name("child".into()).spawn(watch) {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        Ok(Self { child, pid, own_group, ended })
    }

    /// Whether it ends within so long.
    fn has_ended(&self, patience: Duration) -> bool {
        self.ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }

    /// Sends it a signal. It has not been waited for, so the process id is its own.
    fn signal(&self, signal: Signal) {
        // A process that has just ended needs none.
        let _ = if self.own_group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
    }

    /// Passes a signal on, unless the terminal has sent it to all of its foreground group.
    fn pass_on(&self, signal: Signal) {
        if self.own_group || signal != Signal::INT {
            self.signal(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::signals::Signals;

    /// What a program has under a long lease.
    const LONG: Duration = LAST_WORDS;

    /// A lock that is safe for so many looks.
    struct Safe(Cell<u32>);

    impl Safe {
        fn for_looks(looks: u32) -> Self {
            Self(Cell::new(looks))
        }
    }

    impl Held for Safe {
        fn safe_for(&self) -> Duration {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            if left > 0 { Duration::MAX } else { Duration::ZERO }
        }
    }

    /// A lock whose lease is not renewed any more.
    struct Ending(Instant);

    impl Held for Ending {
        fn safe_for(&self) -> Duration {
            self.0.saturating_duration_since(Instant::now())
        }
    }

    fn sh(lock: &impl Held, last_words: Duration, script: &str) -> Result<Status, Failure> {
        let signals = Signals::start().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run("/a", lock, last_words, command, &signals.listen())
    }

    #[test]
    fn the_commands_status_is_ours() {
        let lock = Safe::for_looks(u32::MAX);
        assert_eq!(sh(&lock, LONG, "exit 0").unwrap().number(), 0);
        assert_eq!(sh(&lock, LONG, "exit 7").unwrap().number(), 7);
        assert_eq!(sh(&lock, LONG, "kill -9 $$").unwrap().number(), 137);
    }

    #[test]
    fn a_command_whose_lock_is_lost_is_told_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let script =
            format!("trap 'echo yes > {}; exit 0' TERM; while :; do sleep 0.01; done", told.display());
        let failure = sh(&Safe::for_looks(8), LONG, &script).unwrap_err();
        assert_eq!(failure.status(), Status::LockLost);
        assert_eq!(std::fs::read_to_string(told).unwrap(), "yes\n");
    }

    #[test]
    fn a_command_that_does_not_listen_is_killed_with_what_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script =
            format!("exec 2> /dev/null; trap '' TERM; sleep 600 & echo $! > {}; wait; wait", file.display());
        let begun = Instant::now();
        assert_eq!(sh(&Safe::for_looks(8), LONG, &script).unwrap_err().status(), Status::LockLost);
        assert!(begun.elapsed() >= LAST_WORDS);
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        // A signal takes its time, and it may be a zombie until init has looked after it.
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        while !(state().is_empty() || state().contains(") Z ")) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", state());
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_command_is_dead_before_the_lease_ends_listening_or_not() {
        for script in ["while :; do sleep 0.01; done", "trap '' TERM; while :; do sleep 0.01; done"] {
            let end = Instant::now() + Duration::from_secs(2);
            let failure = sh(&Ending(end), last_words(Duration::from_secs(4)), script).unwrap_err();
            assert_eq!(failure.status(), Status::LockLost);
            assert!(Instant::now() < end, "{script}");
        }
    }

    #[test]
    fn a_command_gets_its_own_locks_sequencer_or_none() {
        let shown = |sequencer: Option<&str>| {
            let mut command = Command::new("true");
            show(&mut command, sequencer.map(|text| text.parse().unwrap()));
            let set = command.get_envs().find(|(name, _)| *name == "CLD_SEQUENCER");
            set.unwrap().1.map(|text| text.to_str().unwrap().to_owned())
        };
        assert_eq!(shown(Some("x:51:3:/l")).unwrap(), "x:51:3:/l");
        // Removed: whatever the surroundings have is not passed on.
        assert_eq!(shown(None), None);
    }

    #[test]
    fn last_words_are_a_small_part_of_a_short_lease() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(last_words(seconds(2.0)), seconds(0.25));
        assert_eq!(last_words(seconds(30.0)), seconds(1.0));
        assert_eq!(last_words(seconds(600.0)), seconds(1.0));
    }

    #[test]
    fn a_command_that_cannot_run_says_why() {
        let lock = Safe::for_looks(u32::MAX);
        let signals = Signals::start().unwrap().listen();
        let status = |program| run("/a", &lock, LONG, Command::new(program), &signals).unwrap_err().status();
        assert_eq!(status("/no/such/command").number(), 127);
        assert_eq!(status("/etc/passwd").number(), 126);
    }

    #[test]
    fn the_reason_for_not_having_the_lock_is_told() {
        let signals = Signals::start().unwrap().listen();
        let held = obtain::<()>("/a", || Ok(None), &signals).unwrap_err();
        assert_eq!(held.status(), Status::NoLock);
        assert!(held.line().contains("1111: Conflicting lock held (LOCK_CONFLICT)"), "{}", held.line());
        let late = || Err(Error::Timeout { doing: "waiting for a lock" });
        let late = obtain::<()>("/a", late, &signals).unwrap_err();
        assert!(
            late.line().contains("1117: the deadline passed while waiting for a lock"),
            "{}",
            late.line()
        );
        assert!(matches!(obtain("/a", || Ok(Some(())), &signals), Ok(Ok(()))));
    }
}
