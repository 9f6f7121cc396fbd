//! The node as a whole: endpoint, replicated state and consensus engine, with a simulated disk that completes later, a
//! network that loses, duplicates and reorders, and clients that behave like Hail's (protocol.md 4.4, 4.6).

#[cfg(test)]
mod extended;
#[cfg(test)]
mod extended_peer;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod model;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod world;
