//! A panic in a thread of the node ends the process: half a node strands channels.

use std::{process, thread};

/// Ends the process when the thread that holds it panics, in every build.
pub(crate) struct AbortOnPanic {
    who: String,
}

impl AbortOnPanic {
    /// For the thread of `who`.
    pub(crate) fn new(who: String) -> Self {
        Self { who }
    }
}

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{} panicked; a node without it cannot go on", self.who);
            process::abort();
        }
    }
}
