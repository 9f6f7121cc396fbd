//! Links over loopback.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::super::frame::{MAX_CHUNK, MAX_MESSAGE, SnapshotFrame};
use super::super::links::{Config, Event, LinkError, Links, MAX_UNKNOWN, SendError, Timing};
use super::super::secret::Secret;
use super::super::session::{Hello, SessionError};
use super::super::transfer::{Incoming, Outgoing};
use super::world::{Cell, Server, config, listen};
use super::{CELL, Frame, Session, message, secret, sent};

async fn pair() -> (Server, Server) {
    let mut cell = Cell::new(2).await;
    let (mut one, mut two) = (cell.start(1).await, cell.start(2).await);
    one.exchange(&mut two, &message("settle")).await;
    two.exchange(&mut one, &message("settle")).await;
    (one, two)
}

#[tokio::test]
async fn three_servers_exchange_frames_and_know_who_sent_them() {
    let mut cell = Cell::new(3).await;
    let mut servers = [cell.start(1).await, cell.start(2).await, cell.start(3).await];
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        let (low, high) = servers.split_at_mut(from.max(to));
        let (low, high) = (&mut low[from.min(to)], &mut high[0]);
        let frame = message(&format!("from {from} to {to}"));
        if from < to { low.exchange(high, &frame).await } else { high.exchange(low, &frame).await }
    }
}

#[tokio::test]
async fn frames_of_one_kind_come_in_order() {
    let (one, mut two) = pair().await;
    for number in 0..1000 {
        one.links.send(2, &message(&format!("message {number}"))).unwrap();
    }
    let mut expected = 0;
    while expected < 1000 {
        let (from, frame) = two.received().await;
        if frame != message("settle") {
            assert_eq!((from, frame), (1, message(&format!("message {expected}"))));
            expected += 1;
        }
    }
}

#[tokio::test]
async fn servers_that_dial_each_other_at_the_same_time_settle_on_one_link() {
    for _ in 0..10 {
        let (mut one, mut two) = pair().await;
        // Whatever was made twice is resolved by now or by these, and stays as it is.
        for round in 0..20 {
            let frame = message(&format!("{round}"));
            one.exchange(&mut two, &frame).await;
            two.exchange(&mut one, &frame).await;
        }
        let links = |server: &Server| server.links.status()[0].links;
        assert!(links(&one) <= 2 && links(&two) <= 2, "{} and {}", links(&one), links(&two));
    }
}

#[tokio::test]
async fn a_server_that_restarts_is_linked_again() {
    let mut cell = Cell::new(2).await;
    let (mut one, mut two) = (cell.start(1).await, cell.start(2).await);
    for round in 0..5 {
        one.exchange(&mut two, &message(&format!("round {round}"))).await;
        two.links.shutdown().await;
        one.down(2).await;
        assert_eq!(one.links.send(2, &message("to nobody")), Err(SendError::NotConnected { to: 2 }));
        two = cell.start(2).await;
    }
    one.exchange(&mut two, &message("again")).await;
}

#[tokio::test]
async fn a_server_that_knows_nobody_is_linked_with_those_who_dial_it_and_dials_them_then() {
    let mut cell = Cell::new(2).await;
    let mut newcomer = cell.start_open(2, &[]).await;
    let mut member = cell.start(1).await;
    member.exchange(&mut newcomer, &message("come in")).await;
    newcomer.exchange(&mut member, &message("thanks")).await;
    // The other way round: it was told the address.
    member.links.shutdown().await;
    newcomer.down(1).await;
    let mut member = cell.start_open(1, &[]).await;
    newcomer.exchange(&mut member, &message("still here")).await;
}

#[tokio::test]
async fn a_removed_server_is_not_let_in_by_one_that_takes_all_others() {
    let mut cell = Cell::new(2).await;
    let mut careful = cell.start_open(2, &[1]).await;
    let mut removed = cell.start(1).await;
    let unexpected = |error| matches!(error, LinkError::Session(SessionError::Unexpected { node: 1, .. }));
    assert!(unexpected(careful.trouble().await));
    let refused = removed.trouble().await;
    assert!(matches!(refused, LinkError::Session(SessionError::Removed { node: 1, by: 2 })), "{refused}");
}

/// Starts server 1, and server 2 with another configuration; returns what each says.
async fn troubles(change: impl FnOnce(&mut Config)) -> [LinkError; 2] {
    let mut cell = Cell::new(2).await;
    let mut other = config(2, cell.addresses[&2]);
    change(&mut other);
    let (mut one, mut two) = (cell.start(1).await, cell.start_as(2, other).await);
    [one.trouble().await, two.trouble().await]
}

