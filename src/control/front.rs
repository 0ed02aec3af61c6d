//! HTTP on the WebSocket port: connections that shards hand over.
//!
//! A connection that was handed over stays here, so a WebSocket needs a new one. `router` says what is served.

mod router;

use super::serve::HttpServer;
use crate::driver::mailbox::HandOff;

pub(super) use router::router;

/// HTTP connections on the WebSocket port at the same moment. Further ones get 503.
pub(super) const CONNECTIONS_MAX: u32 = 1_024;

/// The HTTP server on the WebSocket port.
pub(super) struct Front(HttpServer);

impl Front {
    pub(super) fn new(server: HttpServer) -> Self {
        Self(server)
    }

    /// Serves a connection that a shard handed over.
    pub(super) fn serve(&self, hand_off: HandOff) {
        self.0.serve(hand_off.stream, hand_off.head);
    }
}

#[cfg(test)]
mod tests;
