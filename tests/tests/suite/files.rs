//! The name space and what is in it (protocol.md 7; failures.md 8, 11, 32-34).
#![expect(clippy::panic, reason = "a helper that fails is a failed test")]

use cld_tests::raw::codes::{code, lock, mode};
use cld_tests::raw::{RawSession, Request, directory_names};

use crate::servers::Servers;

const MKDIR: u32 = mode::CREATE | mode::EXCL | mode::DIRECTORY;
const LIST: u32 = mode::READ | mode::DIRECTORY;

/// The names in a directory.
#[track_caller]
fn list(session: &mut RawSession, path: &str) -> Vec<String> {
    let fh = session.open(path, LIST, 0).unwrap_or_else(|code| panic!("OPEN {path}: code {code}"));
    let node = session.get(fh).unwrap_or_else(|code| panic!("GET {path}: code {code}"));
    assert_eq!(node.flags, 1, "a directory");
    assert_eq!(session.close(fh), code::OK);
    let names = directory_names(&node.data).unwrap_or_else(|error| panic!("{path}: {error}"));
    names.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect()
}

#[test]
fn malformed_paths_are_no_names() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    session.create("/f");
    assert!(session.open("/d", MKDIR, 0).is_ok());
    for path in ["", "f", "d/f", "//", "//f", "/d//f", "/f/", "/d/", "/d/f/", "\0", "f\0/f"] {
        for open in [0, mode::READ, LIST, mode::CREATE, MKDIR] {
            assert_eq!(session.open(path, open, 0), Err(code::NAME_INVAL), "{path:?}, mode {open:x}");
        }
        assert_eq!(session.del(path), code::NAME_INVAL, "{path:?}");
    }
    assert_eq!(list(&mut session, "/"), ["f", "d"]);
}

#[test]
fn a_nul_ends_a_path() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/cut\0here");
    assert_eq!(session.get(fh).unwrap().name, b"/cut");
    assert_eq!(list(&mut session, "/"), ["cut"]);
    assert!(session.open("/cut\0 or there", 0, 0).is_ok());
    assert_eq!(session.del("/cut\0/"), code::OK);
}

#[test]
fn dots_are_ordinary_names() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    for path in ["/.", "/..", "/..."] {
        session.create(path);
    }
    assert_eq!(list(&mut session, "/"), [".", "..", "..."]);
    assert_eq!(session.open("/../x", mode::CREATE, 0), Err(code::NAME_INVAL), "a file is no parent");
}

#[test]
fn a_path_of_the_longest_length_is_kept_whole() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let longest = format!("/{}", "n".repeat(255));
    let fh = session.create(&longest);
    assert_eq!(session.get(fh).unwrap().name, longest.as_bytes());
    assert_eq!(list(&mut session, "/"), [&longest[1..]]);
    assert_eq!(session.open(&format!("{longest}n"), mode::CREATE, 0), Err(code::BAD_PKT));
    assert_eq!(session.del(&longest), code::OK);
    assert!(list(&mut session, "/").is_empty());
}

#[test]
fn the_root_is_a_directory_that_cannot_be_made_or_deleted() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let fh = session.open("/", LIST, 0).unwrap();
    let root = session.get(fh).unwrap();
    assert_eq!(
        (root.inum, root.version, root.flags, &root.name[..], &root.data[..]),
        (10, 1, 1, &b"/"[..], &b""[..])
    );
    for (open, code) in
        [(mode::READ, code::MODE_INVAL), (MKDIR, code::NAME_INVAL), (mode::CREATE, code::NAME_INVAL)]
    {
        assert_eq!(session.open("/", open, 0), Err(code), "mode {open:x}");
    }
    assert_eq!(session.del("/"), code::NAME_INVAL);
}

#[test]
fn open_checks_what_is_there() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    session.create("/f");
    assert!(session.open("/d", MKDIR, 0).is_ok());
    for (path, open, code) in [
        ("/none", mode::READ, code::NAME_INVAL),
        ("/none", LIST, code::NAME_INVAL),
        ("/f", mode::CREATE | mode::EXCL, code::INODE_EXISTS),
        ("/d", MKDIR, code::INODE_EXISTS),
        ("/f", LIST, code::MODE_INVAL),
        ("/d", mode::READ, code::MODE_INVAL),
        ("/f", mode::CREATE | mode::DIRECTORY, code::MODE_INVAL),
        ("/d", mode::CREATE, code::MODE_INVAL),
    ] {
        assert_eq!(session.open(path, open, 0), Err(code), "{path}, mode {open:x}");
    }
    // Exclusive without creation is ignored, no mode at all is a valid one, and unknown bits are kept out of it.
    for open in [mode::EXCL, 0, mode::READ | 0x1000, mode::CREATE] {
        assert!(session.open("/f", open, 0).is_ok(), "mode {open:x}");
    }
}

