//! What the link and the thread that runs handlers share: deliveries in order, then the end.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{Error, Trigger};

/// How many deliveries that nobody acknowledges may wait for the handlers. Beyond, the link takes none.
const BACKLOG_MAX: usize = 64;

/// A trigger, and what its outcome is to be reported with.
pub(crate) struct Delivery {
    pub(crate) trigger: Trigger,
    pub(crate) receipt: Option<Receipt>,
}

/// Which delivery of which connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) connection: u64,
    pub(crate) id: Vec<u8>,
}

/// Deliveries that wait for the handlers. Bounded by the worker's window, or by [`Inbox::is_full`].
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivery>,
    end: Option<Result<(), Error>>,
}

impl Inbox {
    pub(crate) fn put(&self, delivery: Delivery) {
        self.state().waiting.push_back(delivery);
        self.changed.notify_one();
    }

    /// Nothing follows; the first word on why counts.
    pub(crate) fn end(&self, why: Result<(), Error>) {
        self.state().end.get_or_insert(why);
        self.changed.notify_one();
    }

    /// Forgets what no handler has begun with.
    pub(crate) fn clear(&self) {
        self.state().waiting.clear();
    }

    pub(crate) fn is_full(&self) -> bool {
        self.state().waiting.len() >= BACKLOG_MAX
    }

    /// Waits for the next delivery, or for the end and why it came.
    pub(crate) fn next(&self) -> Result<Delivery, Result<(), Error>> {
        let mut state = self.state();
        loop {
            if let Some(delivery) = state.waiting.pop_front() {
                return Ok(delivery);
            }
            if let Some(why) = state.end.take() {
                return Err(why);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing panics while it holds the lock, and the state is whole at every moment anyway.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
