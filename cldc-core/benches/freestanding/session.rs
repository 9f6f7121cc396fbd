//! All that a small device needs of a session, behind C names: what `text.sh` weighs.
#![no_std]

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use cldc_core::session::{Config, Datagram, Event, Handle, SmallSession};
use cldc_core::time::Instant;
use cldc_core::wire::{EventMask, LockFlags, OpenMode};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

#[unsafe(no_mangle)]
fn begin(session: &mut Option<SmallSession>, seed: &[u8; 32], now: u64) {
    *session =
        SmallSession::new(&Config::new(b"device", b"key", &[SERVER], *seed), Instant::from_micros(now)).ok();
}

#[unsafe(no_mangle)]
fn call(session: &mut SmallSession, which: u32, fh: u64, data: &[u8], now: u64) -> bool {
    let (now, handle) = (Instant::from_micros(now), Handle(fh));
    match which {
        0 => session.open(now, data, OpenMode(0x17), EventMask(7)).is_ok(),
        1 => session.close(now, handle).is_ok(),
        2 => session.get(now, handle).is_ok(),
        3 => session.get_meta(now, handle).is_ok(),
        4 => session.put(now, handle, data).is_ok(),
        5 => session.del(now, data).is_ok(),
        6 => session.lock(now, handle, LockFlags::NONE, true).is_ok(),
        7 => session.unlock(now, handle).is_ok(),
        _ => session.end(now).is_ok(),
    }
}

#[unsafe(no_mangle)]
fn datagram(session: &mut SmallSession, bytes: &[u8], now: u64) -> bool {
    session.handle_datagram(Instant::from_micros(now), SERVER, bytes).is_ok()
}

#[unsafe(no_mangle)]
fn timeout(session: &mut SmallSession, now: u64) -> u64 {
    session.handle_timeout(Instant::from_micros(now));
    session.poll_timeout().map_or(u64::MAX, Instant::as_micros)
}

#[unsafe(no_mangle)]
fn transmit(session: &mut SmallSession, buffer: &mut Datagram, now: u64) -> usize {
    session.poll_transmit(Instant::from_micros(now), buffer).map_or(0, |transmit| transmit.len)
}

#[unsafe(no_mangle)]
fn event(session: &mut SmallSession, tell: fn(Event<'_>)) {
    while let Some(event) = session.poll_event() {
        tell(event);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
