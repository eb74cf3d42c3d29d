//! What those who use a connection of HTTP/2 share.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::Scheme;

use super::watched::Seen;
use crate::clock;
use crate::live::age::Age;
use crate::live::slots::Slots;

/// A connection that takes requests, or did so. When the last of them and the pool have let go of it, the
/// connection says goodbye and closes.
pub(super) struct Shared {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) seen: Arc<Seen>,
    pub(super) scheme: Scheme,
    pub(super) worker: usize,
    pub(super) age: Age,
    pub(super) slots: Arc<Slots>,
}

impl Shared {
    pub(super) fn new(
        sender: SendRequest<Bytes>,
        seen: Arc<Seen>,
        scheme: Scheme,
        worker: usize,
        slots: &Arc<Slots>,
    ) -> Arc<Self> {
        Arc::new(Self {
            sender,
            seen,
            scheme,
            worker,
            age: Age::begin(clock::now()),
            slots: Arc::clone(slots),
        })
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
