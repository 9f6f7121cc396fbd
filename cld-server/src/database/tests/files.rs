//! Files and directories.

use super::*;

#[test]
fn the_root_is_directory_10_of_version_1_and_dated_by_the_first_epoch() {
    let cell = Cell::new();
    let root = cell.db.stat(b"/").unwrap();
    assert_eq!((root.inode, root.version, root.flags.0), (10, 1, 1));
    assert_eq!((root.created, root.modified), (1000, 1000));
}

#[test]
fn a_created_file_is_empty_has_version_1_and_numbers_count_up_from_51() {
    let mut cell = Cell::new();
    cell.at = 1234;
    let fh = cell.open(1, "/a", CREATE | READ, NONE);
    assert_eq!(fh, 2, "handles count from 2");
    let file = cell.db.get(1, fh).unwrap();
    let Meta { inode, version, created, modified, flags, ref path } = file.meta;
    assert_eq!((inode, version, created, modified, flags.0, &**path), (51, 1, 1234, 1234, 0, &b"/a"[..]));
    assert!(file.data.is_empty());
    let fh = cell.open(1, "/b", CREATE | READ, NONE);
    assert_eq!((fh, cell.db.get_meta(1, fh).unwrap().inode), (3, 52));
}

#[test]
fn a_deleted_file_made_again_is_another_one() {
    let mut cell = Cell::new();
    cell.open(1, "/a", CREATE, NONE);
    cell.code(1, del("/a"));
    let fh = cell.open(1, "/a", CREATE | READ, NONE);
    let meta = cell.db.get_meta(1, fh).unwrap();
    assert_eq!((fh, meta.inode, meta.version), (3, 52, 1));
}

#[test]
fn put_replaces_the_contents_and_raises_the_version() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | READ | WRITE, NONE);
    cell.at = 2000;
    assert_eq!(cell.code(1, put(fh, b"hello")), Code::Ok);
    cell.at = 1500;
    assert_eq!(cell.code(1, put(fh, b"bye")), Code::Ok);
    let file = cell.db.get(1, fh).unwrap();
    assert_eq!((&*file.data, file.meta.version), (&b"bye"[..], 3));
    assert_eq!(
        (file.meta.created, file.meta.modified),
        (1000, 1500),
        "a wall clock set back is written as it is"
    );
}

// 34: a zero-length file
#[test]
fn put_of_nothing_empties_the_file() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | READ | WRITE, NONE);
    cell.code(1, put(fh, b"hello"));
    assert_eq!(cell.code(1, put(fh, b"")), Code::Ok);
    assert_eq!((cell.get(1, fh), cell.version("/a")), (Ok(vec![]), 3));
}

#[test]
fn put_needs_a_handle_for_writing_files() {
    let mut cell = Cell::new();
    cell.open(1, "/d", CREATE | DIRECTORY, NONE);
    let read = cell.open(1, "/a", CREATE | READ, NONE);
    let dir = cell.open(1, "/d", WRITE | DIRECTORY, NONE);
    assert_eq!(cell.code(1, put(read, b"x")), Code::ModeInval);
    assert_eq!(cell.code(1, put(dir, b"x")), Code::ModeInval);
    assert_eq!(cell.code(1, put(77, b"x")), Code::FhInval);
}

#[test]
fn reading_needs_read_and_works_on_directories() {
    let mut cell = Cell::new();
    let blind = cell.open(1, "/", DIRECTORY, NONE);
    let root = cell.open(1, "/", DIRECTORY | READ, NONE);
    assert_eq!(
        (cell.get(1, blind), cell.db.get_meta(1, blind)),
        (Err(Code::ModeInval), Err(Code::ModeInval))
    );
    assert_eq!((cell.get(1, 77), cell.db.get_meta(1, 77)), (Err(Code::FhInval), Err(Code::FhInval)));
    assert_eq!(cell.get(77, root), Err(Code::SessInval));
    assert_eq!(cell.get(1, root), Ok(vec![]));
}

#[test]
fn a_handle_is_no_use_to_another_session() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | READ | WRITE, NONE);
    assert_eq!(cell.get(2, fh), Err(Code::FhInval));
    assert_eq!(cell.code(2, put(fh, b"x")), Code::FhInval);
}

