//! Leader election: of all programs that run this on the same file, one leads at a time.
//!
//! The leader holds the file's lock and has written its name into the file, so that anybody can read who leads. When it
//! stops, or its machine does, the next in the queue takes over.
//!
//! Run it twice or more, against a server on this machine that knows the user, and end the leader by Ctrl-C:
//!
//! ```text
//! cargo run --example leader_election -- --server localhost:8081 --user alice --key SECRET /leader one
//! cargo run --example leader_election -- --server localhost:8081 --user alice --key SECRET /leader two
//! ```

mod args;

use std::error::Error;
use std::time::Duration;

use cldc_udp::aio::{Client, File, Lock};
use cldc_udp::{Error as CldError, LockKind};
use tokio::time::{interval, sleep};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (options, rest) = args::parse()?;
    let [path, name] = rest.as_slice() else {
        return Err("usage: leader_election [--server HOST:PORT] [--user USER] [--key KEY] PATH NAME".into());
    };
    let client = Client::connect(options).await?;
    println!("{name}: connected to {:?}", client.server());
    tokio::select! {
        result = stand_for_election(&client, path, name) => result?,
        result = tokio::signal::ctrl_c() => result?,
    }
    // Whoever waits for the lock gets it now, and not when the lease has run out.
    client.close().await?;
    println!("{name}: resigned");
    Ok(())
}

async fn stand_for_election(client: &Client, path: &str, name: &str) -> Result<(), CldError> {
    // One who waits to lead waits for long: this deadline only bounds a single place in the queue.
    let file = client.with_timeout(Duration::from_secs(3600)).create(path).await?;
    loop {
        let leader = client.read(path).await?.data;
        println!("{name}: waiting; the last leader was {:?}", String::from_utf8_lossy(&leader));
        match file.lock(LockKind::Exclusive).await {
            Ok(lock) => lead(&file, &lock, name).await?,
            Err(CldError::Timeout { .. }) => continue,
            Err(error) => return Err(error),
        }
        // In jeopardy the server may be out of reach: no hurry.
        sleep(Duration::from_secs(1)).await;
    }
}

/// Leads until the lock is not safe any more.
async fn lead(file: &File, lock: &Lock, name: &str) -> Result<(), CldError> {
    file.write(name.as_bytes()).await?;
    println!("{name}: leading");
    let work = async {
        let mut ticks = interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            println!("{name}: does what only the leader may do");
        }
    };
    tokio::select! {
        () = lock.lost() => println!("{name}: not the leader any more"),
        () = work => {}
    }
    Ok(())
}
