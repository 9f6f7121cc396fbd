//! What happens to open files, as a stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::client::Owner;
use crate::driver::ReaderId;
#[cfg(feature = "std")]
use crate::error::Error;
use crate::types::FileEvent;

/// What happens to open files, in the order in which the server tells it: a `Stream` that ends with the session.
///
/// Each `Events` has every event since it was made. A reader that is slow misses the oldest of more than 1024 events,
/// and is told so: [`FileEvent::missed`].
#[derive(Debug)]
pub struct Events {
    session: Arc<Owner>,
    reader: ReaderId,
}

impl Events {
    pub(crate) fn new(session: Arc<Owner>) -> Self {
        let reader = session.hub.with(|driver, _| driver.subscribe());
        Self { session, reader }
    }

    /// The next event, or nothing when the session has ended.
    pub async fn next(&mut self) -> Option<FileEvent> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Why there are no events any more.
    #[cfg(feature = "std")]
    pub(crate) fn end_error(&self) -> Error {
        self.session.hub.with(|driver, _| driver.end_error())
    }

    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<FileEvent>> {
        self.session.hub.with(|driver, _| driver.poll_file_event(self.reader, context.waker()))
    }
}

#[cfg(feature = "tokio")]
impl futures_core::Stream for Events {
    type Item = FileEvent;

    fn poll_next(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FileEvent>> {
        self.poll(context)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.session.hub.with(|driver, _| driver.unsubscribe(self.reader));
    }
}
