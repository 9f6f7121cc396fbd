//! A client session against two kinds of servers, on simulated time, over every kind of bad network.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panic")]

#[path = "../support/mod.rs"]
mod support;

/// Runs a test with both sizes of session and both kinds of server.
macro_rules! everywhere {
    ($($name:ident)*) => {
        mod with_our_server {
            use cldc_core::session::{FullSession, SmallSession};
            use crate::support::our_server::OurServer;
            $(#[test] fn $name() {
                super::$name::<SmallSession, OurServer>(OurServer::new);
                super::$name::<FullSession, OurServer>(OurServer::new);
            })*
        }
        mod with_hails_server {
            use cldc_core::session::{FullSession, SmallSession};
            use crate::support::hail_server::HailServer;
            $(#[test] fn $name() {
                super::$name::<SmallSession, HailServer>(HailServer::new);
                super::$name::<FullSession, HailServer>(HailServer::new);
            })*
        }
    };
}

mod calls;
mod connecting;
mod events;
mod extended;
mod faults;
mod hostile;
mod lease;
mod limits;
