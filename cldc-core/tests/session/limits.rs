//! Every limit of a session is an error that says so, and the session goes on.

use cldc_core::session::{CallError, Session, SmallSession, rx_bytes, tx_bytes};
use cldc_core::time::Duration;
use cldc_core::wire::{Code, EventMask, OpenMode};

use crate::support::client::{Called, Came, Client};
use crate::support::hail_server::HailServer;
use crate::support::network::Faults;
use crate::support::our_server::OurServer;
use crate::support::peer::Peer;
use crate::support::world::World;

/// A session that holds no contents at all.
type NoFiles = Session<{ rx_bytes(0) }, { tx_bytes(0, 1) }, 1, 1, 0>;

everywhere! {
    requests_beyond_the_table_are_busy_and_the_next_one_is_taken
}

fn requests_beyond_the_table_are_busy_and_the_next_one_is_taken<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    let clock = world.clock();
    let taken: Vec<_> = std::iter::from_fn(|| world.session.nop(clock).ok()).collect();
    assert!(taken.len() >= 2);
    assert_eq!(world.session.nop(clock), Err(CallError::Busy));
    assert_eq!(world.session.end(clock), Err(CallError::Busy));
    for request in taken {
        assert_eq!(world.answer(request), Ok(Came::Done));
    }
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
}

#[test]
fn bodies_fill_their_storage_in_any_order_of_answers_without_loss() {
    let mut world = World::<SmallSession, OurServer>::connected(OurServer::new(1), 1, Faults::ROUGH);
    let handle = world.open(b"/file", EventMask::NONE);
    for round in 0..60_u8 {
        let len = usize::from(round) * 17;
        let contents = vec![round; len];
        let request = world.when_there_is_room(|session, now| session.put(now, handle, &contents));
        if round % 3 == 0 {
            assert_eq!(world.answer(request), Ok(Came::Done));
            assert_eq!(world.servers[0].name_space().data(b"/file"), Some(&contents[..]));
        }
    }
}

#[test]
fn a_handle_too_many_is_refused_before_it_is_sent() {
    let mut world = World::<SmallSession, OurServer>::connected(OurServer::new(1), 1, Faults::NONE);
    let handles: Vec<_> = (0..4).map(|_| world.open(b"/file", EventMask::NONE)).collect();
    let clock = world.clock();
    let another = |world: &mut World<SmallSession, OurServer>| -> Called {
        world.session.open(clock, b"/file", OpenMode::READ, EventMask::NONE)
    };
    assert_eq!(another(&mut world), Err(CallError::TooManyHandles));
    assert_eq!(world.call(|session, now| session.close(now, handles[1])), Ok(Came::Done));
    // One that is being opened counts.
    another(&mut world).unwrap();
    assert_eq!(another(&mut world), Err(CallError::TooManyHandles));
}

#[test]
fn paths_and_contents_are_checked_before_anything_is_sent() {
    let mut world = World::<SmallSession, OurServer>::connected(OurServer::new(1), 1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    let longest = [&b"/"[..], &[b'x'; 255]].concat();
    let too_long = [&b"/"[..], &[b'x'; 256]].concat();
    let clock = world.clock();
    world.sent.clear();
    for path in [&b""[..], b"file", &too_long] {
        let open = world.session.open(clock, path, OpenMode::READ, EventMask::NONE);
        assert_eq!(open, Err(CallError::Path));
        assert_eq!(world.session.del(clock, path), Err(CallError::Path));
    }
    assert_eq!(world.session.put(clock, handle, &[0; 3_000]), Err(CallError::TooLarge));
    world.drain();
    assert!(world.sent.is_empty());
    let handle = world.open(&longest, EventMask::NONE);
    assert_eq!(world.call(|session, now| session.put(now, handle, &[0; 1_024])), Ok(Came::Done));
    let read = world.call(|session, now| session.get(now, handle));
    assert!(matches!(read, Ok(Came::Contents { path, data, .. }) if path == longest && data.len() == 1_024));
}

#[test]
fn a_file_larger_than_the_session_is_reported_as_too_large_and_the_session_goes_on() {
    fn run<C: Client, P: Peer>(server: P, faults: Faults) {
        let mut world = World::<C, P>::connected(server, 3, faults);
        let handle = world.open(b"/large", EventMask::NONE);
        for len in [1_300, 5_000, 131_072] {
            world.servers[0].name_space().write(b"/large", &vec![7; len]);
            assert_eq!(world.call(|session, now| session.get(now, handle)), Err(Code::TooLarge), "{len}");
            let metadata = world.call(|session, now| session.get_meta(now, handle));
            assert!(matches!(metadata, Ok(Came::Contents { .. })), "{len}: {metadata:?}");
        }
        world.run_for(Duration::from_secs(40));
        assert_eq!(world.end(), None);
    }
    run::<SmallSession, _>(OurServer::new(1), Faults::NONE);
    run::<SmallSession, _>(HailServer::new(1), Faults::NONE);
    run::<NoFiles, _>(OurServer::new(1), Faults::NONE);
    run::<NoFiles, _>(HailServer::new(1), Faults::NONE);
    let lossy = Faults { loss: 5, ..Faults::NONE };
    run::<SmallSession, _>(OurServer::new(1), lossy);
}
