//! The key file: one line `user:secret` for each user.
//!
//! The secret is every byte from the colon to the end of the line, 1 to 127 of them. A user's name has 1 to 31 bytes of
//! UTF-8, no colon, no control characters, no blank at either end, and does not begin with `#`. Empty lines and lines
//! that begin with `#` are skipped, and kept when the file is edited.
//!
//! The file must belong to nobody but its owner: one that its group or others may read is refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cldc_core::wire::limits::{MAX_KEY, MAX_USER};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use super::Secret;
use crate::atomic_file;
use crate::database::USERS_MAX;

/// The longest key file, in bytes: room for 100,000 users.
pub const MAX_FILE: u64 = 16 << 20;

/// Reads a key file.
///
/// # Errors
/// See [`KeyFileError`].
pub fn load(path: &Path) -> Result<BTreeMap<String, Secret>, KeyFileError> {
    parse(path, &read(path)?)
}

/// Adds a user with a random secret, and makes the file if there is none.
///
/// # Errors
/// See [`KeyFileError`]; the file is then as it was.
pub fn add(path: &Path, user: &str) -> Result<Secret, KeyFileError> {
    let secret = Secret::random().map_err(|source| KeyFileError::Random { source })?;
    add_with(path, user, &secret)?;
    Ok(secret)
}

/// Adds a user with this secret, and makes the file if there is none.
///
/// # Errors
/// See [`KeyFileError`]; the file is then as it was.
pub fn add_with(path: &Path, user: &str, secret: &Secret) -> Result<(), KeyFileError> {
    check_name(user).map_err(|problem| KeyFileError::Name { user: user.to_owned(), problem })?;
    edit(path, |users, mut text| {
        if users.contains_key(user) {
            return Err(KeyFileError::UserExists { file: path.to_owned(), user: user.to_owned() });
        }
        if !matches!(text.last(), None | Some(b'\n')) {
            text.push(b'\n');
        }
        for part in [user.as_bytes(), b":", secret.as_bytes(), b"\n"] {
            text.extend_from_slice(part);
        }
        Ok(text)
    })
}

/// The secret that somebody else made: the contents of a file, without one newline at the end.
///
/// # Errors
/// [`KeyFileError::SecretFile`], [`KeyFileError::Secret`] if it cannot stand in a line of a key file.
pub fn read_secret(path: &Path, from: impl Read) -> Result<Secret, KeyFileError> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_KEY as u64 + 2).read_to_end(&mut bytes);
    read.map_err(|source| KeyFileError::SecretFile { file: path.to_owned(), source })?;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let wrong = |problem| KeyFileError::Secret { file: path.to_owned(), problem };
    if bytes.contains(&b'\n') || bytes.ends_with(b"\r") {
        return Err(wrong("it has more than one line, or lines that do not end with a newline alone"));
    }
    Secret::new(bytes).ok_or_else(|| wrong("a secret has 1 to 127 bytes"))
}

/// Takes a user out of the file.
///
/// # Errors
/// See [`KeyFileError`]; the file is then as it was.
pub fn remove(path: &Path, user: &str) -> Result<(), KeyFileError> {
    let missing = || KeyFileError::NoSuchUser { file: path.to_owned(), user: user.to_owned() };
    if !path.exists() {
        return Err(missing());
    }
    edit(path, |users, text| {
        if !users.contains_key(user) {
            return Err(missing());
        }
        let is_other = |line: &&[u8]| !matches!(parse_line(line), Ok(Some((name, _))) if name == user);
        Ok(text.split_inclusive(|&byte| byte == b'\n').filter(is_other).flatten().copied().collect())
    })
}

/// Replaces the file by what `change` makes of it, with other editors kept out meanwhile.
fn edit(
    path: &Path,
    change: impl FnOnce(BTreeMap<String, Secret>, Vec<u8>) -> Result<Vec<u8>, KeyFileError>,
) -> Result<(), KeyFileError> {
    let write_error = |source| KeyFileError::Write { file: path.to_owned(), source };
    // The file itself is replaced, so the lock is on its directory.
    let directory = File::open(atomic_file::directory_of(path)).map_err(write_error)?;
    rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))
        .map_err(|error| write_error(error.into()))?;
    let text = match read(path) {
        Err(KeyFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        text => text?,
    };
    let text = change(parse(path, &text)?, text)?;
    atomic_file::replace(path, &text, 0o600).map_err(write_error)
}

