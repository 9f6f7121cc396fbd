//! What the program does from its command line to its exit status.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{self, ExitCode};
use std::time::Duration;

use clap::{CommandFactory, Parser};
use cldc_udp::blocking::{Client, Lock};
use cldc_udp::{Code, Error, EventMask, LockKind, OpenMode};
use signal_hook::consts::SIGINT;

use crate::args::{Arguments, Options, Task};
use crate::command::{self, Command, QUICK_REFERENCE};
use crate::connect::connect;
use crate::failure::Failure;
use crate::lines::{Lines, Piped};
use crate::lock_command;
use crate::notes::{Notes, say};
use crate::output::{Format, Output};
use crate::shell::{Next, Shell, Until, absolute, read_limited, show};
use crate::signals::{Listening, Signals};
use crate::status::Status;
use crate::terminal::Terminal;

/// How long the end of a session may take, at most.
const FAREWELL: Duration = Duration::from_secs(5);

/// Does what these arguments say, the program's name first.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    #[cfg(feature = "demo")]
    if let Some(status) = crate::demo::serve(&args) {
        return status;
    }
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // If the terminal is gone, nobody is left to tell.
            let _ = error.print();
            return if error.exit_code() == 0 { Status::Done } else { Status::Usage }.into();
        }
    };
    perform(&arguments)
        .unwrap_or_else(|failure| {
            report(&failure, arguments.options.format());
            failure.status()
        })
        .into()
}

fn perform(arguments: &Arguments) -> Result<Status, Failure> {
    let options = &arguments.options;
    match arguments.task() {
        Task::Commands => commands(options),
        Task::One(command) => one(options, |shell, until| shell.execute(command, until)),
        Task::Put { path, fence } => {
            let data = read_limited(io::stdin()).map_err(Failure::local("cannot read standard input"))?;
            one(options, |shell, _| shell.put(&path, &data, fence.as_ref()).map(|()| Next::Quit))
        }
        Task::Rm { path, fence } => {
            one(options, |shell, _| shell.rm(&path, fence.as_ref()).map(|()| Next::Quit))
        }
        Task::Check(sequencer) => {
            one(options, |shell, _| shell.check_sequencer(&sequencer).map(|()| Next::Quit))
        }
        Task::Locked { path, kind, wait, program, arguments } => {
            let mut command = process::Command::new(program);
            command.args(arguments);
            locked(options, &path, kind, wait, command)
        }
        #[cfg(feature = "demo")]
        Task::Demo { cell } => crate::demo::run(cell),
        Task::Help => {
            let help = Arguments::command().render_long_help();
            write!(io::stdout(), "{help}").map_err(Failure::Output)?;
            Ok(Status::Done)
        }
        Task::Pointless => Err(Failure::Usage(
            "cldcli: one command is a session of its own, which ends with it: this one makes sense only between \
             others, which are read from standard input"
                .into(),
        )),
    }
}

/// Tells on standard error why something failed.
fn report(failure: &Failure, format: Format) {
    if !failure.is_broken_pipe() {
        let line = match format {
            Format::Human => failure.line(),
            Format::Json => failure.json(),
        };
        say(&format!("{line}\n"));
    }
}

/// A session and what belongs to it.
struct Session {
    client: Client,
    signals: Signals,
    notes: Notes,
}

impl Session {
    fn open(options: &Options) -> Result<Self, Failure> {
        let notes = Notes::new(options.debug);
        let signals = Signals::start().map_err(Failure::local("cannot take signals"))?;
        let client = connect(options, notes)?;
        signals.set_session(&client);
        Ok(Self { client, signals, notes })
    }

    /// Ends the session, so that the server need not wait for its lease to run out.
    fn close(self, options: &Options) {
        match self.client.with_timeout(options.deadline().min(FAREWELL)).close() {
            Ok(()) => self.notes.tell(1, format_args!("session ended")),
            Err(error) => self.notes.tell(1, format_args!("session not ended: {error}")),
        }
    }
}

