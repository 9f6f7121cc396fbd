//! The captured scenarios against the real server: the same requests get the same replies and events, but for the
//! deviations that `cld_tests::vectors` lists.

use std::time::Duration;

use cld_tests::server::Options;
use cld_tests::vectors::{Replay, Script, deviations_of, load_all, load_one};

/// The scenarios with a test below; the last test holds that none is left out.
const REPLAYED: &[&str] = &[
    "01_new_session",
    "02_open",
    "03_put_small",
    "04_put_get_100k",
    "06_put_fragment_sizes",
    "07_get_meta",
    "08_dirlist",
    "09_close",
    "10_del",
    "11_lock",
    "11b_lock_shared",
    "12_unlock_errors",
    "13b_events",
    "14_ping",
    "15_end_session",
    "16_retransmit",
    "18_bad_hmac",
    "19_unknown_session",
    "20_wrong_user_addr",
    "22_expiry",
    "28_create_event_before_reply",
    "29_inode_fields",
    "32_delete_locked_file",
];

#[track_caller]
fn replay(name: &str, arguments: &[&str]) {
    let Some(scenario) = load_one(name) else { return };
    let mut script = Script::recorded(&scenario);
    let applied = script.apply(deviations_of(name));
    assert_eq!(applied, Ok(()));
    let cld = Options::new().args(arguments.iter().copied()).start();
    let replay = Replay { server: cld.address(), patience: Duration::from_secs(20) };
    assert_eq!(replay.run(&script), Ok(()));
}

macro_rules! replays {
    ($($test:ident: $scenario:literal $arguments:expr;)*) => {
        $(#[test]
        fn $test() {
            assert!(REPLAYED.contains(&$scenario));
            replay($scenario, $arguments);
        })*
    };
}

replays! {
    a_new_session: "01_new_session" &[];
    opening: "02_open" &[];
    small_contents: "03_put_small" &[];
    large_contents: "04_put_get_100k" &[];
    contents_around_a_piece: "06_put_fragment_sizes" &[];
    metadata: "07_get_meta" &[];
    a_directory: "08_dirlist" &[];
    closing: "09_close" &[];
    deleting: "10_del" &[];
    locks: "11_lock" &[];
    shared_locks: "11b_lock_shared" &[];
    unlock_errors: "12_unlock_errors" &[];
    events: "13b_events" &[];
    a_session_that_answers_pings: "14_ping" &[];
    the_end_of_a_session: "15_end_session" &[];
    lost_packets: "16_retransmit" &[];
    bad_signatures: "18_bad_hmac" &[];
    an_unknown_session: "19_unknown_session" &[];
    another_user_or_address: "20_wrong_user_addr" &[];
    expiry: "22_expiry" &["--session-timeout", "6"];
    no_event_of_the_own_creation: "28_create_event_before_reply" &[];
    inode_fields: "29_inode_fields" &[];
    a_locked_file_is_deleted: "32_delete_locked_file" &[];
}

#[test]
fn every_captured_scenario_is_replayed() {
    let known: Vec<String> = load_all().into_iter().map(|scenario| scenario.name).collect();
    assert!(known.is_empty() || known == REPLAYED, "{known:?}");
}
