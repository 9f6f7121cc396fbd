//! Numbers and acknowledgements (docs/protocol.md 7.2; failures.md 11, 14 to 16, 18, 19).

use std::time::Duration;

use cld_tests::raw::codes::{code, op};
use cld_tests::raw::extended::{Extended, HELLO, Hello};
use cld_tests::raw::{Head, Request, Rider};

use crate::servers::{Servers, connect};

fn put(fh: u64, data: &[u8]) -> Vec<u8> {
    Request::Put { fh, data: data.to_vec() }.encode()
}

/// How often the server sent the packet of that number.
fn times(client: &Extended, number: u64) -> usize {
    client.arrivals.iter().filter(|&&arrival| arrival == number).count()
}

#[test]
fn only_what_is_lost_is_sent_again() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let first = client.expected().unwrap();
    client.lose.extend([first + 2, first + 5]);
    let gets: Vec<u64> = (0..12).map(|_| client.request(&Request::Get { fh })).collect();
    for xid in gets {
        assert_eq!(client.reply(xid).code, code::OK);
    }
    client.settle();
    let sent: Vec<usize> = (0..12).map(|place| times(&client, first + place)).collect();
    assert_eq!(sent, [1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1], "{}", client.what_came());
}

#[test]
fn what_is_lost_last_comes_again_by_the_timer() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let number = client.expected().unwrap();
    client.lose.insert(number);
    let xid = client.request(&Request::Get { fh });
    assert!(client.try_reply(xid, Duration::from_secs(2)).is_some(), "{}", client.what_came());
    assert_eq!(times(&client, number), 2);
}

#[test]
fn sixty_four_requests_are_in_flight_at_a_time() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let base = client.get(fh).version;
    let puts: Vec<u64> = (0..64_u8).map(|n| client.request(&Request::Put { fh, data: vec![n] })).collect();
    for xid in puts {
        assert_eq!(client.reply(xid).code, code::OK);
    }
    let node = client.get(fh);
    assert_eq!((node.version, node.data), (base + 64, vec![63]));
    assert!(client.strange.is_empty(), "{:?}", client.strange);
}

#[test]
fn packets_that_come_early_are_held_told_and_taken_in_their_turn() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let base = client.get(fh).version;
    let first = client.next;
    let mut requests: Vec<(u64, Vec<Vec<u8>>)> =
        (0..5_u8).map(|n| client.prepare(op::PUT, &put(fh, &[n]))).collect();
    // The third is not sent at all for now.
    for place in [4, 1, 3] {
        client.send_all(&requests[place].1);
    }
    let told = |held| Rider { next: first, held, loose: true };
    let deadline = std::time::Instant::now() + client.patience;
    while client.acknowledged != Some(told(0b1101)) {
        assert!(std::time::Instant::now() < deadline, "{:?}; {}", client.acknowledged, client.what_came());
        client.listen(Duration::from_millis(5));
    }
    let (xid, datagrams) = requests.remove(0);
    client.send_all(&datagrams);
    assert_eq!(client.reply(xid).code, code::OK);
    let (second, third) = (requests.remove(0), requests.remove(0));
    assert_eq!(client.reply(second.0).code, code::OK);
    client.send_all(&third.1);
    for xid in [third.0, requests[0].0, requests[1].0] {
        assert_eq!(client.reply(xid).code, code::OK);
    }
    let node = client.get(fh);
    assert_eq!((node.version, node.data), (base + 5, vec![4]));
}

#[test]
fn a_packet_with_an_acknowledgement_of_another_stream_is_dropped() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let base = client.get(fh).version;
    let right = client.rider(false);
    let foreign = [
        Rider { next: right.next.wrapping_add(1), ..right },
        Rider { next: right.next.wrapping_add(1 << 40), ..right },
        Rider { next: right.next.wrapping_sub(100), ..right },
        Rider { held: 1, ..right },
        Rider { held: 1 << 63, ..right },
        Rider { next: 0, ..right },
    ];
    let head = Some(Head { xid: client.next_xid, op: op::PUT });
    for rider in foreign {
        let datagram = client.encode(client.next, head, true, &put(fh, b"foreign"), Some(rider));
        client.send(&datagram);
        // Loose ones as well.
        let nop = Some(Head { xid: 77, op: op::NOP });
        let datagram = client.encode(1_000, nop, true, b"", Some(Rider { loose: true, ..rider }));
        client.send(&datagram);
        let end = Some(Head { xid: client.next_xid, op: op::END_SESS });
        let datagram = client.encode(client.next, end, true, b"", Some(rider));
        client.send(&datagram);
    }
    client.settle();
    assert!(client.try_reply(77, Duration::ZERO).is_none(), "{}", client.what_came());
    let (xid, datagrams) = client.prepare(op::PUT, &put(fh, b"right"));
    client.send_all(&datagrams);
    assert_eq!(client.reply(xid).code, code::OK);
    let node = client.get(fh);
    assert_eq!((node.version, node.data), (base + 1, b"right".to_vec()));
}

