//! A worker's link to the server: a thread that keeps a connection up and fills the inbox.
//!
//! It alone sends and receives, so that heartbeats go on while a handler works. It knows no handlers.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use zmq::{Context, POLLIN, PollItem};

use crate::{
    Error, Trigger,
    address::Address,
    bell::Bell,
    inbox::{Delivery, Inbox, Receipt},
    socket::{Socket, refusal},
};

/// How often the worker says that it lives.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// After so much silence of the server, which says something each second, the connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The longest delay before the second attempt to connect; it doubles with each.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long the last acknowledgements may take to get out.
const LINGER_MS: i32 = 1000;

/// What a worker is to the server.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) address: Address,
    pub(crate) filter: String,
    /// How many triggers it takes without having acknowledged them; `None`: it acknowledges none.
    pub(crate) window: Option<u32>,
}

/// What the link's thread shares with those who run handlers and who stop.
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    bell: Bell,
    outcomes: Mutex<VecDeque<(Receipt, bool)>>,
    is_stopping: AtomicBool,
    is_closing: AtomicBool,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            inbox: Inbox::default(),
            bell: Bell::new(),
            outcomes: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
        }
    }

    /// Takes no more triggers and ends the inbox.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Reports the outcome of a delivery, or that there is room for another one.
    pub(crate) fn settle(&self, receipt: Option<Receipt>, is_handled: bool) {
        if let Some(receipt) = receipt {
            self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push_back((receipt, is_handled));
        }
        self.bell.ring();
    }

    fn next_outcome(&self) -> Option<(Receipt, bool)> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

/// The thread, from outside.
pub(crate) struct Link {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    pub(crate) fn start(terms: Terms, shared: Arc<Shared>) -> Self {
        let conversation = Conversation { terms, shared: Arc::clone(&shared), connection: 0 };
        let run = move || {
            let mut conversation = conversation;
            let why = conversation.keep_up();
            conversation.shared.inbox.end(why);
        };
        let thread = thread::Builder::new().name("kosmonaut".to_owned()).spawn(run);
        Self { shared, thread: Some(thread.expect("a thread can be started")) }
    }
}

/// Leaves the server once it knows all outcomes, and returns when that is done.
impl Drop for Link {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::Release);
        self.shared.stop();
        let ended = self.thread.take().expect("it is joined once").join();
        debug_assert!(ended.is_ok(), "the link's thread does not panic");
    }
}

/// What the link's thread works with.
///
/// With a window, what no handler has begun with is forgotten whenever a connection is over, because the server gives it
/// to somebody. Without, what was taken is this worker's alone, and is kept.
struct Conversation {
    terms: Terms,
    shared: Arc<Shared>,
    /// Counts the connections: an outcome of an earlier one tells the server nothing.
    connection: u64,
}

impl Conversation {
    /// Connects, and connects anew when a connection is over, until the link is stopped or the server refuses.
    fn keep_up(&mut self) -> Result<(), Error> {
        let mut backoff = BACKOFF_MIN;
        while !self.shared.is_stopping() {
            let begun = Instant::now();
            let reason = match self.converse() {
                Err(error) if matches!(error.code(), Some(400 | 402)) => return Err(error),
                Err(error) => error.to_string(),
                Ok(()) => "the server wants a new connection".to_owned(),
            };
            if self.shared.is_stopping() {
                break;
            }
            if begun.elapsed() > SILENCE_MAX {
                backoff = BACKOFF_MIN;
            }
            let delay = backoff.mul_f64(chance());
            backoff = BACKOFF_MAX.min(2 * backoff);
            let server = &self.terms.address.authority;
            tracing::warn!(%server, delay_ms = delay.as_millis(), "connecting anew: {reason}");
            self.rest(delay)?;
        }
        Ok(())
    }

