//! The control thread's own figures.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{Exposition, Kind};

macro_rules! figures {
    ($($(#[doc = $help:literal])* $field:ident $kind:ident;)*) => {
        /// What the control thread counts of itself.
        #[derive(Debug, Default)]
        pub(super) struct ControlFigures {
            $($(#[doc = $help])* pub(super) $field: Figure,)*
        }

        impl ControlFigures {
            /// Writes all figures.
            pub(super) fn write(&self, exposition: &mut Exposition) {
                $(exposition.single(
                    stringify!($field),
                    concat!($($help),*).trim(),
                    Kind::$kind,
                    self.$field.value(),
                );)*
            }
        }
    };
}

figures! {
    /// Virtual hosts.
    vhosts Gauge;
    /// Single access tokens that nobody has used yet.
    tokens Gauge;
    /// Single access tokens refused because the table was full.
    tokens_refused_total Counter;
    /// Secrets that wait to be verified, or are being verified.
    verifications Gauge;
    /// Secrets verified by hashing.
    verifications_total Counter;
    /// Right secrets that are remembered.
    verifications_remembered Gauge;
    /// Wrong secrets.
    verification_failures_total Counter;
    /// Secrets answered late because their peer had guessed wrong too often.
    verifications_throttled_total Counter;
    /// Commands that found the mailbox of a shard or of the exchange full and waited.
    mailbox_retries_total Counter;
    /// Commands that wait for room in the mailbox of a shard or of the exchange.
    mailbox_backlog Gauge;
    /// Changes that could not be stored.
    store_failures_total Counter;
    /// HTTP connections on the WebSocket port.
    http_connections Gauge;
    /// HTTP connections on the WebSocket port that were refused because there were too many.
    http_refused_total Counter;
    /// HTTP requests on the WebSocket port that were answered as asked.
    http_answers_done_total Counter;
    /// HTTP requests on the WebSocket port that were refused: their clients erred.
    http_answers_refused_total Counter;
    /// HTTP requests on the WebSocket port that the server could not serve.
    http_answers_failed_total Counter;
    /// Event streams over HTTP, of workers and of others.
    event_streams Gauge;
    /// Event streams over HTTP that were refused because there were too many.
    event_streams_refused_total Counter;
    /// Events that have left over HTTP.
    event_stream_events_total Counter;
    /// Bytes of memory that bodies of more than 64 KiB on the WebSocket port take or may take.
    http_body_bytes Gauge;
    /// Bodies of HTTP requests on the WebSocket port that wait for memory.
    http_bodies_waiting Gauge;
    /// Connections to the control API.
    control_connections Gauge;
    /// Connections to the control API that were refused because there were too many.
    control_refused_total Counter;
}

/// One figure. All tasks share it; nobody decides anything by it.
#[derive(Debug, Default)]
pub(super) struct Figure(AtomicU64);

impl Figure {
    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