#[test]
fn a_packet_without_an_acknowledgement_is_none_of_an_extended_session() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let base = client.get(fh).version;
    let head = Some(Head { xid: client.next_xid, op: op::PUT });
    let plain = client.encode(client.next, head, true, &put(fh, b"plain"), None);
    client.send(&plain);
    client.settle();
    assert_eq!(client.get(fh).version, base);
    assert_eq!(client.put(fh, b"x"), code::OK);
    assert_eq!(client.get(fh).version, base + 1);
}

#[test]
fn a_packet_of_the_stream_before_is_dropped() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let base = client.get(fh).version;
    let (next, xid) = (client.next, client.next_xid);
    let head = Some(Head { xid, op: op::PUT });
    let old = client.encode(next, head, true, &put(fh, b"old"), Some(client.rider(false)));
    client.resume();
    // Under its own number, and under the one that is next now.
    let renumbered =
        client.encode(client.next, head, true, &put(fh, b"old"), Some(Rider { next, held: 0, loose: false }));
    client.send_all(&[old, renumbered]);
    client.settle();
    let node = client.get(fh);
    assert_eq!(node.version, base);
    assert_eq!(client.put(fh, b"new"), code::OK);
    assert_eq!(client.get(fh).version, base + 1);
}

#[test]
fn a_request_that_comes_again_is_executed_and_answered_once() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let base = client.get(fh).version;
    let reply = client.expected().unwrap();
    let (xid, datagrams) = client.prepare(op::PUT, &put(fh, b"once"));
    for _ in 0..3 {
        client.send_all(&datagrams);
    }
    assert_eq!(client.reply(xid).code, code::OK);
    client.send_all(&datagrams);
    client.settle();
    assert_eq!(times(&client, reply), 1, "{}", client.what_came());
    // Under the next number it is the same request still: what was executed is told by its xid.
    let again = client.encode(
        client.next,
        Some(Head { xid, op: op::PUT }),
        true,
        &put(fh, b"twice"),
        Some(client.rider(false)),
    );
    client.next += 1;
    client.send(&again);
    client.settle();
    let node = client.get(fh);
    assert_eq!((node.version, node.data), (base + 1, b"once".to_vec()));
}

#[test]
fn long_contents_go_both_ways() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let mut rng = cld_tests::rng::Rng::new(7);
    for length in [0, 1, 1023, 1024, 1025, 2048, 131_072] {
        let data = rng.bytes(length);
        assert_eq!(client.put(fh, &data), code::OK, "{length}");
        let node = client.get(fh);
        assert!(node.data == data, "{length} bytes came back as {}", node.data.len());
    }
}

#[test]
fn no_more_is_on_its_way_than_the_clients_window() {
    let cld = Servers::start();
    let hello = Hello { window: 4, ..HELLO };
    let (mut client, _) = Extended::connect_with(cld.master(), "tester", hello);
    let fh = client.create("/f");
    assert_eq!(client.put(fh, &[7; 20_000]), code::OK);
    client.settle();
    client.acks = false;
    let first = client.expected().unwrap();
    let get = client.request(&Request::Get { fh });
    client.listen(Duration::from_millis(200));
    let beyond: Vec<u64> =
        client.arrivals.iter().filter(|&&n| n.wrapping_sub(first) < 1 << 20).copied().collect();
    assert!(
        !beyond.is_empty() && beyond.iter().all(|n| n.wrapping_sub(first) < 4),
        "{beyond:x?} after {first:x}"
    );
    client.acks = true;
    client.acknowledge();
    assert_eq!(client.reply(get).code, code::OK);
}

#[test]
fn numbers_wrap_at_the_end() {
    let cld = Servers::start();
    let mut client = Extended::new(cld.master(), "tester");
    client.begin_at(u64::MAX - 3);
    client.greet();
    let fh = client.create("/f");
    let base = client.get(fh).version;
    for n in 1..=10 {
        assert_eq!(client.put(fh, &[0; 2_000]), code::OK);
        assert_eq!(client.get(fh).version, base + n);
    }
    assert!(client.next < 100, "{:x}", client.next);
}

#[test]
fn an_acknowledgement_between_pieces_does_not_break_the_message() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let (xid, datagrams) = client.prepare(op::PUT, &put(fh, &[3; 5_000]));
    for datagram in datagrams {
        client.send(&datagram);
        client.acknowledge();
        let (_, nop) = client.prepare_nop();
        client.send(&nop);
    }
    assert_eq!(client.reply(xid).code, code::OK);
    assert_eq!(client.get(fh).data, [3; 5_000]);
}

#[test]
fn pieces_that_come_twice_or_astray_are_used_once() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let base = client.get(fh).version;
    let (xid, datagrams) = client.prepare(op::PUT, &put(fh, &[5; 3_000]));
    for datagram in datagrams.iter().rev().chain(&datagrams) {
        client.send(datagram);
    }
    assert_eq!(client.reply(xid).code, code::OK);
    // A last piece with nothing before it uses up its number.
    let stray = client.encode(client.next, None, true, &[6; 100], Some(client.rider(false)));
    client.next = client.next.wrapping_add(1);
    client.send_all(&[stray.clone(), stray]);
    let node = client.get(fh);
    assert_eq!((node.version, node.data), (base + 1, vec![5; 3_000]));
}