    /// One connection, from its beginning until it is over or the link is to stop.
    fn converse(&mut self) -> Result<(), Error> {
        self.connection += 1;
        // Where nothing is acknowledged, what libzmq has in store would be lost with this process.
        let receive_max = if self.terms.window.is_some() { 1000 } else { 1 };
        let context = Context::new();
        let socket = Socket::connect(&context, &self.terms.address, receive_max)?;
        let window = self.terms.window.map(|window| window.to_string());
        let ready = [b"RD".as_slice(), self.terms.filter.as_bytes()];
        let over = socket
            .send(&ready.into_iter().chain(window.as_ref().map(String::as_bytes)).collect::<Vec<_>>())
            .and_then(|()| self.work(&socket));
        if over.is_ok() {
            socket.linger(LINGER_MS)?;
        }
        if self.terms.window.is_some() {
            self.shared.inbox.clear();
        }
        over
    }

    /// Until the server says QT or the link is closed.
    fn work(&mut self, socket: &Socket) -> Result<(), Error> {
        let mut heard = Instant::now();
        let mut beaten = heard;
        loop {
            let rest = HEARTBEAT_INTERVAL.saturating_sub(beaten.elapsed());
            let is_receiving = self.has_room();
            socket.wait(
                is_receiving,
                Some(self.shared.bell.fd()),
                i64::try_from(rest.as_millis()).unwrap_or(0) + 1,
            )?;
            self.shared.bell.silence();
            socket.check()?;
            if self.is_leaving(socket)? {
                return socket.send(&[b"QT"]);
            }
            let now = Instant::now();
            if !is_receiving {
                heard = now;
            }
            while self.has_room()
                && let Some(message) = socket.receive()?
            {
                heard = now;
                match &*message[0] {
                    b"TR" => self.take(message),
                    b"ER" => return Err(refusal(&message)),
                    b"QT" => return Ok(()),
                    _ => {}
                }
            }
            if now - heard > SILENCE_MAX {
                return Err(Error::ConnectionLost("the server is silent"));
            }
            if now - beaten >= HEARTBEAT_INTERVAL {
                socket.send(&[b"HB"])?;
                beaten = now;
            }
        }
    }

    /// Whether triggers may come: the server minds the window, without one this side minds the backlog.
    fn has_room(&self) -> bool {
        self.terms.window.is_some() || !self.shared.inbox.is_full()
    }

    /// Sends the outcomes that there are, and says whether it is time to go: when stopped, but with a window not before
    /// the last handler's outcome is known.
    fn is_leaving(&self, socket: &Socket) -> Result<bool, Error> {
        // Read first: what is settled before the link is closed is among the outcomes then.
        let is_closing = self.shared.is_closing.load(Ordering::Acquire);
        while let Some((receipt, is_handled)) = self.shared.next_outcome() {
            if receipt.connection == self.connection {
                socket.send(&[if is_handled { b"AK" } else { b"NK" }, &receipt.id])?;
            }
        }
        if self.terms.window.is_none() {
            return Ok(self.shared.is_stopping());
        }
        if self.shared.is_stopping() {
            self.shared.inbox.clear();
            self.shared.inbox.end(Ok(()));
        }
        Ok(is_closing)
    }

    fn take(&self, mut message: Vec<Vec<u8>>) {
        let id = (self.terms.window.is_some() && message.len() > 2).then(|| message.swap_remove(2));
        let receipt = id.map(|id| Receipt { connection: self.connection, id });
        match message.get(1).and_then(|payload| Trigger::from_payload(payload)) {
            Some(_) if self.shared.is_stopping() && receipt.is_some() => {}
            Some(trigger) => self.shared.inbox.put(Delivery { trigger, receipt }),
            None => {
                tracing::error!("a trigger that cannot be read was left out");
                self.shared.settle(receipt, true);
            }
        }
    }

    /// Waits for `delay`, or until the bell rings.
    fn rest(&self, delay: Duration) -> Result<(), Error> {
        let mut bell = [PollItem::from_fd(self.shared.bell.fd(), POLLIN)];
        match zmq::poll(&mut bell, i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.shared.bell.silence();
        Ok(())
    }
}

/// A random number from 0 to 1, from the seeds that the standard library gives its hash maps.
fn chance() -> f64 {
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).expect("32 bits are left");
    f64::from(random) / f64::from(u32::MAX)
}
