//! The async client: what it does otherwise than the blocking one, which waits for the same futures.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cldc_udp::aio::{Client, Events};
use cldc_udp::{CallError, Code, Error, EventMask, FileEvent, LeaseState, LockKind, OpenMode, Options};
use futures_core::Stream;

use crate::support::{Asked, Grant, KEY, LONG, Peer, SHORT, Say, USER, options};

async fn connect(peer: &Peer) -> Client {
    Client::connect(options([peer])).await.unwrap()
}

/// Lets a future begin; gives whether it is still to be waited for.
async fn begin<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

async fn next(events: &mut Events) -> Option<FileEvent> {
    poll_fn(|context| Pin::new(&mut *events).poll_next(context)).await
}

/// A peer whose locks are held by others.
fn contended() -> Peer {
    Peer::scripted(|asked| match asked {
        Asked::Lock { .. } => Say::Code(Code::LockPending),
        _ => Say::Usual,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_does_what_it_says() {
    let peer = Peer::start();
    let client = connect(&peer).await;
    client.write("/a", b"one").await.unwrap();
    assert_eq!(client.read("/a").await.unwrap().data, b"one");
    assert_eq!(client.metadata("/a").await.unwrap().version, 3);
    client.mkdir("/d").await.unwrap();
    assert_eq!(client.list("/").await.unwrap(), [b"a", b"d"]);
    let file = client.create("/b").await.unwrap();
    file.write(b"two").await.unwrap();
    assert_eq!(file.read().await.unwrap().data, b"two");
    assert_eq!(file.metadata().await.unwrap().inode, 7);
    let lock = file.lock(LockKind::Exclusive).await.unwrap();
    assert!(lock.is_safe());
    lock.release().await.unwrap();
    file.close().await.unwrap();
    drop(client.try_lock("/a", LockKind::Shared).await.unwrap().unwrap());
    client.remove("/b").await.unwrap();
    client.nop().await.unwrap();
    client.close().await.unwrap();
    peer.await_asked(&Asked::EndSess);
    peer.await_asked(&Asked::EndAcknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_an_extended_session_does_what_it_says() {
    let peer = Peer::extended(Grant { epoch: 3, ..Grant::default() }, |_| Say::Usual);
    let client = connect(&peer).await;
    assert_eq!((client.is_extended(), client.epoch()), (true, Some(3)));
    assert_eq!(client.terms().lease, Duration::from_secs(30));
    let file = client.create("/a").await.unwrap();
    let lock = file.lock(LockKind::Exclusive).await.unwrap();
    assert!(lock.safe_for() > Duration::ZERO && lock.safe_for() <= client.terms().counted);
    let sequencer = lock.sequencer().unwrap();
    assert_eq!(file.sequencer().await.unwrap(), sequencer);
    assert!(client.check_sequencer(&sequencer).await.unwrap());
    file.write_fenced(&sequencer, b"in time").await.unwrap();
    let mut events = client.events();
    peer.restart(4);
    assert_eq!(client.read("/a").await.unwrap().data, b"in time");
    assert_eq!(events.next().await.unwrap().events, EventMask::MASTER_FAILOVER);
    lock.release().await.unwrap();
    let late = file.write_fenced(&sequencer, b"too late").await;
    assert!(matches!(late, Err(Error::Server(Code::Stale))), "{late:?}");
    let late = client.remove_fenced("/a", &sequencer).await;
    assert!(matches!(late, Err(Error::Server(Code::Stale))), "{late:?}");
    client.close().await.unwrap();
    peer.await_asked(&Asked::EndAcknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_small_requests_are_in_flight_without_waiting_for_each_64_at_a_time() {
    let peer = Peer::extended(Grant::default(), |asked| match asked {
        Asked::Del(_) => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer).await;
    let mut removals: Vec<_> = (0..100)
        .map(|i| {
            let client = client.clone();
            Box::pin(async move { client.remove(format!("/{i}")).await })
        })
        .collect();
    for removal in &mut removals {
        // The order of the first looks is the order of arrival.
        assert!(begin(removal.as_mut()).await);
    }
    // None has been answered.
    peer.await_asked(&Asked::NewSess);
    assert_eq!(peer.await_asked(&Asked::Del("/63".into())).len(), 63);
    tokio::time::sleep(SHORT).await;
    assert_eq!(peer.all_asked(), []);
    for i in 64..100 {
        peer.answer(Code::DirNotEmpty);
        assert_eq!(peer.await_asked(&Asked::Del(format!("/{i}"))), []);
    }
    (0..64).for_each(|_| peer.answer(Code::DirNotEmpty));
    for removal in removals {
        assert!(matches!(removal.await, Err(Error::Server(Code::DirNotEmpty))));
    }
}

#[tokio::test]
async fn connecting_ends_by_its_deadline_or_moves_on() {
    let silent = Peer::silent();
    let error = Client::connect(options([&silent]).timeout(SHORT)).await.unwrap_err();
    assert!(error.to_string().contains("no server opened the session"), "{error}");
    let second = Peer::start();
    let client = Client::connect(options([&Peer::not_master(), &second])).await.unwrap();
    assert_eq!(client.server(), Some(second.address()));
}

#[test]
fn without_a_runtime_connecting_is_an_error() {
    let options = Options::new(USER, KEY).server(([127, 0, 0, 1], 1).into());
    let mut connect = pin!(Client::connect(options));
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(connect.as_mut().poll(&mut context), Poll::Ready(Err(Error::Io(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_end_by_their_deadlines() {
    let peer = Peer::start();
    let client = connect(&peer).await.with_timeout(SHORT);
    let file = client.create("/a").await.unwrap();
    peer.fall_silent();
    assert!(matches!(file.read().await, Err(Error::Timeout { doing: "reading a file" })));
    assert!(matches!(client.close().await, Err(Error::Timeout { doing: "ending the session" })));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_what_the_session_holds_wait_in_order() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Del(_) => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer).await;
    let removals: Vec<_> = (0..70)
        .map(|i| {
            let client = client.clone();
            let mut removal = Box::pin(async move { client.remove(format!("/{i}")).await });
            // The order of the first looks is the order of arrival.
            assert!(removal.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            removal
        })
        .collect();
    peer.await_asked(&Asked::Del("/63".into()));
    tokio::time::sleep(SHORT).await;
    assert_eq!(peer.all_asked(), []);
    for i in 64..70 {
        peer.answer(Code::DirNotEmpty);
        assert_eq!(peer.await_asked(&Asked::Del(format!("/{i}"))), []);
    }
    (0..64).for_each(|_| peer.answer(Code::DirNotEmpty));
    for removal in removals {
        assert!(matches!(removal.await, Err(Error::Server(Code::DirNotEmpty))));
    }
}

#[tokio::test]
async fn more_calls_than_may_wait_are_a_clear_error() {
    let peer = Peer::start();
    let client = connect(&peer).await;
    peer.fall_silent();
    let mut waiting: Vec<_> = (0..64 + 4096).map(|_| Box::pin(client.nop())).collect();
    for nop in &mut waiting {
        assert!(begin(nop.as_mut()).await);
    }
    assert!(matches!(client.nop().await, Err(Error::Call(CallError::Busy))));
    // Those that give up make room.
    waiting.pop();
    assert!(begin(pin!(client.nop())).await);
}

#[tokio::test]
async fn many_more_reads_than_handles_complete() {
    let peer = Peer::start();
    let client = connect(&peer).await;
    client.write("/a", b"shared").await.unwrap();
    let reads: Vec<_> = (0..1000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.read("/a").await })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap().data, b"shared");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_lock_leaves_the_queue() {
    let peer = contended();
    let client = connect(&peer).await;
    let file = client.create("/l").await.unwrap();
    {
        let mut lock = pin!(file.lock(LockKind::Exclusive));
        begin(lock.as_mut()).await;
        peer.await_asked(&Asked::Lock { fh: 1, shared: false, wait: true });
        // The answer to this one follows that to the lock.
        client.nop().await.unwrap();
        assert!(begin(lock.as_mut()).await);
    }
    peer.await_asked(&Asked::Unlock(1));
    assert!(tokio::time::timeout(SHORT, client.lock("/l", LockKind::Exclusive)).await.is_err());
    peer.await_asked(&Asked::Close(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_granted_to_a_dropped_future_is_released() {
    let peer = contended();
    let client = connect(&peer).await;
    let file = client.create("/l").await.unwrap();
    {
        let mut lock = pin!(file.lock(LockKind::Exclusive));
        begin(lock.as_mut()).await;
        peer.await_asked(&Asked::Lock { fh: 1, shared: false, wait: true });
        peer.event(1, EventMask::LOCKED);
        client.nop().await.unwrap();
    }
    peer.await_asked(&Asked::Unlock(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_being_released_does_not_release_the_next_one() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Unlock(_) => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer).await;
    let file = client.create("/l").await.unwrap();
    let first = file.lock(LockKind::Exclusive).await.unwrap();
    let mut release = pin!(first.release());
    assert!(begin(release.as_mut()).await);
    let second = file.lock(LockKind::Exclusive).await.unwrap();
    peer.await_asked(&Asked::Unlock(1));
    peer.answer(Code::Ok);
    release.await.unwrap();
    client.nop().await.unwrap();
    assert!(!peer.all_asked().contains(&Asked::Unlock(1)));
    drop(second);
    peer.await_asked(&Asked::Unlock(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_opened_for_a_dropped_future_is_closed() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Open { path, .. } if path == "/late" => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer).await;
    // The answer is there, and nobody takes it.
    {
        let mut open = pin!(client.create("/a"));
        begin(open.as_mut()).await;
        client.nop().await.unwrap();
    }
    peer.await_asked(&Asked::Close(1));
    // The answer comes when nobody waits for it any more.
    {
        let mut open = pin!(client.create("/late"));
        begin(open.as_mut()).await;
        client.nop().await.unwrap();
    }
    peer.answer(Code::Ok);
    peer.await_asked(&Asked::Close(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_dropped_call_changes_nothing_for_others() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Get(_) => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer).await;
    let file = client.create("/a").await.unwrap();
    assert!(tokio::time::timeout(SHORT, file.read()).await.is_err());
    peer.answer(Code::ModeInval);
    file.write(b"x").await.unwrap();
    assert_eq!(file.metadata().await.unwrap().version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_a_stream_that_ends_with_the_session() {
    let peer = Peer::start();
    let client = connect(&peer).await;
    let file = client.open("/a", OpenMode::CREATE, EventMask::UPDATED).await.unwrap();
    let mut events = client.events();
    peer.event(1, EventMask::UPDATED);
    let event = next(&mut events).await.unwrap();
    assert_eq!((event.path_lossy().as_ref(), event.handle), ("/a", file.handle()));
    client.close().await.unwrap();
    assert_eq!(next(&mut events).await, None);
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_watched_until_the_session_is_lost() {
    let peer = Peer::start();
    let client = Client::connect(options([&peer]).drift_ppm(990_000)).await.unwrap();
    let mut lease = client.lease();
    let lock = client.create("/l").await.unwrap().lock(LockKind::Exclusive).await.unwrap();
    let jeopardy = tokio::time::timeout(LONG, lease.wait_for(|state| *state == LeaseState::Jeopardy));
    drop(jeopardy.await.unwrap().unwrap());
    lock.lost().await;
    assert!(!lock.is_safe());
    peer.forget_sessions();
    assert!(matches!(client.nop().await, Err(Error::SessionLost)));
    assert_eq!(*lease.borrow(), LeaseState::Expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn jeopardy_is_told_and_so_is_its_end() {
    let peer =
        Peer::extended(Grant { lease: Duration::from_millis(1500), ..Grant::default() }, |_| Say::Usual);
    let client = connect(&peer).await;
    let mut lease = client.lease();
    let lock = client.create("/l").await.unwrap().lock(LockKind::Exclusive).await.unwrap();
    assert_eq!(*lease.borrow_and_update(), LeaseState::Safe);
    peer.fall_silent();
    lease.changed().await.unwrap();
    assert_eq!(*lease.borrow_and_update(), LeaseState::Jeopardy);
    lock.lost().await;
    assert!(!lock.is_safe());
    peer.speak_again();
    lease.changed().await.unwrap();
    assert_eq!(*lease.borrow_and_update(), LeaseState::Safe);
    assert!(lock.is_safe());
}

#[test]
fn a_call_ends_when_the_runtime_of_the_session_has_ended() {
    let peer = Peer::start();
    let build =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (first, second) = (build(), build());
    let client = first.block_on(connect(&peer));
    let lease = client.lease();
    let nop = second.spawn({
        let client = client.clone();
        peer.fall_silent();
        async move { client.nop().await }
    });
    drop(first);
    assert!(matches!(second.block_on(nop).unwrap(), Err(Error::Closed)));
    assert!(matches!(second.block_on(client.nop()), Err(Error::Closed)));
    assert_eq!(*lease.borrow(), LeaseState::Expired);
}