// 34: a directory scan, a trailing slash, a double slash, the root
#[test]
fn malformed_paths_are_refused_by_open_and_del() {
    let mut cell = Cell::new();
    for path in ["", "a", "//", "/a/", "/a//b", "//a"] {
        for mode in [READ, CREATE] {
            assert_eq!(cell.code(1, open(path, mode, NONE)), Code::NameInval, "{path:?}");
        }
        assert_eq!(cell.code(1, del(path)), Code::NameInval, "{path:?}");
    }
    let long = format!("/{}", "x".repeat(256));
    assert_eq!(cell.code(1, open(&long, CREATE, NONE)), Code::NameInval);
    let longest = format!("/{}", "x".repeat(255));
    assert_eq!(cell.code(1, open(&longest, CREATE, NONE)), Code::Ok);
}

// 34: the root
#[test]
fn the_root_can_be_opened_but_not_created_or_deleted() {
    let mut cell = Cell::new();
    assert_eq!(cell.code(1, open("/", READ, NONE)), Code::ModeInval);
    assert_eq!(cell.code(1, open("/", CREATE | DIRECTORY, NONE)), Code::NameInval);
    assert_eq!(cell.code(1, open("/", READ | DIRECTORY, NONE)), Code::Ok);
    assert_eq!(cell.code(1, del("/")), Code::NameInval);
}

// 34: a NUL inside
#[test]
fn a_nul_ends_a_path_in_open_and_del() {
    let mut cell = Cell::new();
    cell.open(1, "/a\0/ignored//", CREATE, NONE);
    assert!(cell.db.stat(b"/a").is_some());
    assert_eq!(cell.code(1, open("/a/\0b", CREATE, NONE)), Code::NameInval);
    assert_eq!(cell.code(1, del("/a\0b")), Code::Ok);
    assert!(cell.db.stat(b"/a").is_none());
}

#[test]
fn dot_and_dotdot_are_ordinary_names() {
    let mut cell = Cell::new();
    cell.open(1, "/..", CREATE | DIRECTORY, NONE);
    cell.open(1, "/../.", CREATE, NONE);
    assert!(cell.db.stat(b"/../.").is_some());
}

// 32
#[test]
fn a_missing_parent_and_a_deletion_in_an_empty_directory_are_name_errors() {
    let mut cell = Cell::new();
    assert_eq!(cell.code(1, open("/no/a", CREATE, NONE)), Code::NameInval);
    assert_eq!(cell.code(1, del("/no/a")), Code::NameInval);
    assert_eq!(cell.code(1, del("/a")), Code::NameInval);
    cell.open(1, "/d", CREATE | DIRECTORY, NONE);
    assert_eq!(cell.code(1, del("/d/a")), Code::NameInval);
}

// 8: a regular file could be given children, which overwrote its content
#[test]
fn a_file_cannot_have_children_and_keeps_its_contents() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | READ | WRITE, NONE);
    cell.code(1, put(fh, b"contents"));
    assert_eq!(cell.code(1, open("/a/x", CREATE, NONE)), Code::NameInval);
    assert_eq!(cell.code(1, del("/a/x")), Code::NameInval);
    assert_eq!((cell.get(1, fh), cell.version("/a")), (Ok(b"contents".to_vec()), 2));
}

#[test]
fn open_checks_existence_then_exclusiveness_then_kind() {
    let mut cell = Cell::new();
    assert_eq!(cell.code(1, open("/a", READ, NONE)), Code::NameInval);
    assert_eq!(cell.code(1, open("/a", READ | EXCL, NONE)), Code::NameInval);
    assert_eq!(cell.code(1, open("/a", CREATE | EXCL, NONE)), Code::Ok);
    assert_eq!(cell.code(1, open("/a", CREATE | EXCL | DIRECTORY, NONE)), Code::InodeExists);
    assert_eq!(cell.code(1, open("/a", CREATE | DIRECTORY, NONE)), Code::ModeInval);
    assert_eq!(cell.code(1, open("/a", CREATE, NONE)), Code::Ok);
    assert_eq!(cell.code(1, open("/a", EXCL, NONE)), Code::Ok, "EXCL without CREATE means nothing");
    assert_eq!(cell.version("/a"), 1, "opening changes nothing");
}

#[test]
fn mode_0_opens_and_unknown_mode_bits_are_kept() {
    let mut cell = Cell::new();
    cell.open(1, "/a", CREATE, NONE);
    let fh = cell.open(1, "/a", OpenMode(0), NONE);
    assert_eq!(cell.get(1, fh), Err(Code::ModeInval));
    let odd = OpenMode(0x4000_0001);
    let fh = cell.open(1, "/a", odd, NONE);
    assert_eq!(cell.db.session(1).unwrap().handle(fh).unwrap().mode, odd);
    assert_eq!(cell.get(1, fh), Ok(vec![]));
}

