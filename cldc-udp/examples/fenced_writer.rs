//! Why a lock needs a sequencer: a holder that is paused, and wakes up after its lock has gone to somebody else, cannot
//! do harm with what it still wants to write.
//!
//! ```text
//! cargo run --release -p cldc-udp --example fenced_writer
//! ```
//!
//! It needs nothing: it starts a server of its own, and ends by itself after a few seconds. Each step is printed once
//! it has been checked; if one is not so, it ends with an error.
//!
//! There are three parties. Worker A is a process with a session of its own; worker B has another one. The store is
//! neither: it writes the file on behalf of whoever shows it a sequencer.

mod cell;

use std::error::Error;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use cldc_udp::blocking::{Client, File};
use cldc_udp::{Code, Error as CldError, LockKind, Options, Sequencer, resolve};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use cell::Cell;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const LOCK: &str = "/leader";
const DATA: &str = "/data";

/// The shortest that a server grants: for so long B waits for the lock of a paused A.
const LEASE: Duration = Duration::from_secs(2);

/// Nothing here takes longer.
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(status) = cell::serve(&args) {
        return status;
    }
    let done = match args.as_slice() {
        [_, role, server] if role == "worker-a" => worker_a(&server.to_string_lossy()),
        _ => story(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fenced_writer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn story() -> Result<()> {
    let begun = Instant::now();
    let cell = Cell::start()?;
    println!("A server is at {}.", cell.address());
    let store = Store::open(&cell)?;
    println!("The store has a session of its own, and writes {DATA} for whoever shows it a sequencer.");

    let mut a = WorkerA::start(&cell)?;
    let old = a.sequencer()?;
    println!("A takes the lock of {LOCK}, with a lease of {} s. Its sequencer: {old}", LEASE.as_secs());
    check(store.write(&old, "A was here")?, "the store writes for A while A holds the lock")?;
    println!("A shows it to the store and writes: done.");

    a.pause()?;
    println!(
        "A is paused (SIGSTOP), about to write once more: it holds the lock, and cannot keep its lease."
    );
    let paused = Instant::now();
    let b = connect(&cell.address().to_string())?;
    let lock = b.lock(LOCK, LockKind::Exclusive)?;
    let new = lock.sequencer().ok_or("the server told B no sequencer")?;
    check(new.inode == old.inode, "the two sequencers are of the same file")?;
    check(new.generation > old.generation, "B's generation is above A's")?;
    let waited = paused.elapsed();
    println!("B asks for the lock, and has it {:.1} s later. Its sequencer: {new}", waited.as_secs_f64());
    check(store.write(&new, "B was here")?, "the store writes for B")?;
    println!("B shows it to the store and writes: done.");

    a.go_on()?;
    let (shown, late) = a.wish()?;
    check(shown == old, "A shows the sequencer that it had")?;
    println!("A goes on (SIGCONT), knows of nothing, and asks the store to write {late:?} for {shown}.");
    check(!store.write(&shown, &late)?, "the store does not write for A any more")?;
    println!("Refused: STALE. The store has asked nobody but the server, in the write itself.");
    check(!b.check_sequencer(&old)? && b.check_sequencer(&new)?, "A's sequencer is stale, and B's stands")?;

    let contents = store.read()?;
    check(contents == "B was here", "the file has what B wrote")?;
    check(lock.is_safe(), "B still holds the lock")?;
    println!("{DATA} says {contents:?}. All of it was so, in {:.1} s.", begun.elapsed().as_secs_f64());
    lock.release()?;
    b.close()?;
    Ok(())
}

fn check(is_so: bool, claim: &str) -> Result<()> {
    if is_so { Ok(()) } else { Err(format!("it is not so that {claim}").into()) }
}

fn connect(server: &str) -> Result<Client> {
    let options =
        Options::new(cell::USER, cell::USER).servers(resolve(server)?).lease(LEASE).timeout(TIMEOUT);
    Ok(Client::connect(options)?)
}

/// Writes for whoever shows a sequencer. It knows nothing of who holds the lock: the server checks, in the same step in
/// which it writes.
struct Store {
    client: Client,
    file: File,
}

impl Store {
    fn open(cell: &Cell) -> Result<Self> {
        let client = connect(&cell.address().to_string())?;
        client.create(LOCK)?.close()?;
        let file = client.create(DATA)?;
        Ok(Self { client, file })
    }

    /// Whether it was done: not if the sequencer is stale.
    fn write(&self, shown: &Sequencer, text: &str) -> Result<bool> {
        match self.file.write_fenced(shown, text.as_bytes()) {
            Ok(()) => Ok(true),
            Err(CldError::Server(Code::Stale)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self) -> Result<String> {
        Ok(String::from_utf8(self.client.read(DATA)?.data)?)
    }
}

/// Worker A, as its process sees it: takes the lock, tells its sequencer, and once it is told to go on asks for a write
/// without looking at the lock again, as a program does that was paused between looking and writing.
fn worker_a(server: &str) -> Result<()> {
    let client = connect(server)?;
    let lock = client.lock(LOCK, LockKind::Exclusive)?;
    let sequencer = lock.sequencer().ok_or("the server told A no sequencer")?;
    println!("{sequencer}");
    std::io::stdin().lock().read_line(&mut String::new())?;
    println!("{sequencer}");
    println!("A is late");
    Ok(())
}

/// Worker A, as the others see it; killed when it is dropped.
struct WorkerA {
    process: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl WorkerA {
    fn start(cell: &Cell) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("worker-a")
            .arg(cell.address().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take().ok_or("A has no standard input")?;
        let stdout = process.stdout.take().ok_or("A has no standard output")?;
        Ok(Self { process, stdin, lines: BufReader::new(stdout).lines() })
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.lines.next().ok_or("A has ended early")??)
    }

    fn sequencer(&mut self) -> Result<Sequencer> {
        Ok(self.line()?.parse()?)
    }

    /// Stops it, with what tells it to go on before it.
    fn pause(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::STOP)?;
        waitpid(Some(pid), WaitOptions::UNTRACED)?;
        self.stdin.write_all(b"go on\n")?;
        Ok(())
    }

    fn go_on(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::CONT)?)
    }

    /// What it shows to the store, and what it wants to be written.
    fn wish(&mut self) -> Result<(Sequencer, String)> {
        Ok((self.sequencer()?, self.line()?))
    }
}

impl Drop for WorkerA {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
