//! What the holder of a lock shows to whoever it asks to act, so that what comes too late is refused.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

use cldc_core::wire::LockFlags;
use cldc_core::wire::extended::Sequencer as OnWire;
use cldc_core::wire::limits::MAX_PATH;

use crate::types::LockKind;

/// One holding of a lock: of which file, in which mode, and its number among the holdings (Burrows, The Chubby lock
/// service, 2.4).
///
/// The holder takes it from `Lock::sequencer` and sends it along with what it asks of others. They ask
/// `check_sequencer`, or write with `write_fenced`: once the lock has been released, or has gone to somebody else, the
/// sequencer is stale for good, however late the request comes. It is a description and no secret; whoever knows it can
/// show it.
///
/// As text it is `x:INODE:GENERATION:PATH`, with `s` for a shared lock: `x:51:3:/service/leader`. A path may hold any
/// byte, so [`Sequencer::to_bytes`] and [`Sequencer::to_os_string`] are exact, and `Display` only if it is UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sequencer {
    /// The path of the file; empty if the server could not tell it any more, and then the sequencer is stale.
    pub path: Vec<u8>,
    /// The number of the file.
    pub inode: u64,
    /// How the lock is held.
    pub kind: LockKind,
    /// Rises each time that the lock goes to others than before.
    pub generation: u64,
}

/// What is wrong with the text of a sequencer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SequencerError {
    /// There are fewer than four fields.
    #[error(
        "a sequencer is KIND:INODE:GENERATION:PATH, such as x:51:3:/service/leader; fields are missing here"
    )]
    Fields,
    /// The first field.
    #[error("a sequencer begins with x: (exclusive) or s: (shared)")]
    Kind,
    /// The second field.
    #[error("the second field of a sequencer is the number of an inode, such as 51")]
    Inode,
    /// The third field.
    #[error("the third field of a sequencer is the generation of a lock, such as 3")]
    Generation,
    /// The last field.
    #[error("the last field of a sequencer is a path, which begins with / and has at most 256 bytes")]
    Path,
}

impl Sequencer {
    /// Reads the text form, as [`Sequencer::to_bytes`] writes it.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn from_bytes(text: &[u8]) -> Result<Self, SequencerError> {
        let mut fields = text.splitn(4, |&byte| byte == b':');
        let mut field = || fields.next().ok_or(SequencerError::Fields);
        let (kind, inode, generation, path) = (field()?, field()?, field()?, field()?);
        let kind = match kind {
            b"x" => LockKind::Exclusive,
            b"s" => LockKind::Shared,
            _ => return Err(SequencerError::Kind),
        };
        let inode = number(inode).ok_or(SequencerError::Inode)?;
        let generation = number(generation).ok_or(SequencerError::Generation)?;
        if !(path.is_empty() || path.starts_with(b"/")) || path.len() > MAX_PATH {
            return Err(SequencerError::Path);
        }
        Ok(Self { path: path.to_vec(), inode, kind, generation })
    }

    /// The text form, with the path as it is.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.head().as_bytes(), &self.path].concat()
    }

    /// The text form for the environment of a process or its command line.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        OsString::from_vec(self.to_bytes())
    }

    fn head(&self) -> String {
        let kind = match self.kind {
            LockKind::Exclusive => 'x',
            LockKind::Shared => 's',
        };
        format!("{kind}:{}:{}:", self.inode, self.generation)
    }

    pub(crate) fn from_wire(wire: &OnWire<'_>) -> Self {
        let kind = if wire.mode.contains(LockFlags::SHARED) { LockKind::Shared } else { LockKind::Exclusive };
        Self { path: wire.path.to_vec(), inode: wire.inode, kind, generation: wire.generation }
    }

    pub(crate) fn on_wire(&self) -> OnWire<'_> {
        OnWire { inode: self.inode, generation: self.generation, mode: self.kind.flags(), path: &self.path }
    }
}

/// Digits only: no sign, no blanks.
fn number(text: &[u8]) -> Option<u64> {
    let text =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

/// The text form; bytes of the path that are not UTF-8 are replaced.
impl fmt::Display for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.head(), String::from_utf8_lossy(&self.path))
    }
}

impl FromStr for Sequencer {
    type Err = SequencerError;

    fn from_str(text: &str) -> Result<Self, SequencerError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl TryFrom<&OsStr> for Sequencer {
    type Error = SequencerError;

    fn try_from(text: &OsStr) -> Result<Self, SequencerError> {
        Self::from_bytes(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequencer(path: &[u8], kind: LockKind) -> Sequencer {
        Sequencer { path: path.to_vec(), inode: 51, kind, generation: 3 }
    }

    #[test]
    fn the_text_form_is_read_as_it_is_written() {
        let exclusive = sequencer(b"/a:b c", LockKind::Exclusive);
        assert_eq!(exclusive.to_string(), "x:51:3:/a:b c");
        assert_eq!("x:51:3:/a:b c".parse(), Ok(exclusive));
        let largest =
            Sequencer { inode: u64::MAX, generation: u64::MAX, ..sequencer(b"/", LockKind::Shared) };
        assert_eq!(largest.to_string(), "s:18446744073709551615:18446744073709551615:/");
        assert_eq!(largest.to_string().parse(), Ok(largest));
        let gone = sequencer(b"", LockKind::Shared);
        assert_eq!(gone.to_string().parse(), Ok(gone));
    }

    #[test]
    fn a_path_of_any_bytes_survives_in_the_environment() {
        let odd = sequencer(b"/\xff\n:", LockKind::Exclusive);
        assert_eq!(Sequencer::from_bytes(&odd.to_bytes()), Ok(odd.clone()));
        assert_eq!(Sequencer::try_from(odd.to_os_string().as_os_str()), Ok(odd.clone()));
        assert_eq!(odd.to_string(), "x:51:3:/\u{fffd}\n:");
    }

    #[test]
    fn what_is_wrong_with_a_text_is_named() {
        let cases = [
            ("", SequencerError::Fields),
            ("x:1:2", SequencerError::Fields),
            ("X:1:2:/a", SequencerError::Kind),
            (":1:2:/a", SequencerError::Kind),
            ("x::2:/a", SequencerError::Inode),
            ("x:+1:2:/a", SequencerError::Inode),
            ("x:18446744073709551616:2:/a", SequencerError::Inode),
            ("s:1:-2:/a", SequencerError::Generation),
            ("s:1: 2:/a", SequencerError::Generation),
            ("s:1:2:a", SequencerError::Path),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Sequencer>(), Err(error), "{text}");
        }
        let long = format!("x:1:2:/{}", "a".repeat(256));
        assert_eq!(long.parse::<Sequencer>(), Err(SequencerError::Path));
    }
}
