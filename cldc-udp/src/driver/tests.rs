//! What cannot be timed from outside: results that come before the caller looks.

use std::task::{Poll, Waker};

use cldc_core::session::{Config, Datagram};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{Answer, Code, Key, Op, Packet, Part, Seal, Writer};

use super::{Driver, Reply};
use crate::error::{Error, Result};

const USER: &[u8] = b"alice";
const KEY: &[u8] = b"secret";
const NOW: Instant = Instant::from_micros(1);

/// What `connect` gets if the server has answered NEW_SESS with this code before it begins to wait.
fn connect_after(code: Code) -> Poll<Result<Reply>> {
    let server = ([127, 0, 0, 1], 8081).into();
    let mut driver = Driver::new(&Config::new(USER, KEY, &[server], [1; 32]), NOW).unwrap();
    let mut request: Datagram = [0; MAX_PACKET];
    let len = driver.poll_transmit(NOW, &mut request).unwrap().len;
    let packet = Packet::parse(&request[..len]).unwrap();
    let Part::Only { xid, op: Op::NewSess } = packet.part else { panic!("{:?}", packet.part) };

    let (mut body, mut datagram) = ([0; 12], [0; MAX_PACKET]);
    Answer::Done { op: Op::NewSess, xid, code }.emit(&mut Writer::new(&mut body)).unwrap();
    let key = Key::new(KEY).unwrap();
    let seal = Seal { sid: packet.sid, user: USER, key: &key };
    let part = Part::Only { xid: 0, op: Op::NewSess };
    let len = seal.emit(part, 77, &body, &mut datagram).unwrap();
    driver.handle_datagram(NOW, server, &datagram[..len]);

    let ticket = driver.wait_connected(NOW + Duration::from_secs(1));
    driver.poll(ticket, Waker::noop())
}

/// On a thread with room for the making of a session.
fn with_stack(test: fn()) {
    let thread = std::thread::Builder::new().stack_size(crate::hub::MAKING).spawn(test).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_session_that_is_open_before_the_caller_waits_is_connected() {
    with_stack(|| assert!(matches!(connect_after(Code::Ok), Poll::Ready(Ok(Reply::Done)))));
}

#[test]
fn a_session_that_is_refused_before_the_caller_waits_is_an_error() {
    with_stack(|| {
        assert!(matches!(connect_after(Code::Limit), Poll::Ready(Err(Error::Server(Code::Limit)))));
    });
}
