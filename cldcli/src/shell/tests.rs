//! What the commands print and ask for, with a scripted session.

use std::fs;

use cldc_udp::{Code, Error, EventMask, Sequencer};

use super::scripted::{Answer, Scripted};
use super::*;
use crate::command;
use crate::output::Format;
use crate::remote::Standing;
use crate::status::Status;

/// What lines of commands printed on standard output and on standard error, and what they asked for.
struct Played {
    out: String,
    err: String,
    calls: Vec<String>,
}

fn play_as(format: Format, lines: &str, answers: Vec<Answer>) -> Played {
    let session = Scripted::new(answers);
    let mut out = Vec::new();
    let mut err = String::new();
    let mut shell = Shell::new(session.clone(), Output::new(&mut out, format));
    let until = Until { timeout: None, interrupted: &|| session.is_used_up() };
    for line in lines.lines() {
        let done = command::parse(line.as_bytes())
            .and_then(|command| command.map_or(Ok(Next::Command), |command| shell.execute(command, &until)));
        if let Err(failure) = done {
            err += &failure.line();
            err += "\n";
        }
    }
    assert!(session.is_used_up(), "the script says more than was asked: {:?}", session.calls());
    Played { out: String::from_utf8(out).unwrap(), err, calls: session.calls() }
}

fn play(lines: &str, answers: Vec<Answer>) -> Played {
    play_as(Format::Human, lines, answers)
}

fn refused(code: Code) -> Answer {
    Answer::Error(Error::Server(code))
}

fn contents(data: &[u8]) -> Answer {
    Answer::Contents { version: 1, data: data.to_vec() }
}

const ENTRIES: &[u8] = b"\x01\0a\0\0\0\0\0\x03\0b c\0\0\0";

#[test]
fn ls_prints_one_name_on_a_line() {
    let played = play("ls /dir", vec![Answer::Done, contents(ENTRIES)]);
    assert_eq!(played.out, "a\nb c\n");
    assert_eq!(played.calls, ["open /dir 0x41 0", "read"]);
    let empty = play("ls", vec![Answer::Done, contents(b"")]);
    assert_eq!((empty.out.as_str(), empty.calls[0].as_str()), ("", "open / 0x41 0"));
}

#[test]
fn ls_tells_which_step_failed() {
    let open = play("ls /x", vec![refused(Code::NameInval)]);
    assert!(open.err.starts_with("cldcli: cannot open path `/x': 1106: Invalid file name (NAME_INVAL)"));
    let read = play("ls /x", vec![Answer::Done, refused(Code::DbErr)]);
    assert!(read.err.starts_with("cldcli: cannot get on path `/x': 1103: "), "{}", read.err);
    assert_eq!(open.out + &read.out, "");
}

#[test]
fn relative_paths_are_in_the_working_directory_and_otherwise_untouched() {
    let answers = vec![Answer::Done, Answer::Done, contents(b""), Answer::Done, Answer::Done, Answer::Done];
    let played = play("cd d\ncat ../x\ncd /\nrm e\nmkdir //f", answers);
    assert_eq!(
        played.calls,
        ["open /d 0x40 0", "open /d/../x 0x1 0", "read", "open / 0x40 0", "remove /e", "open //f 0x70 0"]
    );
}

#[test]
fn a_failed_cd_stays_where_it_was() {
    let played = play("cd /x\nls", vec![refused(Code::ModeInval), Answer::Done, contents(b"")]);
    assert!(played.err.starts_with("cldcli: cannot open path `/x': 1113: "), "{}", played.err);
    assert_eq!(played.calls[1], "open / 0x41 0");
}

#[test]
fn cat_adds_a_newline_and_get_does_not() {
    let played = play("cat /a\nget /a", vec![Answer::Done, contents(b"x"), Answer::Done, contents(b"x")]);
    assert_eq!(played.out, "x\nx");
}

#[test]
fn failures_name_the_argument_as_it_was_given() {
    let answers = vec![refused(Code::InodeExists), refused(Code::DirNotEmpty)];
    let played = play("mkdir d\nrm d", answers);
    assert_eq!(
        played.err,
        "cldcli: mkdir(d) failed: 1114: File exists (INODE_EXISTS)\n\
         cldcli: rm(d) failed: 1115: Directory not empty (DIR_NOTEMPTY)\n"
    );
    assert_eq!(played.out, "");
}

#[test]
fn files_are_copied_in_and_out_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, "line\n").unwrap();
    let lines = format!("cpin {} /a\ncpout /a {}", from.display(), to.display());
    let played = play(&lines, vec![Answer::Done, Answer::Done, Answer::Done, contents(b"\xff\n")]);
    assert_eq!(played.calls, ["open /a 0x12 0", "write line\n", "open /a 0x1 0", "read"]);
    assert_eq!((played.out.as_str(), played.err.as_str()), ("", ""));
    assert_eq!(fs::read(&to).unwrap(), b"\xff\n");
}

