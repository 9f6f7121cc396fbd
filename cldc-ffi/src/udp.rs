//! `cldc_udp.h`: a socket for a session of `cldc.h`; and the file that holds a port number.
#![expect(unsafe_code, reason = "functions under names of C, and a struct that C changes")]

use core::ffi::{c_char, c_int, c_void};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io, ptr};

use crate::address::{self, emit, understood};
use crate::pointers;
use crate::session::Session;
use crate::types::{Errno, TimerFn};

const ENOENT: c_int = 2;
const EIO: c_int = 5;
const ENXIO: c_int = 6;

/// `struct cldc_udp`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Udp {
    addr: [u8; address::MAX],
    addr_len: usize,
    fd: c_int,
    sess: *mut Session,
    cb: Option<TimerFn>,
    cb_private: *mut c_void,
}

/// The sockets that C has, by where their structs are.
static SOCKETS: Mutex<BTreeMap<usize, Arc<UdpSocket>>> = Mutex::new(BTreeMap::new());

fn sockets() -> MutexGuard<'static, BTreeMap<usize, Arc<UdpSocket>>> {
    // Nothing that holds the lock panics.
    SOCKETS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn socket(udp: *const Udp) -> Result<Arc<UdpSocket>, c_int> {
    sockets().get(&udp.addr()).cloned().ok_or(-(Errno::Inval as c_int))
}

fn number(error: &io::Error) -> c_int {
    error.raw_os_error().unwrap_or(EIO).saturating_neg()
}

/// `cldc_udp_new`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_udp_new(host: *const c_char, port: c_int, udp_out: *mut *mut Udp) -> c_int {
    match open(host, port) {
        Ok((server, socket)) => {
            let Ok(out) = pointers::out(udp_out) else { return -(Errno::Inval as c_int) };
            let bytes = emit(server);
            let mut addr = [0; address::MAX];
            for (to, &from) in addr.iter_mut().zip(&bytes) {
                *to = from;
            }
            let fd = socket.as_raw_fd();
            let (sess, cb, cb_private) = (ptr::null_mut(), None, ptr::null_mut());
            let udp = Box::into_raw(Box::new(Udp { addr, addr_len: bytes.len(), fd, sess, cb, cb_private }));
            sockets().insert(udp.addr(), Arc::new(socket));
            out.write(udp);
            0
        }
        Err(error) => error,
    }
}

fn open(host: *const c_char, port: c_int) -> Result<(SocketAddr, UdpSocket), c_int> {
    let inval = -(Errno::Inval as c_int);
    let host = pointers::string(host, 255).map_err(|_| inval)?;
    let host = std::str::from_utf8(host).map_err(|_| inval)?;
    let port = u16::try_from(port).ok().filter(|&port| port != 0).ok_or(inval)?;
    let bracketed = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    let found = cldc_udp::resolve(&format!("{bracketed}:{port}")).map_err(|_| -ENOENT)?;
    let &server = found.first().ok_or(-ENOENT)?;
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).map_err(|error| number(&error))?;
    socket.set_nonblocking(true).map_err(|error| number(&error))?;
    Ok((server, socket))
}

/// `cldc_udp_free`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_udp_free(udp: *mut Udp) {
    let known = sockets().remove(&udp.addr());
    if known.is_some() {
        // SAFETY: `cldc_udp_new` made it of a box, and it has not been freed before.
        drop(unsafe { Box::from_raw(udp) });
    }
}

/// `cldc_udp_receive_pkt`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_udp_receive_pkt(udp: *mut Udp) -> c_int {
    let socket = match socket(udp) {
        Ok(socket) => socket,
        Err(error) => return error,
    };
    // SAFETY: the list knows it, so `cldc_udp_new` has made it, and it lives.
    let session = unsafe { (*udp).sess };
    if session.is_null() {
        return -ENXIO;
    }
    // Longer than any packet: a longer datagram is cut, and then is none.
    let mut buffer = [0; 2048];
    match socket.recv_from(&mut buffer) {
        Ok((len, from)) => {
            let from = emit(from);
            crate::session::cldc_receive_pkt(
                session,
                from.as_ptr().cast(),
                from.len(),
                buffer.as_ptr().cast(),
                len,
            )
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
        Err(error) => number(&error),
    }
}

/// `cldc_udp_pkt_send`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_udp_pkt_send(
    private: *mut c_void,
    addr: *const c_void,
    addrlen: usize,
    buf: *const c_void,
    buflen: usize,
) -> c_int {
    let sent = || -> Result<(), c_int> {
        let socket = socket(private.cast::<Udp>())?;
        let inval = -(Errno::Inval as c_int);
        let to = pointers::bytes(addr, addrlen).ok().and_then(understood).ok_or(inval)?;
        let datagram = pointers::bytes(buf, buflen).map_err(|_| inval)?;
        socket.send_to(datagram, to).map(drop).map_err(|error| number(&error))
    };
    sent().err().unwrap_or(0)
}

/// `hail_readport`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hail_readport(fname: *const c_char) -> c_int {
    /// Longest path of a file on Linux.
    const PATH_MAX: usize = 4095;
    let Ok(path) = pointers::string(fname, PATH_MAX) else { return -(Errno::Inval as c_int) };
    match fs::read(Path::new(std::ffi::OsStr::from_bytes(path))) {
        Ok(text) => {
            let port = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u16>().ok());
            port.filter(|&port| port != 0).map_or(-(Errno::Inval as c_int), c_int::from)
        }
        Err(error) => number(&error),
    }
}

/// `cld_readport`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cld_readport(fname: *const c_char) -> c_int {
    hail_readport(fname)
}
