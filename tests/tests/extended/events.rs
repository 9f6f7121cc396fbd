//! Events: acknowledged, in order, each once, none before its commit (docs/protocol.md 7.7; failures.md 6, 7).

use std::time::{Duration, Instant};

use cld_tests::raw::Request;
use cld_tests::raw::codes::{code, event, mode};
use cld_tests::server::Cld;

use super::connect;

#[test]
fn events_come_in_order_and_once_with_their_versions_though_some_are_lost() {
    const COUNT: u64 = 20;
    let cld = Cld::start();
    let (mut writer, mut watcher) = (cld.connect("writer"), connect(&cld, "watcher"));
    let fh = writer.create("/f");
    let watched = watcher.open("/f", mode::READ, event::UPDATED | event::DELETED);
    let unwatched = watcher.open("/f", mode::READ, 0);
    let base = watcher.get(watched).version;
    let first = watcher.expected().unwrap();
    watcher.lose.extend([first, first + 3, first + 4, first + COUNT - 1]);
    for _ in 0..COUNT {
        assert_eq!(writer.put(fh, b"x"), code::OK);
    }
    let told: Vec<_> = (0..COUNT).map(|_| watcher.event()).collect();
    assert_eq!(writer.del("/f"), code::OK);
    let deleted = watcher.event();
    assert_eq!((deleted.fh, deleted.events), (watched, event::DELETED));
    let mut last = None;
    for (event, version) in told.iter().zip(base + 1..) {
        assert_eq!((event.fh, event.events, event.version), (watched, event::UPDATED, version));
        assert!(last < Some(event.serial), "{told:?}");
        last = Some(event.serial);
    }
    assert!(last < Some(deleted.serial));
    assert!(watcher.events_so_far().is_empty(), "none for {unwatched}, and none twice");
    let repeated = watcher.arrivals.len() as u64 - (COUNT + 1);
    assert!(repeated >= 4, "four were lost");
}

#[test]
fn an_event_that_was_acknowledged_is_never_sent_again() {
    let cld = Cld::start();
    let (mut writer, mut watcher) = (cld.connect("writer"), connect(&cld, "watcher"));
    let fh = writer.create("/f");
    watcher.create("/f");
    assert_eq!(writer.put(fh, b"x"), code::OK);
    watcher.event();
    let arrivals = watcher.arrivals.len();
    // Longer than the server's timers.
    watcher.listen(Duration::from_secs(1));
    assert_eq!(watcher.arrivals.len(), arrivals, "{}", watcher.what_came());
}

#[test]
fn what_an_event_tells_is_on_the_disk() {
    let mut cld = Cld::start();
    for round in 0..5_u8 {
        let (mut writer, mut watcher) = (connect(&cld, "writer"), connect(&cld, "watcher"));
        let path = format!("/f{round}");
        let (fh, watched) = (writer.create(&path), watcher.create(&path));
        // Many, so that the kill comes between the first event and the last commit.
        for n in 0..40 {
            writer.request(&Request::Put { fh, data: vec![n] });
        }
        let told = watcher.event();
        cld.kill9();
        cld.restart();
        watcher.resume();
        let node = watcher.get(watched);
        assert!(node.version >= told.version, "version {} after an event of {}", node.version, told.version);
    }
}

#[test]
fn events_of_a_client_that_is_too_slow_are_merged_and_the_last_version_is_told() {
    const COUNT: u64 = 300;
    let cld = Cld::start();
    let (mut writer, mut watcher) = (connect(&cld, "writer"), connect(&cld, "watcher"));
    let fh = writer.open("/f", mode::CREATE | mode::WRITE | mode::READ, 0);
    let watched = watcher.create("/f");
    let base = writer.get(fh).version;
    watcher.acks = false;
    for _ in 0..COUNT {
        assert_eq!(writer.put(fh, b"x"), code::OK);
    }
    // What is on its way without an acknowledgement is bounded.
    watcher.settle();
    let before = watcher.inbox().len() as u64;
    assert!(before < COUNT, "{before} events came unacknowledged");
    watcher.acks = true;
    watcher.acknowledge();
    let (mut serial, mut version, mut count) = (None, base, 0);
    let deadline = Instant::now() + watcher.patience;
    while version < base + COUNT {
        assert!(Instant::now() < deadline);
        let told = watcher.event();
        assert_eq!((told.fh, told.events), (watched, event::UPDATED));
        assert!(serial < Some(told.serial) && version < told.version, "{told:?} after {serial:?}, {version}");
        (serial, version, count) = (Some(told.serial), told.version, count + 1);
    }
    assert!(version == base + COUNT && count <= COUNT);
    assert!(watcher.events_so_far().is_empty());
}