/// One command in a session of its own.
fn one(
    options: &Options,
    act: impl FnOnce(&mut Shell<Client, io::Stdout>, &Until<'_>) -> Result<Next, Failure>,
) -> Result<Status, Failure> {
    let session = Session::open(options)?;
    let mut shell = Shell::new(session.client.clone(), Output::new(io::stdout(), options.format()));
    let signals = session.signals.listen();
    let interrupted = || signals.next().is_some();
    let done = act(&mut shell, &Until { timeout: options.timeout, interrupted: &interrupted });
    drop(shell);
    session.close(options);
    done.map(|_| Status::Done)
}

/// A program while a lock is held.
fn locked(
    options: &Options,
    path: &[u8],
    kind: LockKind,
    wait: bool,
    mut command: process::Command,
) -> Result<Status, Failure> {
    let session = Session::open(options)?;
    let signals = session.signals.listen();
    let path = absolute(b"/", path);
    let name = show(&path).into_owned();
    session.notes.tell(1, format_args!("asking for the lock of {name}"));
    let client = session.client.clone();
    let ask = move || take_lock(&client, &path, kind, wait);
    let last_words = lock_command::last_words(session.client.terms().lease);
    let done = lock_command::obtain(&name, ask, &signals).and_then(|lock| match lock {
        Ok(lock) => {
            lock_command::show(&mut command, lock.sequencer());
            lock_command::run(&name, &lock, last_words, command, &signals)
        }
        Err(status) => Ok(status),
    });
    // This releases the lock too.
    session.close(options);
    done
}

fn take_lock(client: &Client, path: &[u8], kind: LockKind, wait: bool) -> Result<Option<Lock>, Error> {
    // A lock is lost with its file; only those who ask for it are told.
    let file = match client.open(path, OpenMode::LOCK, EventMask::DELETED) {
        Err(Error::Server(Code::ModeInval)) => {
            client.open(path, OpenMode::LOCK | OpenMode::DIRECTORY, EventMask::DELETED)
        }
        file => file,
    }?;
    if wait { file.lock(kind).map(Some) } else { file.try_lock(kind) }
}

/// Commands from standard input, in one session.
fn commands(options: &Options) -> Result<Status, Failure> {
    let mut output = Output::new(io::stdout(), options.format());
    let on_terminal = io::stdin().is_terminal();
    let talk = options.format() == Format::Human;
    let prompt = talk && (on_terminal || options.interactive);
    if talk {
        output.raw(&[b"Waiting for session startup...\n"])?;
    }
    let session = Session::open(options)?;
    if prompt {
        output.raw(&[b"Type 'help' at the prompt to list commands.\n"])?;
    }
    let shell = Shell::new(session.client.clone(), output);
    let done = if prompt && on_terminal && io::stdout().is_terminal() {
        let lines = Terminal::new(&session.client).map_err(Failure::local("cannot use the terminal"))?;
        obey(options, shell, lines, &session)
    } else {
        obey(options, shell, Piped::new(io::stdin().lock(), prompt), &session)
    };
    session.close(options);
    done
}

/// Does what the lines say, until there are no more. What fails is reported, and the next line follows.
fn obey(
    options: &Options,
    mut shell: Shell<Client, io::Stdout>,
    mut lines: impl Lines,
    session: &Session,
) -> Result<Status, Failure> {
    loop {
        let prompt = format!("[{} {}]$ ", options.user, show(shell.directory()));
        let Some(line) = lines.next(&prompt, &mut shell)? else { return Ok(Status::Done) };
        session.notes.tell(2, format_args!("command: {}", line.escape_ascii()));
        let signal = Cell::new(None);
        let done = command::parse(&line).and_then(|command| {
            let listening = matches!(command, Some(Command::Watch(_)) if lines.is_terminal())
                .then(|| session.signals.listen());
            let interrupted = || {
                signal.set(listening.as_ref().and_then(Listening::next));
                signal.get().is_some()
            };
            let until = Until { timeout: options.timeout, interrupted: &interrupted };
            command.map_or(Ok(Next::Command), |command| shell.execute(command, &until))
        });
        match done {
            Ok(Next::Command) => {}
            Ok(Next::Help) => say(QUICK_REFERENCE),
            Ok(Next::Quit) => return Ok(Status::Done),
            Err(failure @ Failure::Output(_)) => return Err(failure),
            Err(failure) => report(&failure, options.format()),
        }
        if let Some(signal) = signal.get().filter(|&signal| signal != SIGINT) {
            return Ok(Status::Signal(u8::try_from(signal).unwrap_or(0)));
        }
    }
}
