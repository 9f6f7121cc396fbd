//! Where our server answers otherwise than the recorded one, and why. Nothing else may differ.

use crate::raw::codes::{code, event};

/// A change of what a recording says.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    /// The server does not send these recorded packets.
    Unsent(&'static [usize]),
    /// The server acknowledges no fragment; the recording has so many acknowledgements.
    NoFragmentAcks(usize),
    /// The reply of this record has another code (and is a generic one).
    Code(usize, i32),
    /// This one-shot packet with a shifted footer is an ordinary, numbered reply, and acknowledged.
    Numbered(usize),
    /// These one-shot packets with a shifted footer are properly signed; their number is the request's.
    Refused(&'static [usize]),
    /// The request of this record is refused with this code, properly signed; the recorded server told it nothing.
    AlsoRefused(usize, i32),
    /// The reply of this record describes another state of the file.
    Contents {
        /// The record.
        record: usize,
        /// The version.
        version: u64,
        /// The contents.
        data: &'static [u8],
    },
    /// The packet of this record comes before that of another place.
    Earlier {
        /// The record.
        record: usize,
        /// The record that it precedes.
        before: usize,
    },
    /// An event is sent that the recording does not have.
    Event {
        /// The record that it precedes.
        before: usize,
        /// The client that gets it.
        flow: &'static str,
        /// The recorded handle.
        fh: u64,
        /// The event's bits.
        events: u32,
    },
}

/// One difference between the recorded server and ours.
#[derive(Clone, Copy, Debug)]
pub struct Deviation {
    /// The scenario.
    pub scenario: &'static str,
    /// What differs.
    pub edit: Edit,
    /// What the recorded server does: the first cell of the row of docs/protocol.md section 6 that says what ours does
    /// instead, and why.
    pub row: &'static str,
}

const fn because(row: &'static str, scenario: &'static str, edit: Edit) -> Deviation {
    Deviation { scenario, edit, row }
}

/// The deviations of a scenario, in the order of their application.
pub fn deviations_of(scenario: &str) -> impl Iterator<Item = &'static Deviation> {
    DEVIATIONS.iter().filter(move |deviation| deviation.scenario == scenario)
}

const OWN_CREATION: &str = "an opener is told UPDATED of its own creation, before it knows the handle";
const NOT_ASKED: &str = "DELETED is sent to every handle";
const NO_PARENT: &str = "missing parent: DB_ERR";
const NOTHING_TO_DELETE: &str = "DEL in a directory that never had children: DB_ERR";
const FILE_WITH_CHILDREN: &str = "a file can have children, which overwrites its contents";
const ACK_FRAG: &str = "acknowledges pieces by (unreadable) ACK_FRAG";
const SHIFTED: &str = "results outside the stream have a shifted footer and eight bytes of stack";
const BAD_PKT: &str = "BAD_PKT is a result outside the stream";
const STRANGERS: &str = "answers a bad HMAC or unknown user with SIG_INVAL";
const LONG_NAME: &str = "a user's name ends at its first NUL";
const LOCKED_TWICE: &str = "LOCK on a handle that holds or waits may wait for itself";
const UNLOCK: &str = "UNLOCK wakes nobody";
const GRANTS: &str = "lock grants from the queue are not recorded";
const OVERTAKING: &str = "shared newcomers overtake an exclusive waiter; ties by session id";
const DEAF_ACK: &str = "the answer to an ACK of a dead session is SESS_INVAL";
const EARLY: &str = "drops packets that come early";
const TAKEN_ID: &str =
    "NEW_SESS with an id that is taken is answered only if its number is the session's next";
const NEW_SESS_IN_PIECES: &str = "the first piece of a longer NEW_SESS is acknowledged";

