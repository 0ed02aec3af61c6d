//! DEALER clients that keep so many requests in flight, or send at a steady rate.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;

use super::payload::{self, EVENT};
use super::peers::{Endpoint, Peer, wait};
use super::worker::{LATENCY_NS_MAX, Workers};
use crate::clock::monotonic_ns;
use crate::interrupt;

/// What clients ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'a> {
    /// `TR`: the floor's own word for a trigger.
    Trigger,
    /// `BC` on this channel.
    Broadcast(&'a str),
}

/// How much is asked, and how.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) command: Command<'a>,
    pub(crate) requests: u64,
    pub(crate) payload_bytes: usize,
    pub(crate) pace: Pace,
    /// Who handles what is asked, if that is more than to answer: then nobody asks while [`BACKLOG_MAX`] wait there.
    pub(crate) workers: Option<&'a Workers>,
}

/// The most triggers that are sent and not handled: fewer than the server lets wait, for it refuses further ones.
pub(crate) const BACKLOG_MAX: u64 = 4096;
/// How soon to look again whether fewer wait.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(1);

impl Load<'_> {
    fn is_backlogged(&self, sent: u64) -> bool {
        self.workers.is_some_and(|workers| sent - workers.handled().min(sent) >= BACKLOG_MAX)
    }
}

/// How quickly.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Each client keeps so many unanswered.
    InFlight(u32),
    /// All together ask so many a second.
    Rate(u32),
}

/// What clients have found.
pub(crate) struct Asked {
    /// When the first was asked, and the last answered: `CLOCK_MONOTONIC`.
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// Nanoseconds from asking until the answer.
    pub(crate) latency_ns: Histogram<u64>,
}

/// Clients of one exchange.
pub(crate) struct Clients {
    peers: Vec<Peer>,
    /// When each peer's open requests were asked, oldest first.
    open: Vec<std::collections::VecDeque<u64>>,
    frames: Vec<zmq::Message>,
    patience: Duration,
}

impl Clients {
    /// Connects `count` clients.
    pub(crate) fn connect(endpoint: &Endpoint, count: u32, patience: Duration) -> anyhow::Result<Self> {
        let context = zmq::Context::new();
        let peers = (0..count).map(|_| Peer::connect(&context, endpoint));
        let peers = peers.collect::<anyhow::Result<Vec<_>>>()?;
        let open = peers.iter().map(|_| std::collections::VecDeque::new()).collect();
        Ok(Self { peers, open, frames: Vec::new(), patience })
    }

    /// Asks all, and waits for all answers.
    ///
    /// # Errors
    /// An answer other than `OK`, or none for long.
    pub(crate) fn ask(&mut self, load: Load<'_>) -> anyhow::Result<Asked> {
        let latency_ns = Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("valid bounds and precision");
        let mut asked = Asked { first_ns: monotonic_ns(), last_ns: 0, latency_ns };
        let (mut sent, mut answered) = (0, 0);
        let mut progressed = Instant::now();
        while answered < load.requests {
            let until = self.send_due(load, &mut sent, asked.first_ns)?;
            wait(&self.peers, until.min(Duration::from_millis(50)))?;
            interrupt::check()?;
            let before = answered;
            for index in 0..self.peers.len() {
                while self.peers[index].receive(&mut self.frames)? {
                    self.answered(index, &mut asked)?;
                    answered += 1;
                }
            }
            if answered > before {
                progressed = Instant::now();
            } else if progressed.elapsed() >= self.patience {
                bail!("no answer for {} s: {answered} of {sent}", self.patience.as_secs_f64());
            }
        }
        Ok(asked)
    }

    /// Sends what is due; how long nothing else is.
    fn send_due(&mut self, load: Load<'_>, sent: &mut u64, first_ns: u64) -> anyhow::Result<Duration> {
        match load.pace {
            Pace::InFlight(most) => {
                for index in 0..self.peers.len() {
                    while self.open[index].len() < most as usize && *sent < load.requests {
                        if load.is_backlogged(*sent) {
                            return Ok(BACKLOG_INTERVAL);
                        }
                        self.send(index, load, *sent)?;
                        *sent += 1;
                    }
                }
                Ok(Duration::MAX)
            }
            Pace::Rate(rate) => loop {
                let due_ns = first_ns + *sent * 1_000_000_000 / u64::from(rate);
                if *sent >= load.requests {
                    return Ok(Duration::MAX);
                }
                if let Some(left_ns) = due_ns.checked_sub(monotonic_ns()).filter(|left_ns| *left_ns > 0) {
                    return Ok(Duration::from_nanos(left_ns).max(Duration::from_millis(1)));
                }
                let index = usize::try_from(*sent)? % self.peers.len();
                self.send(index, load, *sent)?;
                *sent += 1;
            },
        }
    }

    fn send(&mut self, index: usize, load: Load<'_>, number: u64) -> anyhow::Result<()> {
        let data = payload::data(number, load.payload_bytes);
        self.open[index].push_back(monotonic_ns());
        match load.command {
            Command::Trigger => {
                let payload = format!(r#"{{"{EVENT}":{data}}}"#);
                self.peers[index].send(&[b"TR", payload.as_bytes()])
            }
            Command::Broadcast(channel) => {
                self.peers[index].send(&[b"BC", channel.as_bytes(), EVENT.as_bytes(), data.as_bytes()])
            }
        }
    }

    fn answered(&mut self, index: usize, asked: &mut Asked) -> anyhow::Result<()> {
        let is_done = matches!(&*self.frames, [answer] if &**answer == b"OK");
        ensure!(is_done, "a request was answered with {:?}", self.frames);
        let sent_ns = self.open[index].pop_front().context("an answer that nobody asked for")?;
        asked.last_ns = monotonic_ns();
        asked.latency_ns.saturating_record(asked.last_ns.saturating_sub(sent_ns));
        Ok(())
    }
}
