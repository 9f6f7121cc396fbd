//! Lines from a terminal: with editing, history, and completion of commands and paths.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use cldc_udp::blocking::Client;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Context, Editor, Helper, Highlighter, Hinter, Validator};

use crate::command;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::remote::Remote;
use crate::shell::{Shell, absolute};

/// How long completion waits for a directory.
const PATIENCE: Duration = Duration::from_millis(500);

/// Lines from a terminal.
pub(crate) struct Terminal {
    editor: Editor<Completion, FileHistory>,
    history: Option<PathBuf>,
    /// Lines that were pasted together with the last one.
    pasted: VecDeque<Vec<u8>>,
}

impl Terminal {
    /// # Errors
    /// The terminal cannot be used. Without a place for it, there is no history from one run to the next.
    pub(crate) fn new(client: &Client) -> io::Result<Self> {
        let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true).build();
        let mut editor = Editor::with_config(config).map_err(io::Error::other)?;
        editor.set_helper(Some(Completion {
            client: client.with_timeout(PATIENCE),
            directory: b"/".to_vec(),
            files: FilenameCompleter::new(),
        }));
        let history = history_file();
        if let Some(file) = &history {
            // There is none in the first run.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, history, pasted: VecDeque::new() })
    }
}

impl Lines for Terminal {
    fn next<R: Remote, W: Write>(
        &mut self,
        prompt: &str,
        shell: &mut Shell<R, W>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        if let Some(completion) = self.editor.helper_mut() {
            completion.directory = shell.directory().to_vec();
        }
        if let Some(line) = self.pasted.pop_front() {
            return Ok(Some(line));
        }
        match self.editor.readline(prompt) {
            Ok(text) => {
                self.pasted = text.lines().map(|line| line.as_bytes().to_vec()).collect();
                Ok(Some(self.pasted.pop_front().unwrap_or_default()))
            }
            Err(ReadlineError::Interrupted) => Ok(Some(Vec::new())),
            Err(ReadlineError::Eof) => Ok(None),
            Err(error) => Err(Failure::local("cannot read from the terminal")(io::Error::other(error))),
        }
    }

    fn is_terminal(&self) -> bool {
        true
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(file) = &self.history {
            // A history that cannot be kept is no reason to complain at the end.
            let _ = self.editor.save_history(file);
        }
    }
}

/// `$XDG_STATE_HOME/cldcli/history`, in a directory that is made for it.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let directory = state.join("cldcli");
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    let writable = !fs::metadata(&directory).ok()?.permissions().readonly();
    writable.then(|| directory.join("history"))
}

/// Completes commands, paths of the cell, and paths of this machine.
#[derive(Helper, Hinter, Highlighter, Validator)]
struct Completion {
    client: Client,
    directory: Vec<u8>,
    files: FilenameCompleter,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..position).unwrap_or(line);
        let pairs = |names: Vec<String>| {
            names.into_iter().map(|name| Pair { display: name.clone(), replacement: name }).collect()
        };
        match wanted(typed) {
            Wanted::Command => {
                let names = command::NAMES.iter().filter(|name| name.starts_with(typed.trim_start()));
                let start = typed.len() - typed.trim_start().len();
                Ok((start, pairs(names.map(|name| format!("{name} ")).collect())))
            }
            Wanted::Remote { directory, name } => {
                let directory = absolute(&self.directory, directory.as_bytes());
                let mut names = self.names(&directory);
                names.retain(|found| found.starts_with(name));
                Ok((position.saturating_sub(name.len()), pairs(names)))
            }
            Wanted::Local => self.files.complete_path(line, position),
            Wanted::Nothing => Ok((position, Vec::new())),
        }
    }
}

impl Completion {
    /// The names in a directory of the cell that can be typed; none if they cannot be had soon.
    fn names(&self, directory: &[u8]) -> Vec<String> {
        let names = self.client.list(directory).unwrap_or_default();
        names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect()
    }
}

/// What can be completed.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Command,
    /// A name in a directory of the cell; the directory as it was typed, without the slash at its end.
    Remote {
        directory: Cow<'a, str>,
        name: &'a str,
    },
    Local,
    Nothing,
}

fn wanted(typed: &str) -> Wanted<'_> {
    let Some((command, rest)) = typed.trim_start().split_once(' ') else { return Wanted::Command };
    let second = rest.split_once(' ').map(|(_, second)| second);
    match (command, second) {
        (
            "cat" | "cd" | "get" | "lock" | "ls" | "mkdir" | "rm" | "stat" | "trylock" | "unlock" | "watch",
            _,
        ) => remote(rest.trim_start()),
        ("cpin", None) | ("cpout", Some(_)) => Wanted::Local,
        ("cpin", Some(second)) => remote(second),
        ("cpout", None) => remote(rest),
        ("list", _) => Wanted::Command,
        _ => Wanted::Nothing,
    }
}

fn remote(path: &str) -> Wanted<'_> {
    match path.rsplit_once('/') {
        None => Wanted::Remote { directory: Cow::Borrowed(""), name: path },
        Some(("", name)) => Wanted::Remote { directory: Cow::Borrowed("/"), name },
        Some((directory, name)) => Wanted::Remote { directory: Cow::Borrowed(directory), name },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(directory: &'static str, name: &'static str) -> Wanted<'static> {
        Wanted::Remote { directory: Cow::Borrowed(directory), name }
    }

    #[test]
    fn the_first_word_is_a_command() {
        for typed in ["", "l", "  ca", "list l"] {
            assert_eq!(wanted(typed), Wanted::Command, "{typed:?}");
        }
    }

    #[test]
    fn arguments_are_paths_of_the_cell_or_of_this_machine() {
        assert_eq!(wanted("cat "), at("", ""));
        assert_eq!(wanted("ls /a/b"), at("/a", "b"));
        assert_eq!(wanted("rm /x"), at("/", "x"));
        assert_eq!(wanted("stat d/e f"), at("d", "e f"));
        assert_eq!(wanted("cpin /tm"), Wanted::Local);
        assert_eq!(wanted("cpin /tmp/x /se"), at("/", "se"));
        assert_eq!(wanted("cpout /se"), at("/", "se"));
        assert_eq!(wanted("cpout /se /tm"), Wanted::Local);
        assert_eq!(wanted("help me"), Wanted::Nothing);
    }
}