fn read(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let read_error = |source| KeyFileError::Read { file: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    let metadata = file.metadata().map_err(read_error)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyFileError::Exposed { file: path.to_owned(), mode: metadata.mode() & 0o777 });
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(read_error)?;
    if text.len() as u64 > MAX_FILE {
        return Err(KeyFileError::TooLarge { file: path.to_owned() });
    }
    Ok(text)
}

fn parse(path: &Path, text: &[u8]) -> Result<BTreeMap<String, Secret>, KeyFileError> {
    let mut users = BTreeMap::new();
    let mut lines = BTreeMap::new();
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        let problem = match parse_line(line) {
            Ok(None) => continue,
            Ok(Some((user, secret))) => match lines.insert(user.to_owned(), number) {
                None => {
                    users.insert(user.to_owned(), secret);
                    continue;
                }
                Some(first) => LineProblem::Duplicate { user: user.to_owned(), first },
            },
            Err(problem) => problem,
        };
        return Err(KeyFileError::Line { file: path.to_owned(), line: number, problem });
    }
    if users.len() > USERS_MAX {
        return Err(KeyFileError::TooMany { file: path.to_owned(), users: users.len() });
    }
    Ok(users)
}

/// `None` for a line without a user.
fn parse_line(line: &[u8]) -> Result<Option<(&str, Secret)>, LineProblem> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    if line.trim_ascii().is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let colon = line.iter().position(|&byte| byte == b':').ok_or(LineProblem::NoColon)?;
    let (user, secret) = line.split_at(colon);
    let user = str::from_utf8(user).map_err(|_| LineProblem::Name(NameProblem::NotUtf8))?;
    check_name(user).map_err(LineProblem::Name)?;
    let secret = secret.strip_prefix(b":").unwrap_or_default();
    if secret.ends_with(b"\r") {
        return Err(LineProblem::CarriageReturn);
    }
    Ok(Some((user, Secret::new(secret).ok_or(LineProblem::SecretLength { length: secret.len() })?)))
}

/// Whether this can be a user's name.
pub(crate) fn check_name(user: &str) -> Result<(), NameProblem> {
    match user {
        _ if user.is_empty() || user.len() > MAX_USER => Err(NameProblem::Length { length: user.len() }),
        _ if user.contains(':') => Err(NameProblem::Colon),
        _ if user.chars().any(char::is_control) => Err(NameProblem::Control),
        _ if user.trim() != user => Err(NameProblem::Blank),
        _ if user.starts_with('#') => Err(NameProblem::Comment),
        _ => Ok(()),
    }
}

/// Why a key file could not be read or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the key file {}: {source}; 'cld user add --keys {} NAME' makes one", file.display(), file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "{} has mode {mode:04o}, so others than its owner can get at the secrets: run 'chmod 600 {}', and replace \
         the secrets if anybody may have read them",
        file.display(), file.display()
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is longer than [`MAX_FILE`].
    #[error("{} is longer than {MAX_FILE} bytes; is it a key file?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It has more users than a cell may have.
    #[error("{} has {users} users; a cell has {USERS_MAX} at most", file.display())]
    TooMany {
        /// The file.
        file: PathBuf,
        /// How many there are.
        users: usize,
    },
    /// A file with a secret cannot be read.
    #[error("cannot read the secret in {}: {source}", file.display())]
    SecretFile {
        /// The file.
        file: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// It holds no secret.
    #[error("{} holds no secret: {problem}", file.display())]
    Secret {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// A line is not as it should be.
    #[error("{}:{line}: {problem}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong in it.
        problem: LineProblem,
    },
    /// The name cannot be a user's.
    #[error("'{}' cannot be a user's name: {problem}", user.escape_default())]
    Name {
        /// The name.
        user: String,
        /// What is wrong with it.
        problem: NameProblem,
    },
    /// The user to add is there already.
    #[error("{} has a user '{user}' already; remove it first to give it a new secret", file.display())]
    UserExists {
        /// The file.
        file: PathBuf,
        /// The user.
        user: String,
    },
    /// The user to remove is not there.
    #[error("{} has no user '{user}'; 'cld user list --keys {}' shows who is there", file.display(), file.display())]
    NoSuchUser {
        /// The file.
        file: PathBuf,
        /// The user.
        user: String,
    },
    /// The file cannot be written.
    #[error("cannot write the key file {}: {source}; it is as it was", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// There are no random numbers for a secret.
    #[error("the system gives no random numbers: {source}")]
    Random {
        /// What failed.
        source: getrandom::Error,
    },
}