#[tokio::test]
async fn the_wrong_secret_cell_or_version_is_refused_in_so_many_words() {
    for error in troubles(|config| config.secret = Secret::new([9; 32])).await {
        assert!(error.to_string().contains("another secret"), "{error}");
    }
    for error in troubles(|config| config.hello.cell = 1).await {
        assert!(error.to_string().contains("belongs to cell 0"), "{error}");
    }
    for error in troubles(|config| config.hello.versions = (2, 3)).await {
        assert!(error.to_string().contains("upgrade the older"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_no_member_is_told_so() {
    let mut cell = Cell::new(2).await;
    let stranger = config(7, cell.addresses[&2]);
    let (mut one, mut seven) = (cell.start(1).await, cell.start_as(2, stranger).await);
    let unexpected = |event| match event {
        Event::Up { .. } => panic!("a link to a server that is no member"),
        Event::Trouble { error: LinkError::Session(SessionError::Unexpected { node, .. }), .. } => Some(node),
        _ => None,
    };
    assert_eq!(one.wait_for("refusal", unexpected).await, 7);
    let not_member = LinkError::Session(SessionError::NotMember { node: 7, by: 1 });
    let told = |event| match event {
        Event::Up { .. } => panic!("a link to a server that does not want it"),
        Event::Trouble { error, .. } => (error == not_member).then_some(()),
        _ => None,
    };
    seven.wait_for("reason", told).await;
}

#[tokio::test]
async fn a_member_can_be_added_moved_and_removed() {
    let mut cell = Cell::new(3).await;
    let (mut one, mut two) = (cell.start(1).await, cell.start(2).await);
    one.exchange(&mut two, &message("hello")).await;
    let all = cell.addresses.clone();

    let only_one = [(1, all[&1])].into();
    one.links.set_members(&only_one);
    one.down(2).await;
    assert_eq!(one.links.send(2, &message("?")), Err(SendError::NoMember { to: 2 }));
    assert!(one.links.status().is_empty());
    two.down(1).await;
    let not_member = SessionError::NotMember { node: 2, by: 1 };
    let told = |event| match event {
        Event::Up { .. } => panic!("a link to a server that does not want it"),
        Event::Trouble { error: LinkError::Session(error), .. } if error == not_member => Some(()),
        _ => None,
    };
    two.wait_for("reason", told).await;

    one.links.set_members(&all);
    one.exchange(&mut two, &message("again")).await;

    // Nobody knows where 3 listens now; it tells 1 and 2 by dialling.
    let moved = listen().await;
    let config = config(3, moved.local_addr().unwrap());
    let (links, events) = Links::start(config, moved, &all);
    let mut three = Server { id: 3, links, events };
    three.exchange(&mut one, &message("from elsewhere")).await;
    one.exchange(&mut three, &message("to elsewhere")).await;
}

#[tokio::test]
async fn a_server_is_not_linked_with_itself() {
    let mut cell = Cell::new(2).await;
    let mine = cell.addresses[&1];
    cell.addresses.insert(2, mine);
    let mut one = cell.start(1).await;
    let expected = LinkError::Session(SessionError::Itself { node: 1 });
    assert_eq!(one.trouble().await, expected);
}

/// The handshake of server 2, done by hand: nothing is read from the connection after it.
async fn mute(one: &mut Server, address: std::net::SocketAddr) -> (TcpStream, Session) {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut session = Session::dial(&secret(), Hello::new(CELL, 2, address), 1, [3; 32]).unwrap();
    while session.peer().is_none() {
        write_all(&stream, &sent(&mut session)).await;
        let mut buffer = vec![0; session.room()];
        stream.readable().await.unwrap();
        if let Ok(length) = stream.try_read(&mut buffer) {
            session.handle_bytes(&buffer[..length]);
        }
        assert_eq!(session.poll_frame(), Ok(None));
    }
    one.up(2).await;
    (stream, session)
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        stream.writable().await.unwrap();
        if let Ok(length) = stream.try_write(bytes) {
            bytes = &bytes[length..];
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_reading_costs_bounded_memory_and_delays_nobody() {
    let mut cell = Cell::new(3).await;
    let (mut one, mut three) = (cell.start(1).await, cell.start(3).await);
    one.exchange(&mut three, &message("settle")).await;
    let (_stream, _session) = mute(&mut one, cell.addresses[&1]).await;
    for number in 0..100_u8 {
        one.links.send(2, &Frame::Message(vec![number; 1 << 20])).unwrap();
        one.exchange(&mut three, &message(&format!("{number}"))).await;
        for status in one.links.status() {
            assert!(status.queued <= 9 << 20, "{status:?}");
        }
    }
    assert!(one.dropped(2) >= 70, "{}", one.dropped(2));
    assert_eq!(one.links.send(2, &Frame::Message(vec![0; MAX_MESSAGE + 1])).ok(), None);
}

#[tokio::test]
async fn a_node_that_takes_nothing_holds_the_sender_back() {
    let (mut one, mut two) = pair().await;
    let megabyte = Frame::Message(vec![1; 1 << 20]);
    // The other node takes nothing, so in the end the sender's own bound is reached: nothing else holds that much.
    let mut sent = 0_u64;
    let filled = async {
        while one.dropped(2) == 0 {
            one.links.send(2, &megabyte).unwrap();
            sent += 1;
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), filled).await.unwrap();
    assert!(sent < 60, "{sent} MiB were taken in before the bound was reached");
    // And when it takes again everything goes on.
    two.exchange(&mut one, &message("back")).await;
    one.exchange(&mut two, &message("and forth")).await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let mut cell = Cell::new(2).await;
    let mut config = config(1, cell.addresses[&1]);
    config.timing.silence = Duration::from_millis(100);
    config.timing.keepalive = Duration::from_millis(20);
    let mut one = cell.start_as(1, config).await;
    let (stream, _session) = mute(&mut one, cell.addresses[&1]).await;
    // The attempts to dial it fail, too, for nobody accepts there.
    let silent = |event| match event {
        Event::Trouble { error: LinkError::Silent { millis }, .. } => Some(millis),
        _ => None,
    };
    assert_eq!(one.wait_for("silence", silent).await, 100);
    drop(stream);
}

#[tokio::test]
async fn silent_links_are_kept_up_by_keepalives() {
    let mut cell = Cell::new(2).await;
    let timing = Timing {
        keepalive: Duration::from_millis(10),
        silence: Duration::from_millis(200),
        ..Timing::default()
    };
    let [first, second] = [1, 2].map(|id| Config { timing, ..config(id, cell.addresses[&id]) });
    let (mut one, mut two) = (cell.start_as(1, first).await, cell.start_as(2, second).await);
    one.exchange(&mut two, &message("settle")).await;
    two.exchange(&mut one, &message("settle")).await;
    let change = timeout(3 * timing.silence, one.down(2)).await;
    assert!(change.is_err(), "the link went down though both servers live");
    one.exchange(&mut two, &message("still there")).await;
}

#[tokio::test]
async fn tampered_bytes_close_the_link_with_an_error() {
    let mut cell = Cell::new(2).await;
    let mut one = cell.start(1).await;
    let (stream, mut session) = mute(&mut one, cell.addresses[&1]).await;
    session.send(&message("genuine").encode());
    let mut bytes = sent(&mut session);
    *bytes.last_mut().unwrap() ^= 1;
    write_all(&stream, &bytes).await;
    let tampered = |event| match event {
        Event::Received { .. } => panic!("nothing genuine was sent"),
        Event::Trouble { error: LinkError::Session(error), .. } => Some(error),
        _ => None,
    };
    assert_eq!(one.wait_for("error", tampered).await, SessionError::Tampered);
}

#[tokio::test]
async fn strangers_cost_little_and_keep_no_member_out() {
    let mut cell = Cell::new(2).await;
    let mut one = cell.start(1).await;
    // More than are let in, of which none says anything.
    let mut strangers = Vec::new();
    for _ in 0..3 * MAX_UNKNOWN {
        let stream = TcpStream::connect(cell.addresses[&1]).await.unwrap();
        strangers.push(stream);
    }
    let crowded = |event| matches!(event, Event::Trouble { error: LinkError::Crowded, .. }).then_some(());
    one.wait_for("refusal", crowded).await;
    // Server 1 dials, whoever crowds its own door.
    let mut two = cell.start(2).await;
    one.exchange(&mut two, &message("hello")).await;
    // Those who were let in are put out when their time is over.
    for stream in &strangers {
        put_out(stream).await;
    }
}

/// Waits until the other end has closed a connection.
async fn put_out(stream: &TcpStream) {
    let closed = async {
        loop {
            stream.readable().await.unwrap();
            match stream.try_read(&mut [0; 64]) {
                Ok(length) if length > 0 => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    };
    timeout(Duration::from_secs(20), closed).await.expect("the connection is still open");
}

#[tokio::test]
async fn a_stranger_is_put_out_at_once() {
    let mut cell = Cell::new(2).await;
    let mut one = cell.start(1).await;
    let stream = TcpStream::connect(cell.addresses[&1]).await.unwrap();
    write_all(&stream, b"GET / HTTP/1.1\r\n\r\n").await;
    let refused = |event| match event {
        Event::Trouble { peer: None, error, .. } => Some(error),
        _ => None,
    };
    let error = one.wait_for("refusal", refused).await;
    assert_eq!(error, LinkError::Session(SessionError::Stranger));
    put_out(&stream).await;
    assert!(one.links.refused() >= 1);
}

#[tokio::test]
async fn after_a_shutdown_nothing_listens_and_no_event_comes() {
    let (one, mut two) = pair().await;
    let Server { links, mut events, .. } = one;
    links.shutdown().await;
    while events.recv().await.is_some() {}
    two.down(1).await;
    let refused = two.trouble().await;
    assert!(
        matches!(refused, LinkError::Session(_) | LinkError::Connect(_) | LinkError::Connection(_)),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_64_mib_is_streamed_and_messages_overtake_it() {
    const LENGTH: u64 = 64 << 20;
    let (mut one, mut two) = pair().await;
    let data = vec![7_u8; MAX_CHUNK];
    let mut checksum = 0;
    let mut left = LENGTH;
    while left > 0 {
        let part = usize::try_from(left).unwrap().min(MAX_CHUNK);
        checksum = crc32c::crc32c_append(checksum, &data[..part]);
        left -= part as u64;
    }

    let receiver = tokio::spawn(async move {
        let mut incoming = None;
        loop {
            match two.received().await {
                (from, Frame::Message(bytes)) => two.links.send(from, &Frame::Message(bytes)).unwrap(),
                (_, Frame::Snapshot(SnapshotFrame::Begin { transfer, length, checksum, .. })) => {
                    incoming = Some(Incoming::begin(transfer, length, checksum, LENGTH).unwrap());
                }
                (from, Frame::Snapshot(SnapshotFrame::Chunk { offset, bytes, .. })) => {
                    let ack = incoming.as_mut().unwrap().handle_chunk(offset, &bytes).unwrap();
                    two.links.send(from, &Frame::Snapshot(ack)).unwrap();
                }
                (from, Frame::Snapshot(SnapshotFrame::End { transfer })) => {
                    incoming.take().unwrap().finish().unwrap();
                    let accepted = Frame::Snapshot(SnapshotFrame::Accepted { transfer });
                    two.links.send(from, &accepted).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    });

    let (mut outgoing, begin) = Outgoing::begin(1, b"point".to_vec(), LENGTH, checksum);
    one.links.send(2, &Frame::Snapshot(begin)).unwrap();
    let (began, mut asked, mut times) = (Instant::now(), Instant::now(), Vec::new());
    one.links.send(2, &message("how long?")).unwrap();
    loop {
        while let Some(part) = outgoing.next_part() {
            let chunk = outgoing.chunk(data[..part.length].to_vec());
            one.links.send(2, &Frame::Snapshot(chunk)).unwrap();
            if outgoing.is_sent() {
                let end = SnapshotFrame::End { transfer: outgoing.transfer() };
                one.links.send(2, &Frame::Snapshot(end)).unwrap();
            }
        }
        match one.received().await.1 {
            Frame::Message(bytes) if bytes == b"settle" => {}
            Frame::Message(_) => {
                times.push((asked.elapsed(), outgoing.acknowledged()));
                asked = Instant::now();
                one.links.send(2, &message("how long?")).unwrap();
            }
            Frame::Snapshot(SnapshotFrame::Ack { received, .. }) => outgoing.handle_ack(received),
            Frame::Snapshot(SnapshotFrame::Accepted { transfer: 1 }) => break,
            other => panic!("{other:?}"),
        }
    }
    receiver.abort();
    let whole = began.elapsed();
    times.sort();
    let median = times[times.len() / 2].0;
    println!("64 MiB in {whole:?}; {} messages meanwhile, median there and back {median:?}", times.len());
    // Not a matter of speed: each answer overtakes all but a few windows of the snapshot.
    assert!(times.len() > 20, "only {} messages were answered while the snapshot went on", times.len());
}

#[tokio::test]
async fn an_accepted_connection_without_its_first_record_is_no_link() {
    let mut cell = Cell::new(2).await;
    let mut one = cell.start(1).await;
    // What server 2 once sent to server 1, without the keys.
    let mut recorded = Session::dial(&secret(), Hello::new(CELL, 2, cell.addresses[&2]), 1, [3; 32]).unwrap();
    let stream = TcpStream::connect(cell.addresses[&1]).await.unwrap();
    write_all(&stream, &sent(&mut recorded)).await;
    write_all(&stream, &[0, 20]).await;
    write_all(&stream, &[0; 20]).await;
    let replayed = |event| match event {
        Event::Up { .. } => panic!("a replay made a link"),
        Event::Trouble { error: LinkError::Session(SessionError::Replayed), .. } => Some(()),
        _ => None,
    };
    one.wait_for("refusal", replayed).await;
}
