//! Configuration watch: prints a file now, and again whenever it changes, until it is deleted.
//!
//! ```text
//! cargo run --example config_watch -- --server localhost:8081 --user alice --key SECRET /config
//! ```
//!
//! Then change the file, for instance with `cldcli`.

mod args;

use std::error::Error;
use std::io::{self, Write};

use cldc_udp::blocking::{Client, File};
use cldc_udp::{EventMask, OpenMode};

fn main() -> Result<(), Box<dyn Error>> {
    let (options, rest) = args::parse()?;
    let [path] = rest.as_slice() else {
        return Err("usage: config_watch [--server HOST:PORT] [--user USER] [--key KEY] PATH".into());
    };
    let client = Client::connect(options)?;
    // First listen, then read: what changes in between is told.
    let events = client.events();
    let file = client.open(path, OpenMode::READ, EventMask::UPDATED)?;
    print(&file)?;
    for event in events {
        if event.events.contains(EventMask::DELETED) {
            println!("-- {path} is deleted");
            return Ok(client.close()?);
        }
        // Reading gives the newest contents: that some events were missed makes no difference.
        print(&file)?;
    }
    // There is nothing more to come: the session is over.
    client.nop()?;
    Ok(())
}

fn print(file: &File) -> Result<(), Box<dyn Error>> {
    let contents = file.read()?;
    println!("-- version {}, {} bytes", contents.metadata.version, contents.data.len());
    io::stdout().write_all(&contents.data)?;
    println!();
    Ok(())
}
