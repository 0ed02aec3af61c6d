//! The Worker: handles what browsers trigger.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    Error, Trigger,
    link::{Link, Shared, Terms},
};

/// The most triggers that a worker may have without having acknowledged them.
pub const WINDOW_MAX: u32 = 1000;
const WINDOW: u32 = 100;

/// Why a handler failed: any error, by `?`.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

type Handler = Box<dyn FnMut(&Trigger) -> Result<(), HandlerError> + Send>;

/// Takes the triggers of one vhost and gives each to the handler of its event, one after the other.
///
/// Workers share the work: each trigger goes to one of those whose filter matches. It is acknowledged when its handler
/// returns. If the handler fails or panics, that is logged and the trigger goes to another worker, and so do those that a
/// dead worker had: a handler may see a trigger again.
///
/// Heartbeats go on while a handler works, however long it takes. A lost connection is made anew.
pub struct Worker {
    terms: Terms,
    handlers: HashMap<String, Handler>,
    fallback: Option<Handler>,
    shared: Arc<Shared>,
}

impl Worker {
    /// A worker of the vhost at `wr://TOKEN@host:port/vhost`; the port is 9774 by default. Nothing is connected before
    /// [`Worker::run`].
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn new(url: &str) -> Result<Self, Error> {
        let terms = Terms { address: url.parse()?, filter: String::new(), window: Some(WINDOW) };
        Ok(Self { terms, handlers: HashMap::new(), fallback: None, shared: Arc::new(Shared::new()) })
    }

    /// Takes only events whose whole name this regular expression matches.
    #[must_use]
    pub fn with_filter(mut self, filter: &str) -> Self {
        filter.clone_into(&mut self.terms.filter);
        self
    }

    /// How many triggers are given to this worker before it has acknowledged the first; 100 by default.
    ///
    /// # Panics
    /// The window is not 1 to [`WINDOW_MAX`].
    #[must_use]
    pub fn with_window(mut self, window: u32) -> Self {
        assert!((1..=WINDOW_MAX).contains(&window), "a window is 1 to {WINDOW_MAX}, not {window}");
        self.terms.window = Some(window);
        self
    }

    /// Acknowledges nothing: each trigger is handled at most once, and what a dead worker had is lost.
    #[must_use]
    pub fn without_acknowledgements(mut self) -> Self {
        self.terms.window = None;
        self
    }

    /// Sets the handler of an event.
    pub fn on<H>(&mut self, event: &str, handler: H) -> &mut Self
    where
        H: FnMut(&Trigger) -> Result<(), HandlerError> + Send + 'static,
    {
        self.handlers.insert(event.to_owned(), Box::new(handler));
        self
    }

    /// Sets the handler of all other events. Without one they count as handled and a warning is logged; a filter keeps
    /// them away.
    pub fn otherwise<H>(&mut self, handler: H) -> &mut Self
    where
        H: FnMut(&Trigger) -> Result<(), HandlerError> + Send + 'static,
    {
        self.fallback = Some(Box::new(handler));
        self
    }

    /// What stops this worker from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// Works until it is stopped.
    ///
    /// # Errors
    /// [`Error::Refused`] if the server refuses this worker: 402 a wrong token or no such vhost, 400 a filter that is no
    /// regular expression.
    pub fn run(mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let _link = Link::start(self.terms.clone(), Arc::clone(&shared));
        loop {
            match shared.inbox.next() {
                Ok(delivery) => shared.settle(delivery.receipt, self.handle(&delivery.trigger)),
                Err(why) => return why,
            }
        }
    }

    /// Whether the trigger counts as handled.
    fn handle(&mut self, trigger: &Trigger) -> bool {
        let event = &trigger.event;
        let Some(handler) = self.handlers.get_mut(event).or(self.fallback.as_mut()) else {
            tracing::warn!(event, "no handler for the event");
            return true;
        };
        match catch_unwind(AssertUnwindSafe(|| handler(trigger))) {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(event, error, "the handler failed");
                false
            }
            Err(_) => {
                tracing::error!(event, "the handler panicked");
                false
            }
        }
    }
}

/// Stops a worker.
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Lets [`Worker::run`] return when the running handler has; what was not begun with goes to others. Where nothing is
    /// acknowledged, what was taken already is still handled, for nobody else has it.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}
