//! Starting the exchange's thread.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use crossbeam::queue::ArrayQueue;
use tokio::sync::mpsc;
use webrocket_state::{
    Exchange, ShardMessage,
    exchange::{ExchangeCommand, ExchangeConfig, ExchangeReport},
};

use super::{
    sockets::{ExchangeError, ExchangeOptions, Sockets},
    thread::{Parts, Thread},
};
use crate::driver::{AbortOnPanic, Mailbox, Port, affinity};

/// Commands that may wait for the exchange. Full: [`Mailbox::try_send`] gives the command back.
const COMMANDS_MAX: usize = 1_024;

/// Reports that may wait for the control thread. Full: they wait in the exchange.
const REPORTS_MAX: usize = 4_096;

/// An exchange at work.
#[derive(Debug)]
pub struct Started {
    /// The way into it.
    pub mailbox: Mailbox<ExchangeCommand>,
    /// What it reports. Ends with its thread; when it is dropped, the exchange stops.
    pub reports: mpsc::Receiver<ExchangeReport>,
    /// Its thread, which ends when it has carried out [`ExchangeCommand::Shutdown`].
    pub thread: JoinHandle<()>,
}

/// Starts the exchange's thread on sockets that are bound, as a party among the shards.
///
/// `publish` gets its figures after each turn, in its thread. A panic in the thread aborts the process.
///
/// # Errors
/// The system gives no thread.
pub fn start(
    options: &ExchangeOptions,
    sockets: Sockets,
    port: Port<ShardMessage>,
    config: ExchangeConfig,
    publish: impl Fn(&[u64]) + Send + 'static,
) -> Result<Started, ExchangeError> {
    let commands = Arc::new(ArrayQueue::new(COMMANDS_MAX));
    let mailbox = Mailbox::new(Arc::clone(&commands), Arc::clone(port.wake()));
    let (sender, reports) = mpsc::channel(REPORTS_MAX);
    let parts = Parts {
        sockets,
        port,
        commands,
        reports: sender,
        publish: Box::new(publish),
        unread_bytes_max: u64::from(options.unread_bytes_max),
    };
    let cpu = options.cpu;
    let body = move || {
        let _guard = AbortOnPanic::new("the exchange".to_owned());
        if let Some(Err(error)) = cpu.map(affinity::pin) {
            tracing::warn!(%error, "the exchange cannot stay on one CPU");
        }
        Thread::new(parts, Exchange::new(config)).run();
    };
    let thread = thread::Builder::new().name("exchange".to_owned());
    Ok(Started { mailbox, reports, thread: thread.spawn(body).map_err(ExchangeError::Thread)? })
}