#[test]
fn nothing_is_created_for_a_file_that_cannot_be_copied_in() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    fs::write(&large, vec![0; 131_073]).unwrap();
    let played = play(&format!("cpin {} /a\ncpin /no/such/file /a", large.display()), vec![]);
    assert_eq!(played.calls, [""; 0]);
    let (first, second) = played.err.split_once('\n').unwrap();
    assert!(first.starts_with("cldcli: cpin(FS -> CLD) failed: 22: "), "{first}");
    assert!(second.starts_with("cldcli: Failed to read data from FS path /no/such/file: "), "{second}");
}

#[test]
fn a_lock_that_is_granted_prints_nothing_and_one_that_waits_or_fails_is_called_queued() {
    let answers = vec![
        Answer::Done,
        Answer::Lock(Standing::Held),
        Answer::Done,
        Answer::Lock(Standing::Queued),
        Answer::Done,
        refused(Code::LockConflict),
        refused(Code::NameInval),
    ];
    let played = play("lock /a\nlock /b\ntrylock c\nlock /d\nlist locks", answers);
    assert_eq!(played.out, "lock 3 queued\nlock 4 queued\n2 /a\n3 /b\n4 /c\n");
    let (conflict, missing) = played.err.split_once('\n').unwrap();
    assert_eq!(conflict, "cldcli: trylock(c) failed: 1111: Conflicting lock held (LOCK_CONFLICT)");
    assert!(missing.starts_with("cldcli: /d: cannot open: 1106: "), "{missing}");
    assert_eq!(
        played.calls[..4],
        ["open /a 0x4 0", "lock Exclusive true", "open /b 0x4 0", "lock Exclusive true"]
    );
    assert_eq!(played.calls[5], "lock Exclusive false");
}

#[test]
fn unlock_takes_the_first_lock_of_the_path_from_the_list() {
    let answers = vec![
        Answer::Done,
        Answer::Lock(Standing::Held),
        Answer::Done,
        Answer::Lock(Standing::Queued),
        Answer::Done,
        refused(Code::LockInval),
    ];
    let played = play("lock /a\nlock /a\nunlock a\nlist locks\nunlock /a\nunlock /a", answers);
    assert_eq!(played.out, "lock 3 queued\n3 /a\n");
    assert_eq!(
        played.err,
        "cldcli: unlock(/a) failed: 1110: Invalid lock (LOCK_INVAL)\ncldcli: no lock found\n"
    );
}

#[test]
fn stat_finds_out_whether_it_is_a_directory() {
    let answers = vec![refused(Code::ModeInval), Answer::Done, contents(ENTRIES)];
    let played = play("stat /dir", answers);
    assert!(played.out.contains("type      directory\nsize      2 entries\n"), "{}", played.out);
    assert_eq!(played.calls, ["open /dir 0x1 0", "open /dir 0x41 0", "read"]);
}

#[test]
fn watch_tells_each_new_version_once_and_ends_with_the_file() {
    let version = |version, data: &[u8]| Answer::Contents { version, data: data.to_vec() };
    let answers = vec![
        Answer::Done,
        version(1, b""),
        Answer::Nothing,
        Answer::Event(EventMask::UPDATED),
        version(3, b"abc"),
        Answer::Event(EventMask::UPDATED),
        version(3, b"abc"),
        Answer::Event(EventMask::UPDATED),
        refused(Code::FhInval),
        Answer::Event(EventMask::DELETED),
    ];
    let played = play("watch /a", answers);
    let lines: Vec<_> = played.out.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(lines, ["/a watching: version 1, size 0", "/a updated: version 3, size 3", "/a deleted"]);
    assert_eq!(played.calls[0], "open /a 0x1 11");
    assert_eq!(played.err, "");
}

#[test]
fn watch_ends_when_interrupted_and_when_its_time_is_over() {
    // The script's end is the interruption.
    let interrupted = play("watch /a", vec![Answer::Done, contents(b""), Answer::Nothing]);
    assert_eq!(interrupted.out.lines().count(), 1);
    let session = Scripted::new([Answer::Done, contents(b"")]);
    let mut out = Vec::new();
    let until = Until { timeout: Some(std::time::Duration::ZERO), interrupted: &|| false };
    let mut shell = Shell::new(session, Output::new(&mut out, Format::Human));
    shell.execute(Command::Watch(b"/a".to_vec()), &until).unwrap();
}

