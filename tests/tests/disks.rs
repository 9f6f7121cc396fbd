//! What a bad disk does to a server: damage is refused by name, a full disk loses nothing (failures.md 35, 44).
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::fs;
use std::time::Duration;

use cld_tests::raw::Request;
use cld_tests::raw::codes::{code, mode};
use cld_tests::server::{Cld, Options};
use tempfile::TempDir;

/// The folder of a server that has stored something and ended.
fn used_folder() -> TempDir {
    let mut cld = Cld::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    assert_eq!(session.put(fh, &[7; 5000]), code::OK);
    assert_eq!(cld.sigterm().code(), Some(0));
    cld.into_folder()
}

/// The files of a data directory that hold data.
fn files(folder: &TempDir) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder.path().join("data")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.metadata().unwrap().len() > 64).collect()
}

#[test]
fn a_damaged_file_is_refused_by_its_name_and_left_as_it_is() {
    let folder = used_folder();
    let files = files(&folder);
    assert!(!files.is_empty());
    for file in files {
        let whole = fs::read(&file).unwrap();
        let all_over: Vec<u8> = whole.iter().map(|byte| byte ^ 0x55).collect();
        for damaged in [all_over, whole[..whole.len() / 3].to_vec()] {
            fs::write(&file, &damaged).unwrap();
            let why = Options::new().refused(&folder);
            assert!(why.contains(&file.display().to_string()), "{why}");
            assert!(why.contains("exit status: 1") && why.contains("damaged"), "{why}");
            assert!(fs::read(&file).unwrap() == damaged, "a refused file is not touched");
        }
        fs::write(&file, &whole).unwrap();
    }
    let cld = Options::new().start_in(folder);
    let mut session = cld.connect("tester");
    let fh = session.open("/f", mode::READ, 0).unwrap();
    assert_eq!(session.get(fh).unwrap().data, [7; 5000]);
}

#[test]
fn a_directory_of_somebody_else_is_refused_by_the_file_in_it() {
    let folder = Cld::start().into_folder();
    let data = folder.path().join("data");
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("thesis.tex"), "years of work").unwrap();
    let why = Options::new().refused(&folder);
    assert!(why.contains("thesis.tex") && why.contains("exit status: 1"), "{why}");
    assert_eq!(fs::read_to_string(data.join("thesis.tex")).unwrap(), "years of work");
}

#[test]
fn a_full_disk_ends_the_server_with_the_reason_and_loses_nothing_acknowledged() {
    let mut cld = Options::new().on_a_small_disk().start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    assert_eq!(session.put(fh, b"0"), code::OK);
    let log = fs::metadata(cld.data_dir().join("log.redb")).unwrap().len();
    cld.limit_file_size(log + (256 << 10));
    let mut acknowledged = 0_u32;
    for i in 1..1000_u32 {
        let mut data = i.to_string().into_bytes();
        data.resize(50_000, 0);
        let xid = session.request(&Request::Put { fh, data });
        match session.try_reply(xid, Duration::from_secs(5)) {
            Some(reply) => assert_eq!(reply.code, code::OK),
            None => break,
        }
        acknowledged = i;
    }
    assert!((1..999).contains(&acknowledged), "{acknowledged}");
    assert_eq!(cld.wait_exit().code(), Some(1), "{}", cld.tail());
    assert!(cld.log().contains("log.redb"), "{}", cld.tail());
    // There is room again.
    cld.restart();
    let mut session = cld.connect("other");
    let fh = session.open("/f", mode::READ, 0).unwrap();
    let node = session.get(fh).unwrap();
    let number: String =
        node.data.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
    let kept: u32 = number.parse().unwrap();
    // The last one may have been written and not told.
    assert!(kept == acknowledged || kept == acknowledged + 1, "{kept} of {acknowledged}");
    assert_eq!(node.version, 2 + u64::from(kept));
}
