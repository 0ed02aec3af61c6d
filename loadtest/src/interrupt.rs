//! Being told to stop, by Ctrl-C or SIGTERM: what runs ends with an error when it looks the next time, so that servers
//! are ended and what was opened in others is closed. Told once more, the process ends at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

static IS_TOLD: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Listens from now on.
///
/// # Errors
/// The system does not let it.
pub(crate) fn listen() -> anyhow::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_default(signal, Arc::clone(&IS_TOLD))
            .and_then(|_| flag::register(signal, Arc::clone(&IS_TOLD)))
            .context("cannot listen for signals")?;
    }
    Ok(())
}

/// Goes on unless it was told to stop.
///
/// # Errors
/// It was.
pub(crate) fn check() -> anyhow::Result<()> {
    ensure!(!IS_TOLD.load(Ordering::Relaxed), "interrupted");
    Ok(())
}
