//! What a path may look like, and its parts (protocol.md 7, OPEN step 1).

/// The root's path.
pub(super) const ROOT: &[u8] = b"/";

/// The path that `raw` means, if it is well-formed: it begins with a slash, has no empty component, and no slash
/// at its end unless it is "/" itself. "." and ".." are ordinary names.
///
/// Hail's server works with C strings, so a NUL ends the path (protocol.md 2.1).
pub(super) fn parse(raw: &[u8]) -> Option<&[u8]> {
    let path = raw.split(|&byte| byte == 0).next()?;
    let components = path.strip_prefix(b"/")?;
    let well_formed =
        components.is_empty() || components.split(|&byte| byte == b'/').all(|name| !name.is_empty());
    well_formed.then_some(path)
}

/// The path of the directory that holds `path`, a path that [`parse`] accepted. The root is its own parent.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        None | Some(0) => ROOT,
        Some(end) => path.get(..end).unwrap_or(ROOT),
    }
}

/// The last component of `path`.
pub(super) fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_paths_without_empty_components_are_paths() {
        for good in [&b"/"[..], b"/a", b"/a/b", b"/.", b"/../x", b"/ ", b"/\xff"] {
            assert_eq!(parse(good), Some(good));
        }
        for bad in [&b""[..], b"a", b"a/b", b"//", b"/a/", b"/a//b", b"//a"] {
            assert_eq!(parse(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_nul_ends_the_path_before_the_rules_are_checked() {
        assert_eq!(parse(b"/a\0/"), Some(&b"/a"[..]));
        assert_eq!(parse(b"/a/\0b"), None);
        assert_eq!(parse(b"\0/a"), None);
    }

    #[test]
    fn parent_and_name_are_split_at_the_last_slash() {
        assert_eq!((parent(b"/a"), name(b"/a")), (ROOT, &b"a"[..]));
        assert_eq!((parent(b"/a/bc"), name(b"/a/bc")), (&b"/a"[..], &b"bc"[..]));
        assert_eq!(parent(ROOT), ROOT);
    }
}
