//! The file with a user's secret key.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cldc_core::wire::limits::MAX_KEY;

use crate::failure::NoSession;

/// Reads a key: the contents of the file, without one newline at the end.
///
/// # Errors
/// The file cannot be read, others than its owner may read it, or it holds no key.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, NoSession> {
    let wrong = |problem: String| NoSession::KeyFile { file: path.display().to_string(), problem };
    let unreadable = |error: std::io::Error| wrong(error.to_string());
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(format!(
            "its mode is {:03o}, so others than its owner may use it: run chmod 600 on it",
            mode & 0o777
        )));
    }
    let mut key = Vec::new();
    file.take(MAX_KEY as u64 + 2).read_to_end(&mut key).map_err(unreadable)?;
    if key.last() == Some(&b'\n') {
        key.pop();
    }
    match key.len() {
        0 => Err(wrong("it is empty: a key has 1 to 127 bytes".into())),
        length if length > MAX_KEY => Err(wrong("it is too long: a key has 1 to 127 bytes".into())),
        _ => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn key(contents: &[u8], mode: u32) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_the_key() {
        assert_eq!(key(b"secret\n", 0o600).unwrap(), b"secret");
        assert_eq!(key(b"secret", 0o400).unwrap(), b"secret");
        assert_eq!(key(b" se:cret \n\n", 0o600).unwrap(), b" se:cret \n");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o620, 0o777] {
            let error = key(b"secret", mode).unwrap_err();
            assert!(error.contains(&format!("mode is {mode:03o}")) && error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_key_has_1_to_127_bytes() {
        assert_eq!(key(&[b'k'; 127], 0o600).unwrap().len(), 127);
        assert_eq!(key(&[&[b'k'; 127][..], b"\n"].concat(), 0o600).unwrap().len(), 127);
        assert!(key(&[b'k'; 128], 0o600).unwrap_err().contains("too long"));
        assert!(key(b"\n", 0o600).unwrap_err().contains("empty"));
        assert!(read(Path::new("/no/such/file")).is_err());
    }
}