/// All deviations from the recordings.
const DEVIATIONS: &[Deviation] = &[
    because(NO_PARENT, "02_open", Edit::Code(37, code::NAME_INVAL)),
    because(FILE_WITH_CHILDREN, "02_open", Edit::Code(61, code::NAME_INVAL)),
    because(OWN_CREATION, "02_open", Edit::Unsent(&[64])),
    because(BAD_PKT, "02_open", Edit::Numbered(83)),
    because(FILE_WITH_CHILDREN, "02_open", Edit::Code(85, code::NAME_INVAL)),
    because(FILE_WITH_CHILDREN, "02_open", Edit::Contents { record: 91, version: 1, data: b"" }),
    because(ACK_FRAG, "04_put_get_100k", Edit::NoFragmentAcks(97)),
    because(ACK_FRAG, "06_put_fragment_sizes", Edit::NoFragmentAcks(7)),
    because(NOT_ASKED, "08_dirlist", Edit::Unsent(&[40])),
    because(NOTHING_TO_DELETE, "10_del", Edit::Code(4, code::NAME_INVAL)),
    because(NO_PARENT, "10_del", Edit::Code(25, code::NAME_INVAL)),
    because(NOT_ASKED, "10_del", Edit::Unsent(&[31, 38, 42])),
    because(LOCKED_TWICE, "11_lock", Edit::Code(31, code::LOCK_CONFLICT)),
    because(UNLOCK, "11_lock", Edit::Event { before: 34, flow: "c1", fh: 2, events: event::LOCKED }),
    because(UNLOCK, "11_lock", Edit::Unsent(&[37])),
    because(GRANTS, "11_lock", Edit::Code(41, code::LOCK_CONFLICT)),
    because(GRANTS, "11_lock", Edit::Code(44, code::LOCK_INVAL)),
    because(OVERTAKING, "11b_lock_shared", Edit::Code(37, code::LOCK_PENDING)),
    because(LOCKED_TWICE, "11b_lock_shared", Edit::Code(40, code::LOCK_CONFLICT)),
    because(GRANTS, "11b_lock_shared", Edit::Unsent(&[53])),
    because(OWN_CREATION, "13b_events", Edit::Unsent(&[11])),
    because(NOT_ASKED, "13b_events", Edit::Unsent(&[27, 28])),
    because(SHIFTED, "15_end_session", Edit::Refused(&[13, 15, 23])),
    because(EARLY, "16_retransmit", Edit::Earlier { record: 54, before: 52 }),
    because(LONG_NAME, "18_bad_hmac", Edit::Unsent(&[23])),
    because(STRANGERS, "18_bad_hmac", Edit::Unsent(&[1, 3, 8, 16, 21])),
    because(SHIFTED, "19_unknown_session", Edit::Refused(&[1])),
    because(DEAF_ACK, "19_unknown_session", Edit::Unsent(&[3])),
    because(ACK_FRAG, "19_unknown_session", Edit::NoFragmentAcks(1)),
    because(NEW_SESS_IN_PIECES, "19_unknown_session", Edit::AlsoRefused(5, code::SESS_INVAL)),
    because(SHIFTED, "20_wrong_user_addr", Edit::Refused(&[4, 6, 11, 13])),
    because(TAKEN_ID, "20_wrong_user_addr", Edit::AlsoRefused(17, code::SESS_EXISTS)),
    because(GRANTS, "22_expiry", Edit::Code(31, code::LOCK_CONFLICT)),
    because(OWN_CREATION, "28_create_event_before_reply", Edit::Unsent(&[4])),
    because(NOT_ASKED, "28_create_event_before_reply", Edit::Unsent(&[9])),
    because(NOT_ASKED, "29_inode_fields", Edit::Unsent(&[31])),
    because(NOT_ASKED, "32_delete_locked_file", Edit::Unsent(&[19])),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::workspace;
    use crate::vectors::{Script, load_all, load_one};

    #[test]
    fn every_deviation_finds_what_it_changes_and_every_unreadable_packet_has_one() {
        let scenarios = load_all();
        for scenario in &scenarios {
            Script::recorded(scenario).apply(deviations_of(&scenario.name)).unwrap();
        }
        for deviation in DEVIATIONS {
            let known = scenarios.iter().any(|scenario| scenario.name == deviation.scenario);
            assert!(known || scenarios.is_empty(), "no such scenario: {deviation:?}");
        }
    }

    #[test]
    fn every_deviation_is_documented() {
        let documentation = std::fs::read_to_string(workspace().join("docs/protocol.md")).unwrap();
        let (_, section) = documentation.split_once("\n## 6. ").unwrap();
        for Deviation { scenario, row, .. } in DEVIATIONS {
            let documented = section.lines().any(|line| line.starts_with(&format!("| {row} | ")));
            assert!(documented, "{scenario}: section 6 of docs/protocol.md has no row {row:?}");
        }
    }

    #[test]
    fn a_deviation_that_changes_nothing_is_an_error() {
        if let Some(scenario) = load_one("11_lock") {
            for edit in [
                Edit::Code(31, code::LOCK_PENDING),
                Edit::Unsent(&[18]),
                Edit::NoFragmentAcks(1),
                Edit::Refused(&[31]),
                Edit::AlsoRefused(31, code::SESS_INVAL),
            ] {
                let deviation = because("for the test", "11_lock", edit);
                assert!(Script::recorded(&scenario).apply([&deviation]).is_err(), "{edit:?}");
            }
        }
    }
}
