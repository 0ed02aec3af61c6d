//! What a connection and an endless answer on it have in common.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// The way between an HTTP connection and whoever streams an answer over it: a request carries it
/// among its extensions.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_stream: AtomicBool,
    cut: Notify,
}

impl Line {
    /// Says that the answer never ends by itself, and is the connection's last: a client that
    /// ends its half, then, wants nothing more.
    pub(super) fn make_stream(&self) {
        self.0.is_stream.store(true, Ordering::Relaxed);
    }

    /// Whether the answer never ends by itself.
    pub(super) fn is_stream(&self) -> bool {
        self.0.is_stream.load(Ordering::Relaxed)
    }

    /// Asks the connection to end at once, in the midst of its answer.
    pub(super) fn cut(&self) {
        self.0.cut.notify_one();
    }

    /// Waits until the connection is asked to end.
    pub(super) async fn is_cut(&self) {
        self.0.cut.notified().await;
    }
}
