//! The cell's secret: what a server must know to be let in by the others, and the file that holds it.
//!
//! The file is text: the line [`HEADER`], the cell's id in 32 hexadecimal digits, and the secret in 64. It must belong to
//! nobody but its owner: one that its group or others may read is refused.

use std::fmt::{self, Debug, Formatter};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::atomic_file;

/// The length of a secret in bytes.
pub const SECRET_SIZE: usize = 32;

/// The file's first line.
pub const HEADER: &str = "CLD cell secret, version 1";

/// No file is read beyond this many bytes.
const MAX_FILE: u64 = 1024;

/// The secret that all servers of one cell share. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_SIZE]);

impl Secret {
    /// The secret that is these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; SECRET_SIZE]) -> Self {
        Self(bytes)
    }

    /// A new secret from the system's random numbers.
    ///
    /// # Errors
    /// [`SecretError::Random`] if there are none.
    pub fn generate() -> Result<Self, SecretError> {
        let mut bytes = [0; SECRET_SIZE];
        getrandom::fill(&mut bytes).map_err(|source| SecretError::Random { source })?;
        Ok(Self(bytes))
    }

    /// The bytes of the secret.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SECRET_SIZE] {
        &self.0
    }
}

/// What the file holds: which cell it is, and the secret of its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The cell's id.
    pub cell: u128,
    /// The secret.
    pub secret: Secret,
}

impl SecretFile {
    /// Writes a new file that only its owner may read, durably.
    ///
    /// # Errors
    /// [`SecretError::Exists`] if there is anything of that name, which stays as it is; [`SecretError::Write`].
    pub fn write_new(&self, path: &Path) -> Result<(), SecretError> {
        let digits: String = self.secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("{HEADER}\n{:032x}\n{digits}\n", self.cell);
        atomic_file::create(path, text.as_bytes(), 0o600).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => SecretError::Exists { file: path.to_owned() },
            _ => SecretError::Write { file: path.to_owned(), source },
        })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`SecretError::Read`], [`SecretError::Exposed`], [`SecretError::Content`].
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let read_error = |source| SecretError::Read { file: path.to_owned(), source };
        let file = File::open(path).map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(SecretError::Exposed { file: path.to_owned(), mode: metadata.mode() & 0o777 });
        }
        let mut text = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut text).map_err(read_error)?;
        parse(&text).map_err(|problem| SecretError::Content { file: path.to_owned(), problem })
    }
}

impl Debug for Secret {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "Secret({SECRET_SIZE} bytes)")
    }
}

fn parse(text: &[u8]) -> Result<SecretFile, ContentProblem> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut lines = text.split(|&byte| byte == b'\n');
    if lines.next() != Some(HEADER.as_bytes()) {
        return Err(ContentProblem::Header);
    }
    let (cell, secret) = (digits(lines.next(), 2)?, digits(lines.next(), 3)?);
    match lines.next() {
        None => Ok(SecretFile { cell: u128::from_be_bytes(cell), secret: Secret(secret) }),
        Some(_) => Err(ContentProblem::More),
    }
}

/// A line of hexadecimal digits, two for each byte.
fn digits<const N: usize>(line: Option<&[u8]>, number: usize) -> Result<[u8; N], ContentProblem> {
    let line = line.unwrap_or_default();
    if line.len() != 2 * N {
        return Err(ContentProblem::Length { line: number, found: line.len(), right: 2 * N });
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(line.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
            *byte = (*byte << 4) | value.ok_or(ContentProblem::Digit { line: number })?;
        }
    }
    Ok(bytes)
}

/// Why there is no secret, or none could be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the cell's secret {}: {source}; copy it from another server of the cell, or make a new cell with 'cld cell init'", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "{} has mode {mode:04o}, so others than its owner can get at the cell's secret: run 'chmod 600 {}', and \
         replace the secret on all servers if anybody may have read it",
        file.display(), file.display()
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no secret.
    #[error("{} does not hold a cell's secret: {problem}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        problem: ContentProblem,
    },
    /// There is such a file already.
    #[error("{} exists; a secret in use is never written over: remove it first if it is of no use", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write the cell's secret {}: {source}", file.display())]
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

/// What is wrong in a secret's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ContentProblem {
    /// The first line is another.
    #[error("its first line must be '{HEADER}'")]
    Header,
    /// A line has another length.
    #[error("its line {line} must be {right} hexadecimal digits, but has {found} bytes")]
    Length {
        /// The line, from 1.
        line: usize,
        /// Its length in bytes.
        found: usize,
        /// What it should be.
        right: usize,
    },
    /// A character is no digit.
    #[error("its line {line} must have nothing but hexadecimal digits")]
    Digit {
        /// The line, from 1.
        line: usize,
    },
    /// There are more lines.
    #[error("it must end after its third line")]
    More,
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fresh() -> SecretFile {
        SecretFile { cell: 0xce11, secret: Secret::generate().unwrap() }
    }

    #[test]
    fn a_secret_reads_back_from_a_file_that_only_its_owner_can_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cell.secret");
        let file = fresh();
        assert_ne!(file, fresh(), "secrets are random");
        file.write_new(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(SecretFile::read(&path).unwrap(), file);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_file_that_is_there_is_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cell.secret");
        std::fs::write(&path, "old").unwrap();
        let error = fresh().write_new(&path).unwrap_err();
        assert!(matches!(error, SecretError::Exists { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cell.secret");
        fresh().write_new(&path).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(SecretFile::read(&path), Err(SecretError::Exposed { mode: found, .. }) if found == mode)
            );
        }
    }

    #[test]
    fn errors_say_what_the_file_must_hold() {
        let cell = "0123456789abcdefABCDEF0011223344";
        let secret = format!("{cell}{cell}");
        let good = format!("{HEADER}\n{cell}\n{secret}");
        assert_eq!(parse(good.as_bytes()).unwrap().cell, 0x0123_4567_89ab_cdef_abcd_ef00_1122_3344);
        let length = |line, found, right| ContentProblem::Length { line, found, right };
        let cases = [
            (String::new(), ContentProblem::Header),
            (format!("{cell}\n{secret}\n"), ContentProblem::Header),
            (format!("{HEADER}\n{secret}\n"), length(2, 64, 32)),
            (format!("{HEADER}\n{cell}\n"), length(3, 0, 64)),
            (format!("{good}0\n"), length(3, 65, 64)),
            (format!("{HEADER}\n{cell}\n{}g\n", &secret[1..]), ContentProblem::Digit { line: 3 }),
            (format!("{good}\nmore"), ContentProblem::More),
        ];
        for (text, problem) in cases {
            assert_eq!(parse(text.as_bytes()), Err(problem), "{text:?}");
        }
        let error = SecretFile::read(Path::new("/nonexistent/secret")).unwrap_err().to_string();
        assert!(error.contains("'cld cell init'"), "{error}");
    }
}
