//! Asking the control thread to stop.

use tokio::sync::watch;

/// Asks the control thread to stop, from any thread.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<bool>);

/// Where the control thread learns that it shall stop.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<bool>);

/// A pair of the two.
#[must_use]
pub fn stop_signal() -> (Stopper, StopSignal) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), StopSignal(receiver))
}

impl Stopper {
    /// Asks. Asking again changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl StopSignal {
    /// Whether it was asked.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked. A stopper that is gone asks too: nobody is left who could.
    pub async fn stopping(&mut self) {
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}
