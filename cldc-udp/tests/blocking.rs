//! The blocking client against a server of the tests' own.

mod support;

use cldc_udp::blocking::Client;
use cldc_udp::{Code, Error};
use support::{Asked, Peer, options};

fn connect(peer: &Peer) -> Client {
    Client::connect(options([peer])).unwrap()
}

#[test]
fn every_call_does_what_it_says() {
    let peer = Peer::start();
    let client = connect(&peer);
    assert_eq!(client.server(), Some(peer.address()));
    client.write("/a", b"one").unwrap();
    let contents = client.read("/a").unwrap();
    assert_eq!((contents.path.as_slice(), contents.data.as_slice()), (b"/a".as_slice(), b"one".as_slice()));
    assert_eq!(client.metadata("/a").unwrap().version, 3);
    client.mkdir("/d").unwrap();
    assert_eq!(client.list("/").unwrap(), [b"a", b"d"]);
    let file = client.create("/b").unwrap();
    file.write(b"two").unwrap();
    assert_eq!(file.read().unwrap().data, b"two");
    assert_eq!(file.metadata().unwrap().inode, 7);
    file.close().unwrap();
    client.remove("/b").unwrap();
    assert!(matches!(client.read("/b"), Err(Error::Server(Code::NameInval))));
    client.nop().unwrap();
    client.close().unwrap();
    peer.await_asked(&Asked::EndSess);
}