#[test]
fn a_missing_parent_is_a_wrong_name() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    assert_eq!(session.open("/none/f", mode::CREATE, 0), Err(code::NAME_INVAL));
    assert_eq!(session.open("/none/d", MKDIR, 0), Err(code::NAME_INVAL));
    assert_eq!(session.del("/none/f"), code::NAME_INVAL);
    assert_eq!(session.del("/f"), code::NAME_INVAL, "in an empty directory");
}

#[test]
fn a_file_has_no_children() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    assert_eq!(session.put(fh, b"precious"), code::OK);
    for open in [mode::CREATE, MKDIR] {
        let refused = session.open("/f/child", open, 0);
        assert!(matches!(refused, Err(code::NAME_INVAL | code::MODE_INVAL)), "{refused:?}");
    }
    assert_eq!(session.open("/f/child", 0, 0), Err(code::NAME_INVAL));
    let node = session.get(fh).unwrap();
    assert_eq!((node.version, &node.data[..]), (2, &b"precious"[..]));
}

#[test]
fn a_directory_lists_its_children_in_the_order_of_creation() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    assert!(session.open("/d", MKDIR, 0).is_ok());
    // Names around the multiple of eight that an entry is padded to.
    let names = ["z", "yy", "xxxxx", "wwwwww", "vvvvvvv", "uuuuuuuuuuuuuu", "a b", "\u{e9}"];
    for name in names {
        session.create(&format!("/d/{name}"));
    }
    assert!(session.open("/d/sub", MKDIR, 0).is_ok());
    session.create("/d/sub/inner");
    let all: Vec<&str> = names.into_iter().chain(["sub"]).collect();
    assert_eq!(list(&mut session, "/d"), all);
    assert_eq!(session.del("/d/xxxxx"), code::OK);
    session.create("/d/xxxxx");
    let moved: Vec<&str> = all.iter().copied().filter(|name| *name != "xxxxx").chain(["xxxxx"]).collect();
    assert_eq!(list(&mut session, "/d"), moved);
    assert_eq!(list(&mut session, "/d/sub"), ["inner"]);
    assert_eq!(list(&mut session, "/"), ["d"]);
}

#[test]
fn versions_count_changes_of_contents() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let root = session.open("/", LIST, 0).unwrap();
    let fh = session.create("/f");
    let version = |session: &mut RawSession, fh| session.get_meta(fh).map(|node| node.version);
    assert_eq!((version(&mut session, fh), version(&mut session, root)), (Ok(1), Ok(2)));
    assert_eq!(session.put(fh, b"same"), code::OK);
    assert_eq!(session.put(fh, b"same"), code::OK);
    assert_eq!(
        (version(&mut session, fh), version(&mut session, root)),
        (Ok(3), Ok(2)),
        "a parent has its own"
    );
    session.create("/f");
    assert_eq!(version(&mut session, root), Ok(2), "opening again creates nothing");
    assert_eq!(session.open("/none/f", mode::CREATE, 0), Err(code::NAME_INVAL));
    assert_eq!(version(&mut session, root), Ok(2), "a refusal changes nothing");
    assert_eq!(session.del("/f"), code::OK);
    assert_eq!(version(&mut session, root), Ok(3));
    let again = session.create("/f");
    assert_eq!(version(&mut session, again), Ok(1), "a new file begins anew");
}

#[test]
fn inode_numbers_name_one_file_for_ever() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let (one, two) = (session.create("/one"), session.create("/two"));
    let first = session.get_meta(one).unwrap().inum;
    assert_ne!(first, session.get_meta(two).unwrap().inum);
    assert!(first > 50);
    assert_eq!(session.del("/one"), code::OK);
    let again = session.create("/one");
    assert_ne!(session.get_meta(again).unwrap().inum, first);
}

#[test]
fn contents_may_be_empty() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    assert_eq!(session.get(fh).unwrap().data, b"");
    assert_eq!(session.put(fh, b"something"), code::OK);
    assert_eq!(session.put(fh, b""), code::OK);
    let node = session.get(fh).unwrap();
    assert_eq!((node.version, &node.data[..]), (3, &b""[..]));
}