#[test]
fn watch_says_when_the_session_is_lost() {
    let played = play("watch /a", vec![Answer::Done, contents(b""), Answer::Error(Error::SessionLost)]);
    assert!(
        played.err.starts_with("cldcli: cannot watch path `/a': 1117: the session is lost"),
        "{}",
        played.err
    );
}

#[test]
fn json_is_one_object_on_a_line() {
    let answers = vec![
        Answer::Done,
        contents(ENTRIES),
        Answer::Done,
        Answer::Lock(Standing::Held),
        Answer::Done,
        refused(Code::LockConflict),
    ];
    let played = play_as(Format::Json, "ls /\nlock /a\ntrylock /b\nlist locks", answers);
    assert_eq!(
        played.out,
        r#"{"path":"/","entries":["a","b c"]}
{"lock":2,"path":"/a","state":"held","sequencer":"x:50:1:/a"}
{"lock":3,"path":"/b","state":"failed"}
{"locks":[{"lock":2,"path":"/a","state":"held","sequencer":"x:50:1:/a"},{"lock":3,"path":"/b","state":"failed"}]}
"#
    );
}

#[test]
fn help_and_quit_are_for_whoever_reads_the_commands() {
    let mut out = Vec::new();
    let mut shell = Shell::new(Scripted::new([]), Output::new(&mut out, Format::Human));
    let until = Until { timeout: None, interrupted: &|| false };
    assert_eq!(shell.execute(Command::Help, &until).unwrap(), Next::Help);
    assert_eq!(shell.execute(Command::Quit, &until).unwrap(), Next::Quit);
    assert!(out.is_empty());
}

/// What a call of the shell says when it fails, and what was asked for.
fn fenced(
    answers: Vec<Answer>,
    act: impl FnOnce(&mut Shell<Scripted, Vec<u8>>, &Sequencer) -> Result<(), Failure>,
) -> (Option<Failure>, Vec<String>) {
    let session = Scripted::new(answers);
    let mut shell = Shell::new(session.clone(), Output::new(Vec::new(), Format::Human));
    let failure = act(&mut shell, &"x:51:3:/l".parse().unwrap()).err();
    (failure, session.calls())
}

#[test]
fn a_sequencer_goes_with_what_is_written_and_deleted() {
    let (failure, calls) = fenced(vec![Answer::Done, Answer::Done, Answer::Done], |shell, held| {
        shell.put(b"/a", b"x", Some(held))
    });
    assert!(failure.is_none());
    assert_eq!(calls, ["check x:51:3:/l", "open /a 0x12 0", "write x under x:51:3:/l"]);
    let (failure, calls) = fenced(vec![Answer::Done], |shell, held| shell.rm(b"a", Some(held)));
    assert!(failure.is_none());
    assert_eq!(calls, ["remove /a under x:51:3:/l"]);
}

#[test]
fn a_stale_sequencer_has_a_status_and_creates_nothing() {
    let (failure, calls) =
        fenced(vec![refused(Code::Stale)], |shell, held| shell.put(b"/a", b"x", Some(held)));
    assert_eq!(failure.unwrap().status(), Status::Stale);
    assert_eq!(calls, ["check x:51:3:/l"]);
    // The lock may go between the check and the write.
    let answers = vec![Answer::Done, Answer::Done, refused(Code::Stale)];
    let (failure, _) = fenced(answers, |shell, held| shell.put(b"/a", b"x", Some(held)));
    assert_eq!(failure.unwrap().status(), Status::Stale);
    let (failure, _) = fenced(vec![refused(Code::Stale)], |shell, held| shell.rm(b"/a", Some(held)));
    assert_eq!(failure.unwrap().status(), Status::Stale);
    let (failure, _) = fenced(vec![refused(Code::Stale)], |shell, held| shell.check_sequencer(held));
    let failure = failure.unwrap();
    assert_eq!(failure.status(), Status::Stale);
    assert!(
        failure.line().starts_with("cldcli: sequencer x:51:3:/l: 1166: Stale sequencer"),
        "{}",
        failure.line()
    );
    let (failure, _) = fenced(vec![Answer::Done], |shell, held| shell.check_sequencer(held));
    assert!(failure.is_none());
}

#[test]
fn after_a_fail_over_a_watched_file_is_looked_at_again() {
    let answers = vec![
        Answer::Done,
        contents(b"x"),
        Answer::Event(EventMask::MASTER_FAILOVER),
        Answer::Contents { version: 2, data: b"xy".to_vec() },
        Answer::Nothing,
    ];
    let played = play("watch /a", answers);
    assert!(played.out.ends_with(" /a updated: version 2, size 2\n"), "{}", played.out);
}
