//! Where the bodies of requests in flight are kept: one after the other in a fixed buffer.

use core::ops::Range;

use crate::wire::{Full, Request, Writer};

#[derive(Debug)]
pub(super) struct Bodies<const N: usize> {
    bytes: [u8; N],
    end: usize,
}

impl<const N: usize> Bodies<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; N], end: 0 }
    }

    /// Writes a body behind the others.
    pub(super) fn write(&mut self, request: &Request<'_>) -> Result<Range<usize>, Full> {
        let mut out = Writer::new(self.bytes.get_mut(self.end..).unwrap_or_default());
        request.emit(&mut out)?;
        let start = self.end;
        self.end = start.saturating_add(out.len());
        Ok(start..self.end)
    }

    /// Takes back the body that was written last.
    pub(super) const fn give_back(&mut self, body: &Range<usize>) {
        self.end = body.start;
    }

    /// Forgets all bodies but those that [`Bodies::keep`] is called for next, in the order in which they were
    /// written.
    pub(super) const fn forget(&mut self) {
        self.end = 0;
    }

    /// Keeps a body, moved down to the end of those kept before.
    pub(super) fn keep(&mut self, body: &mut Range<usize>) {
        let to = self.end..self.end.saturating_add(body.len());
        if body.start <= body.end && body.end <= N && to.start <= body.start {
            self.bytes.copy_within(body.clone(), to.start);
        }
        self.end = to.end;
        *body = to;
    }

    /// Part of a body.
    pub(super) fn piece(&self, body: &Range<usize>, part: Range<usize>) -> &[u8] {
        self.bytes.get(body.clone()).and_then(|body| body.get(part)).unwrap_or_default()
    }
}