/// What is wrong in a line of a key file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// There is no colon.
    #[error("there is no ':'; a line is 'user:secret', or begins with '#'")]
    NoColon,
    /// What comes before the colon cannot be a name.
    #[error("the part before ':' cannot be a user's name: {0}")]
    Name(NameProblem),
    /// The secret is empty or too long.
    #[error("the secret has {length} bytes; it must have 1 to {MAX_KEY}")]
    SecretLength {
        /// Its bytes.
        length: usize,
    },
    /// The line ends as on Windows, and the carriage return would be a part of the secret.
    #[error("the line ends with a carriage return; lines must end with a newline alone")]
    CarriageReturn,
    /// A user twice.
    #[error("the user '{user}' is already in line {first}; remove one of the lines")]
    Duplicate {
        /// The user.
        user: String,
        /// The line that has it too.
        first: usize,
    },
}

/// Why a name cannot be a user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// It is empty or too long.
    #[error("it has {length} bytes and must have 1 to {MAX_USER}")]
    Length {
        /// Its bytes.
        length: usize,
    },
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It has a colon.
    #[error("it must not have a ':'")]
    Colon,
    /// It has a NUL or another control character.
    #[error("it must not have control characters")]
    Control,
    /// It begins or ends with white space.
    #[error("it must not begin or end with white space")]
    Blank,
    /// It begins with `#`.
    #[error("it must not begin with '#', which makes a comment")]
    Comment,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parse_text(text: &str) -> Result<BTreeMap<String, Secret>, String> {
        parse(Path::new("keys"), text.as_bytes()).map_err(|error| error.to_string())
    }

    fn file_with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        atomic_file::replace(&path, text.as_bytes(), 0o600).unwrap();
        (directory, path)
    }

    #[test]
    fn a_secret_is_every_byte_after_the_colon() {
        let users = parse_text("# who may come\n\nweb: a:b \nsön:x").unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(users["web"].as_bytes(), b" a:b ");
        assert_eq!(users["sön"].as_bytes(), b"x");
    }

    #[test]
    fn errors_name_the_file_the_line_and_what_is_wrong() {
        let cases = [
            ("a:b\nnobody\n", "keys:2: there is no ':'"),
            (":x", "keys:1: the part before ':' cannot be a user's name: it has 0 bytes"),
            ("a:", "keys:1: the secret has 0 bytes; it must have 1 to 127"),
            ("a:b\n\na:c", "keys:3: the user 'a' is already in line 1"),
            ("a:b\r\n", "keys:1: the line ends with a carriage return"),
            (" a:b", "keys:1: the part before ':' cannot be a user's name: it must not begin"),
            ("a\tb:c", "control characters"),
        ];
        for (text, message) in cases {
            let error = parse_text(text).unwrap_err();
            assert!(error.contains(message), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn names_and_secrets_have_the_lengths_of_the_protocol() {
        let (user, secret) = ("u".repeat(31), "s".repeat(127));
        assert_eq!(parse_text(&format!("{user}:{secret}")).unwrap()[&user].as_bytes(), secret.as_bytes());
        assert!(
            parse_text(&format!("{user}u:{secret}")).unwrap_err().contains("32 bytes and must have 1 to 31")
        );
        assert!(parse_text(&format!("{user}:{secret}s")).unwrap_err().contains("128 bytes"));
    }

    #[test]
    fn adding_and_removing_keeps_everything_else() {
        let (_directory, path) = file_with("# first\na:one\n# last, without a newline");
        let secret = add(&path, "b").unwrap();
        assert_eq!(secret.as_bytes().len(), 64);
        remove(&path, "a").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let digits = str::from_utf8(secret.as_bytes()).unwrap();
        assert_eq!(text, format!("# first\n# last, without a newline\nb:{digits}\n"));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_ne!(add(&path, "c").unwrap(), secret, "secrets are random");
    }

    #[test]
    fn a_user_is_added_once_and_removed_once() {
        let (_directory, path) = file_with("a:one\n");
        assert!(matches!(add(&path, "a"), Err(KeyFileError::UserExists { .. })));
        assert!(matches!(add(&path, "a:b"), Err(KeyFileError::Name { problem: NameProblem::Colon, .. })));
        remove(&path, "a").unwrap();
        assert!(matches!(remove(&path, "a"), Err(KeyFileError::NoSuchUser { .. })));
    }

    #[test]
    fn the_first_user_makes_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        assert!(matches!(remove(&path, "a"), Err(KeyFileError::NoSuchUser { .. })));
        add(&path, "a").unwrap();
        assert_eq!(load(&path).unwrap().len(), 1);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let (_directory, path) = file_with("a:one\n");
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(load(&path), Err(KeyFileError::Exposed { mode: found, .. }) if found == mode));
            assert!(matches!(add(&path, "b"), Err(KeyFileError::Exposed { .. })));
        }
    }
}
