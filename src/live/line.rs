//! A raw line to an endpoint: bytes both ways, no HTTP any more. What a connection becomes when its
//! protocol was switched, and what CONNECT asks for.

use std::io;

use bytes::Bytes;

use super::slots::Slot;
use super::wire::{Dialer, Wire};
use crate::plan::SocketAddress;

/// An open line.
pub struct Line {
    pub(super) wire: Wire,
    /// What came from the endpoint already.
    pub(super) early: Bytes,
    /// Free when the socket is closed, not before.
    pub(super) _slot: Option<Slot>,
}

impl Line {
    /// Opens a line in the slot; without one it counts for no upstream.
    ///
    /// # Errors
    /// What the system says of the attempt.
    pub async fn open(
        dialer: &Dialer,
        address: &SocketAddress,
        slot: Option<Slot>,
    ) -> io::Result<Self> {
        Ok(Self {
            // TLS, if any, is between the client and the endpoint.
            wire: dialer.dial(address, None, true).await?,
            early: Bytes::new(),
            _slot: slot,
        })
    }
}

impl Line {
    /// Our own port; `None` where the line has none.
    pub fn local_port(&self) -> Option<u16> {
        self.wire.local_port()
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}
