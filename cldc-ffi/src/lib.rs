//! The C libraries of CLD: `cldc.h` (one session, no sockets), `cldc_udp.h` (a socket for it) and `ncld.h` (blocking
//! calls), over `cldc-core` and `cldc-udp`. The headers in `include` say what each call does; this crate is how.
//!
//! With the feature `std` it makes `libcldc` for programs. Without, it makes a freestanding `libcldc_bare` that has
//! `cldc.h` alone: no allocator, no libc, no way to panic (`build-bare.sh`, `tests/freestanding.rs`).
//!
//! This is the only crate of the project with `unsafe` code: each function of C is handed pointers that nobody has
//! checked. They are checked once, at the top of the function; what is behind them is safe Rust.
#![cfg_attr(not(feature = "std"), no_std)]

mod address;
mod dirent;
#[cfg(all(not(feature = "std"), not(test)))]
mod freestanding;
#[cfg(feature = "std")]
mod hosted;
#[cfg(feature = "std")]
mod ncld;
mod pointers;
#[cfg(feature = "std")]
mod registry;
mod session;
mod types;
#[cfg(feature = "std")]
mod udp;
mod words;
