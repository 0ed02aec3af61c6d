//! A broadcast as its sender knows it: who sends it, where to, and what came of it.

use crate::{time::Micros, workload::Shape};

/// The backend behind the control thread, where a sender is named.
pub const BACKEND: usize = usize::MAX;

/// The first of the backends' connections over ZeroMQ, where a sender is named.
pub const FIRST_CLIENT: usize = usize::MAX / 2;

/// Whether a sender is a backend, so that what it broadcasts is from no session.
#[must_use]
pub fn is_backend(sender: usize) -> bool {
    sender >= FIRST_CLIENT
}

/// What came of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not known.
    Open,
    /// Its sender read the acknowledgement then.
    Acknowledged(Micros),
    /// It was refused.
    Refused,
}

/// A broadcast as its sender knows it.
#[derive(Debug)]
pub struct Broadcast {
    /// The sender: a browser, [`BACKEND`], or a connection from [`FIRST_CLIENT`] on.
    pub browser: usize,
    /// Where to.
    pub place: Place,
    /// When it was put together; sent then or later.
    pub composed: Micros,
    /// What came of it.
    pub fate: Fate,
    pub(super) shape: Shape,
    pub(super) pad: usize,
}

/// A vhost, by its index, and a channel.
pub type Place = (usize, &'static str);