#[test]
fn metadata_comes_without_contents() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    assert_eq!(session.put(fh, b"contents"), code::OK);
    let (whole, meta) = (session.get(fh).unwrap(), session.get_meta(fh).unwrap());
    assert_eq!(meta.data, b"");
    assert_eq!((whole.inum, whole.version, &whole.name), (meta.inum, meta.version, &meta.name));
    assert_eq!((whole.time_create, whole.time_modify), (meta.time_create, meta.time_modify));
}

#[test]
fn handles_allow_what_they_were_opened_for() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    session.create("/f");
    assert!(session.open("/d", MKDIR, 0).is_ok());
    let reader = session.open("/f", mode::READ, 0).unwrap();
    let writer = session.open("/f", mode::WRITE, 0).unwrap();
    let nothing = session.open("/f", 0, 0).unwrap();
    let directory = session.open("/d", LIST | mode::WRITE, 0).unwrap();
    for fh in [reader, nothing, directory] {
        assert_eq!(session.put(fh, b"x"), code::MODE_INVAL);
    }
    for fh in [writer, nothing] {
        assert_eq!(session.get(fh).map(drop), Err(code::MODE_INVAL));
        assert_eq!(session.get_meta(fh).map(drop), Err(code::MODE_INVAL));
    }
    assert_eq!(session.put(writer, b"x"), code::OK);
    assert_eq!(session.get(reader).unwrap().data, b"x");
    assert!(session.get(directory).is_ok());
}

#[test]
fn a_closed_handle_and_one_of_another_session_are_none() {
    let cld = Servers::start();
    let (mut session, mut other) = (cld.connect("tester"), cld.connect("other"));
    let fh = session.create("/f");
    assert_eq!(other.get(fh).map(drop), Err(code::FH_INVAL));
    assert_eq!(session.close(fh), code::OK);
    for outcome in
        [session.close(fh), session.put(fh, b"x"), session.lock(fh, lock::SHARED), session.close(u64::MAX)]
    {
        assert_eq!(outcome, code::FH_INVAL);
    }
    assert_eq!(session.get(fh).map(drop), Err(code::FH_INVAL));
    assert_eq!(session.get_meta(fh).map(drop), Err(code::FH_INVAL));
    let next = session.create("/f");
    assert_ne!(next, fh, "handle numbers are not used again");
}

#[test]
fn a_directory_with_children_is_not_deleted() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    assert!(session.open("/d", MKDIR, 0).is_ok());
    session.create("/d/f");
    assert_eq!(session.del("/d"), code::DIR_NOTEMPTY);
    assert_eq!(session.del("/d/f"), code::OK);
    assert_eq!(session.del("/d"), code::OK);
    assert_eq!(session.open("/d", LIST, 0), Err(code::NAME_INVAL));
}

#[test]
fn deleting_a_file_takes_its_handles_away() {
    let cld = Servers::start();
    let (mut session, mut other) = (cld.connect("tester"), cld.connect("other"));
    let (fh, theirs) = (session.create("/f"), other.create("/f"));
    assert_eq!(session.del("/f"), code::OK);
    assert_eq!(session.get(fh).map(drop), Err(code::FH_INVAL));
    assert_eq!(other.put(theirs, b"x"), code::FH_INVAL);
    assert_eq!(session.close(fh), code::FH_INVAL);
    assert_eq!(session.del("/f"), code::NAME_INVAL);
    let again = other.create("/f");
    assert_eq!(other.get(again).unwrap().data, b"", "a file of the same name is another one");
}

#[test]
fn a_directory_too_large_for_a_reply_is_answered_by_an_error() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    assert!(session.open("/d", MKDIR, 0).is_ok());
    // Entries of 248 bytes each: 528 fit into 131072 bytes.
    for i in 0..540 {
        let fh = session.create(&format!("/d/{i:0>246}"));
        assert_eq!(session.close(fh), code::OK);
    }
    let fh = session.open("/d", LIST, 0).unwrap();
    let get = session.call(&Request::Get { fh });
    assert!(get.code != code::OK && get.message.numbered, "{get:?}");
    assert_eq!(session.get_meta(fh).unwrap().version, 541, "its metadata can still be read");
    for i in 0..12 {
        assert_eq!(session.del(&format!("/d/{i:0>246}")), code::OK);
    }
    assert_eq!(list(&mut session, "/d").len(), 528);
}
