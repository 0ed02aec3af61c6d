//! The workers of a run: a thread of DEALER sockets that takes triggers, checks and acknowledges them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;

use super::payload;
use super::peers::{Endpoint, Peer, wait};
use crate::clock::monotonic_ns;

/// Longer times count as this.
pub(crate) const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// A heartbeat goes out so often.
const HEARTBEAT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_millis(50);

/// What workers have found.
pub(crate) struct Found {
    /// Nanoseconds from a trigger's sending to a worker's having it.
    pub(crate) latency_ns: Histogram<u64>,
    /// When the last one came, `CLOCK_MONOTONIC`.
    pub(crate) last_ns: u64,
}

/// Workers in a thread of their own.
pub(crate) struct Workers {
    thread: JoinHandle<anyhow::Result<Found>>,
    handled: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Workers {
    /// Starts `count` workers with this window, for triggers numbered from 0 to `triggers`.
    pub(crate) fn start(endpoint: &Endpoint, count: u32, window: u32, triggers: u64) -> Self {
        let (handled, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let crew = Crew {
            endpoint: endpoint.clone(),
            count,
            window,
            seen: vec![false; usize::try_from(triggers).unwrap_or(usize::MAX)],
            handled: Arc::clone(&handled),
            stop: Arc::clone(&stop),
        };
        Self { thread: thread::spawn(move || crew.work()), handled, stop }
    }

    /// How many triggers they have handled.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// The counter of [`Workers::handled`].
    pub(crate) fn handled_so_far(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.handled)
    }

    /// Whether they have failed; [`Workers::end`] says why.
    pub(crate) fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends them.
    ///
    /// # Errors
    /// A trigger came twice, or what came was none.
    pub(crate) fn end(self) -> anyhow::Result<Found> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a thread of ours does not panic")
    }
}

struct Crew {
    endpoint: Endpoint,
    count: u32,
    window: u32,
    seen: Vec<bool>,
    handled: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Crew {
    fn work(mut self) -> anyhow::Result<Found> {
        let context = zmq::Context::new();
        let peers = (0..self.count).map(|_| Peer::connect(&context, &self.endpoint));
        let peers = peers.collect::<anyhow::Result<Vec<_>>>()?;
        let window = self.window.to_string();
        for peer in &peers {
            peer.send(&[b"RD", b"", window.as_bytes()])?;
        }
        let latency_ns = Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("valid bounds and precision");
        let mut found = Found { latency_ns, last_ns: 0 };
        let mut frames = Vec::new();
        let mut beaten = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            wait(&peers, PATIENCE)?;
            for peer in &peers {
                while peer.receive(&mut frames)? {
                    self.take(peer, &frames, &mut found)?;
                }
            }
            if beaten.elapsed() >= HEARTBEAT {
                beaten = Instant::now();
                for peer in &peers {
                    peer.send(&[b"HB"])?;
                }
            }
        }
        for peer in &peers {
            peer.send(&[b"QT"])?;
        }
        Ok(found)
    }

    fn take(&mut self, peer: &Peer, frames: &[zmq::Message], found: &mut Found) -> anyhow::Result<()> {
        match frames {
            [command, payload, id] if &**command == b"TR" => {
                let (number, sent_ns) = payload::read(payload)?;
                let seen = usize::try_from(number).ok().and_then(|index| self.seen.get_mut(index));
                let seen = seen.with_context(|| format!("trigger {number} was never sent"))?;
                ensure!(!std::mem::replace(seen, true), "trigger {number} came twice");
                found.last_ns = monotonic_ns();
                found.latency_ns.saturating_record(found.last_ns.saturating_sub(sent_ns));
                peer.send(&[b"AK", id])?;
                self.handled.fetch_add(1, Ordering::Relaxed);
            }
            [command] if &**command == b"HB" => {}
            other => bail!("a worker was told {other:?}"),
        }
        Ok(())
    }
}