#[test]
fn creation_and_deletion_touch_the_parent() {
    let mut cell = Cell::new();
    cell.at = 2000;
    cell.open(1, "/a", CREATE, NONE);
    let root = cell.db.stat(b"/").unwrap();
    assert_eq!((root.version, root.created, root.modified), (2, 1000, 2000));
    cell.at = 3000;
    cell.code(1, del("/a"));
    let root = cell.db.stat(b"/").unwrap();
    assert_eq!((root.version, root.modified), (3, 3000));
}

#[test]
fn a_directory_lists_its_children_in_the_order_of_creation() {
    let mut cell = Cell::new();
    let root = cell.open(1, "/", READ | DIRECTORY, NONE);
    cell.open(1, "/zebra", CREATE, NONE);
    cell.open(1, "/ant", CREATE | DIRECTORY, NONE);
    cell.open(1, "/ant/inner", CREATE, NONE);
    cell.open(1, "/middle", CREATE, NONE);
    cell.code(1, del("/zebra"));
    cell.open(1, "/zebra", CREATE, NONE);
    let list = b"\x03\0ant\0\0\0\x06\0middle\x05\0zebra\0";
    assert_eq!(cell.get(1, root), Ok(list.to_vec()));
}

#[test]
fn a_directory_with_children_cannot_be_deleted() {
    let mut cell = Cell::new();
    cell.open(1, "/d", CREATE | DIRECTORY, NONE);
    cell.open(1, "/d/a", CREATE, NONE);
    assert_eq!(cell.code(1, del("/d")), Code::DirNotEmpty);
    assert_eq!(cell.code(1, del("/d/a")), Code::Ok);
    assert_eq!(cell.code(1, del("/d")), Code::Ok);
    assert_eq!(cell.code(1, del("/d")), Code::NameInval);
}

// 33
#[test]
fn a_directory_too_large_for_a_reply_says_so_until_it_shrinks() {
    let mut cell = Cell { db: Database::new(), at: 0, numbers: BTreeMap::new() };
    cell.session(1, "alice");
    let root = cell.open(1, "/", READ | DIRECTORY, NONE);
    let path = |n: u32| format!("/{n:0>254}");
    for n in 0..512 {
        // The check of the whole state after every command would take long here.
        let write = open(&path(n), CREATE, NONE);
        let number = 1000 + u64::from(n);
        let settled = Settled { replies: vec![number - 1], events: vec![] };
        let action = Action::Request { sid: 1, xid: number, order: number, settled, write };
        assert_eq!(
            cell.db.apply(&Command { at: 0, epoch: 0, action }).reply,
            Some(Reply::Opened(3 + u64::from(n)))
        );
    }
    cell.numbers.insert(1, 2000);
    assert_eq!(cell.get(1, root).unwrap().len(), 131_072);
    cell.open(1, "/a", CREATE, NONE);
    assert_eq!(cell.get(1, root), Err(Code::TooLarge));
    assert!(cell.db.get_meta(1, root).is_ok());
    cell.code(1, del(&path(7)));
    assert_eq!(cell.get(1, root).unwrap().len(), 131_072 - 256 + 8);
}

#[test]
fn closing_ends_the_handle_and_its_number_is_not_given_out_again() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | READ, NONE);
    assert_eq!(cell.code(1, Write::Close { fh }), Code::Ok);
    assert_eq!(cell.code(1, Write::Close { fh }), Code::FhInval);
    assert_eq!(cell.get(1, fh), Err(Code::FhInval));
    assert_eq!(cell.open(1, "/a", READ, NONE), fh + 1);
}

#[test]
fn handles_on_a_deleted_file_are_no_use_even_if_the_path_is_made_again() {
    let mut cell = Cell::new();
    let plain = cell.open(1, "/a", CREATE | READ | WRITE | LOCK, NONE);
    let told = cell.open(2, "/a", READ | WRITE | LOCK, DELETED);
    cell.code(3, del("/a"));
    cell.open(3, "/a", CREATE, NONE);
    for (sid, fh) in [(1, plain), (2, told)] {
        assert_eq!(cell.get(sid, fh), Err(Code::FhInval));
        assert_eq!(cell.code(sid, put(fh, b"x")), Code::FhInval);
        assert_eq!(cell.lock(sid, fh), Code::FhInval);
        assert_eq!(cell.code(sid, Write::Unlock { fh }), Code::FhInval);
        assert_eq!(cell.code(sid, Write::Close { fh }), Code::FhInval);
    }
    assert_eq!(cell.version("/a"), 1);
}
