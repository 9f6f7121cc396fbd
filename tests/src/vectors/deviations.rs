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
    /// Why ours is right.
    pub reason: &'static str,
}

const fn because(reason: &'static str, scenario: &'static str, edit: Edit) -> Deviation {
    Deviation { scenario, edit, reason }
}

/// The deviations of a scenario, in the order of their application.
pub fn deviations_of(scenario: &str) -> impl Iterator<Item = &'static Deviation> {
    DEVIATIONS.iter().filter(move |deviation| deviation.scenario == scenario)
}

const OWN_CREATION: &str =
    "an opener is not told of its own creation, before it even knows the handle (15.1.9)";
const NOT_ASKED: &str =
    "DELETED goes to handles whose mask asks for it, or that wait for the lock (9: mask ignored)";
const NO_PARENT: &str =
    "a missing parent, or nothing there to delete, is a wrong name, not a failed database (15.1.7)";
const NO_ACK_FRAG: &str = "Hail's client cannot survive a well-formed ACK_FRAG, and needs none (15.2.2, 16)";
const PROPER: &str = "a refusal is signed so that the client can read it (1.3, 15.1.2)";
const SILENCE: &str = "a packet that does not verify gets no answer: it would be an oracle (15.1.11)";
const LOCKED_TWICE: &str = "a handle that holds or awaits a lock cannot ask for it again (8.2)";
const UNLOCK_WAKES: &str = "UNLOCK wakes the next waiter (8.3)";
const GRANT_STANDS: &str = "a granted lock is held, so nobody else gets it (8.3)";
const DEAF_ACK: &str = "an ACK is never answered (4.5)";

/// All deviations from the recordings.
const DEVIATIONS: &[Deviation] = &[
    because(NO_PARENT, "02_open", Edit::Code(37, code::NAME_INVAL)),
    because(
        "a regular file gets no children: they would overwrite its contents (15.1.7)",
        "02_open",
        Edit::Code(61, code::NAME_INVAL),
    ),
    because(OWN_CREATION, "02_open", Edit::Unsent(&[64])),
    because("BAD_PKT is an ordinary reply (4.3, 15.1.6)", "02_open", Edit::Numbered(83)),
    because("the child of a regular file was refused above", "02_open", Edit::Code(85, code::NAME_INVAL)),
    because(
        "the refused child left no trace in the file",
        "02_open",
        Edit::Contents { record: 91, version: 1, data: b"" },
    ),
    because(NO_ACK_FRAG, "04_put_get_100k", Edit::NoFragmentAcks(97)),
    because(NO_ACK_FRAG, "06_put_fragment_sizes", Edit::NoFragmentAcks(7)),
    because(NOT_ASKED, "08_dirlist", Edit::Unsent(&[40])),
    because(NO_PARENT, "10_del", Edit::Code(4, code::NAME_INVAL)),
    because(NO_PARENT, "10_del", Edit::Code(25, code::NAME_INVAL)),
    because(NOT_ASKED, "10_del", Edit::Unsent(&[31, 38, 42])),
    because(LOCKED_TWICE, "11_lock", Edit::Code(31, code::LOCK_CONFLICT)),
    because(UNLOCK_WAKES, "11_lock", Edit::Event { before: 34, flow: "c1", fh: 2, events: event::LOCKED }),
    because(UNLOCK_WAKES, "11_lock", Edit::Unsent(&[37])),
    because(GRANT_STANDS, "11_lock", Edit::Code(41, code::LOCK_CONFLICT)),
    because(GRANT_STANDS, "11_lock", Edit::Code(44, code::LOCK_INVAL)),
    because(
        "newcomers queue behind those who wait (8.2: starvation)",
        "11b_lock_shared",
        Edit::Code(37, code::LOCK_PENDING),
    ),
    because(LOCKED_TWICE, "11b_lock_shared", Edit::Code(40, code::LOCK_CONFLICT)),
    because("a lock is granted once (8.3)", "11b_lock_shared", Edit::Unsent(&[53])),
    because(OWN_CREATION, "13b_events", Edit::Unsent(&[11])),
    because(NOT_ASKED, "13b_events", Edit::Unsent(&[27, 28])),
    because(PROPER, "15_end_session", Edit::Refused(&[13, 15, 23])),
    because(
        "a request that comes a little early is held, so it is answered as soon as the missing one is (15.1.12)",
        "16_retransmit",
        Edit::Earlier { record: 54, before: 52 },
    ),
    because(
        "a user's name has at most 31 bytes, and a NUL is one of them (1.1)",
        "18_bad_hmac",
        Edit::Unsent(&[23]),
    ),
    because(SILENCE, "18_bad_hmac", Edit::Unsent(&[1, 3, 8, 16, 21])),
    because(PROPER, "19_unknown_session", Edit::Refused(&[1])),
    because(DEAF_ACK, "19_unknown_session", Edit::Unsent(&[3])),
    because(NO_ACK_FRAG, "19_unknown_session", Edit::NoFragmentAcks(1)),
    because(PROPER, "20_wrong_user_addr", Edit::Refused(&[4, 6, 11, 13])),
    because(GRANT_STANDS, "22_expiry", Edit::Code(31, code::LOCK_CONFLICT)),
    because(OWN_CREATION, "28_create_event_before_reply", Edit::Unsent(&[4])),
    because(NOT_ASKED, "28_create_event_before_reply", Edit::Unsent(&[9])),
    because(NOT_ASKED, "29_inode_fields", Edit::Unsent(&[31])),
    because(NOT_ASKED, "32_delete_locked_file", Edit::Unsent(&[19])),
];

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_deviation_that_changes_nothing_is_an_error() {
        if let Some(scenario) = load_one("11_lock") {
            for edit in [
                Edit::Code(31, code::LOCK_PENDING),
                Edit::Unsent(&[18]),
                Edit::NoFragmentAcks(1),
                Edit::Refused(&[31]),
            ] {
                let deviation = because("for the test", "11_lock", edit);
                assert!(Script::recorded(&scenario).apply([&deviation]).is_err(), "{edit:?}");
            }
        }
    }
}
