//! The commands, and how they are written on a line: in a script, in a pipe, at the prompt (protocol.md 12).

use cldc_udp::LockKind;

use crate::failure::Failure;

/// A path as it was given: absolute, or relative to the working directory. Any bytes.
pub(crate) type Path = Vec<u8>;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Cd(Path),
    Ls(Option<Path>),
    Cat(Path),
    Get(Path),
    Stat(Path),
    Watch(Path),
    /// From a file of this machine to a file of the cell.
    CopyIn {
        local: Path,
        remote: Path,
    },
    /// From a file of the cell to a file of this machine.
    CopyOut {
        remote: Path,
        local: Path,
    },
    Mkdir(Path),
    Rm(Path),
    Lock {
        path: Path,
        kind: LockKind,
        wait: bool,
    },
    Unlock(Path),
    ListLocks,
    Help,
    Quit,
}

/// What can stand first on a line, for completion.
pub(crate) const NAMES: &[&str] = &[
    "cat",
    "cd",
    "cpin",
    "cpout",
    "exit",
    "get",
    "help",
    "list locks",
    "lock",
    "ls",
    "mkdir",
    "quit",
    "rm",
    "stat",
    "trylock",
    "unlock",
    "watch",
];

/// The answer to `help`.
pub(crate) const QUICK_REFERENCE: &str = "\
Commands (DIR and FILE without a leading / are in the working directory):
  cd [DIR]              change the working directory; / if none is given
  ls [DIR]              list a directory
  cat FILE              show a file, with a newline after it
  get FILE              show a file as it is
  stat PATH             show what a file or directory is
  cpin FSFILE FILE      copy a file of this machine into the cell
  cpout FILE FSFILE     copy a file of the cell to this machine
  mkdir DIR             make a directory
  rm PATH               delete a file or an empty directory
  watch PATH            tell of changes until interrupted
  lock FILE             take the lock of a file, or queue for it
  trylock FILE          take the lock of a file if nobody holds it
  unlock FILE           release a lock, or leave its queue
  list locks            list the locks that are held or asked for
  help                  this list
  quit, exit            end the session, which releases its locks
From the shell only: put PATH < FILE; lock PATH -- COMMAND; check-sequencer SEQUENCER; see cldcli --help.
";

/// Reads a line. A blank line and a comment are no command.
///
/// # Errors
/// It is no command, or lacks an argument.
pub(crate) fn parse(line: &[u8]) -> Result<Option<Command>, Failure> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (name, rest) = line.split_at_checked(end).unwrap_or((line, b""));
    let rest = rest.trim_ascii_start();
    let one = || match rest {
        b"" => Err(Failure::Usage(format!("{}: argument required", name.escape_ascii()))),
        path => Ok(path.to_vec()),
    };
    let two = || match rest.split_at_checked(rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len()))
    {
        Some((first, [b' ', second @ ..])) if !second.is_empty() => Ok((first.to_vec(), second.to_vec())),
        _ => Err(Failure::Usage(format!("{}: two arguments required", name.escape_ascii()))),
    };
    let lock = |wait| one().map(|path| Command::Lock { path, kind: LockKind::Exclusive, wait });
    Ok(Some(match name {
        b"cd" => Command::Cd(if rest.is_empty() { b"/".to_vec() } else { rest.to_vec() }),
        b"ls" => Command::Ls((!rest.is_empty()).then(|| rest.to_vec())),
        b"cat" => Command::Cat(one()?),
        b"get" => Command::Get(one()?),
        b"stat" => Command::Stat(one()?),
        b"watch" => Command::Watch(one()?),
        b"cpin" => two().map(|(local, remote)| Command::CopyIn { local, remote })?,
        b"cpout" => two().map(|(remote, local)| Command::CopyOut { remote, local })?,
        b"mkdir" => Command::Mkdir(one()?),
        b"rm" => Command::Rm(one()?),
        b"lock" => lock(true)?,
        b"trylock" => lock(false)?,
        b"unlock" => Command::Unlock(one()?),
        b"list" if rest == b"locks" => Command::ListLocks,
        b"help" => Command::Help,
        b"quit" | b"exit" => Command::Quit,
        b"put" => {
            let words = "put: the commands are read from standard input: use cpin, or cldcli put PATH < FILE";
            return Err(Failure::Usage(words.into()));
        }
        _ => {
            let line = [name, rest].join(&b' ');
            return Err(Failure::Usage(format!(
                "INVALID COMMAND: {}",
                String::from_utf8_lossy(line.trim_ascii_end())
            )));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        parse(line.as_bytes()).unwrap().unwrap()
    }

    fn complaint(line: &str) -> String {
        parse(line.as_bytes()).unwrap_err().line()
    }

    #[test]
    fn blank_lines_and_comments_are_no_commands() {
        for line in ["", "  ", "\t\r", "#", "# ls /", "#ls"] {
            assert_eq!(parse(line.as_bytes()).unwrap(), None, "{line:?}");
        }
    }

    #[test]
    fn commands_take_the_rest_of_the_line_with_its_blanks() {
        assert_eq!(command("cat  /a b "), Command::Cat(b"/a b".into()));
        assert_eq!(command("ls"), Command::Ls(None));
        assert_eq!(command("ls /x\r"), Command::Ls(Some(b"/x".into())));
        assert_eq!(command("cd"), Command::Cd(b"/".into()));
        let path = b"/a -- sh".to_vec();
        assert_eq!(command("lock /a -- sh"), Command::Lock { path, kind: LockKind::Exclusive, wait: true });
        assert_eq!(command("exit now"), Command::Quit);
    }

    #[test]
    fn two_arguments_are_split_at_one_blank() {
        assert_eq!(command("cpin a  b c"), Command::CopyIn { local: b"a".into(), remote: b" b c".into() });
        assert_eq!(command("cpout /x y"), Command::CopyOut { remote: b"/x".into(), local: b"y".into() });
        assert_eq!(complaint("cpin a"), "cpin: two arguments required");
        assert_eq!(complaint("cpin"), "cpin: two arguments required");
    }

    #[test]
    fn what_is_no_command_is_repeated() {
        assert_eq!(complaint("make  me a sandwich"), "INVALID COMMAND: make me a sandwich");
        assert_eq!(complaint("list"), "INVALID COMMAND: list");
        assert_eq!(complaint("list keys"), "INVALID COMMAND: list keys");
        assert_eq!(complaint("LS /"), "INVALID COMMAND: LS /");
    }

    #[test]
    fn missing_arguments_are_told() {
        for name in ["cat", "get", "stat", "watch", "mkdir", "rm", "lock", "trylock", "unlock"] {
            assert_eq!(complaint(name), format!("{name}: argument required"));
        }
    }

    #[test]
    fn every_name_is_a_command_and_is_in_the_reference() {
        for name in NAMES {
            assert!(parse(format!("{name} a b").as_bytes()).is_ok() || *name == "list locks", "{name}");
            assert!(QUICK_REFERENCE.contains(name), "{name}");
        }
        assert_eq!(command("list locks"), Command::ListLocks);
    }
}
