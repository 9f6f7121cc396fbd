//! Tests of the links between servers.

mod frames;
mod handshake;
mod links;
mod records;
mod transfers;
mod world;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::frame::Frame;
use super::secret::Secret;
use super::session::{Expected, Hello, Session, SessionError};

const CELL: u128 = 0xce11;

fn secret() -> Secret {
    Secret::new([7; 32])
}

fn address(node: u64) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], u16::try_from(7000 + node).unwrap()))
}

fn hello(node: u64) -> Hello {
    Hello::new(CELL, node, address(node))
}

fn message(text: &str) -> Frame {
    Frame::Message(text.as_bytes().to_vec())
}

/// Server 1, which dials 2.
fn dial(secret: &Secret, hello: Hello) -> Session {
    Session::dial(secret, hello, 2, [1; 32]).unwrap()
}

/// Server 2, which expects 1 and 3. Another seed makes another connection.
fn accept(seed: u8) -> Session {
    Session::accept(&secret(), hello(2), Expected::Only(BTreeSet::from([1, 3])), [seed; 32]).unwrap()
}

/// All that a session wants to send now.
fn sent(session: &mut Session) -> Vec<u8> {
    let bytes = session.transmit().unwrap().to_vec();
    session.transmitted(bytes.len());
    bytes
}

/// Gives bytes to a session, so many at a time, and returns the frames that come of them.
fn receive(session: &mut Session, mut bytes: &[u8], step: usize) -> Result<Vec<Frame>, SessionError> {
    let mut frames = Vec::new();
    loop {
        while let Some(frame) = session.poll_frame()? {
            frames.push(frame);
        }
        if bytes.is_empty() {
            return Ok(frames);
        }
        let taken = session.handle_bytes(&bytes[..step.min(bytes.len())]);
        assert!(taken > 0, "a session that has nothing to give has room");
        bytes = &bytes[taken..];
    }
}

/// Does the handshake, so many bytes at a time, and returns the dialling and the accepting end, each sure of the other.
fn link(mut one: Session, mut two: Session, step: usize) -> (Session, Session) {
    assert_eq!(receive(&mut two, &sent(&mut one), step), Ok(vec![]));
    assert_eq!(receive(&mut one, &sent(&mut two), step), Ok(vec![]));
    assert_eq!(receive(&mut two, &sent(&mut one), step), Ok(vec![]));
    two.send(&[]);
    assert_eq!(receive(&mut one, &sent(&mut two), step), Ok(vec![]));
    assert!(one.peer().is_some() && two.peer().is_some(), "{step} bytes at a time");
    (one, two)
}

fn linked() -> (Session, Session) {
    link(dial(&secret(), hello(1)), accept(2), usize::MAX)
}
