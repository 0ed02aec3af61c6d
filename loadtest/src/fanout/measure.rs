//! A stretch of broadcasting, measured.

use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

use super::scenario::{Amount, Fanout};
use crate::clock::monotonic_ns;
use crate::engine::Engine;
use crate::process::{ProcessId, ProcessorTime, processor_time, resident_bytes};
use crate::report::timeline::Timeline;

/// What a stretch has found.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) broadcasts: u64,
    pub(crate) deliveries: u64,
    /// From the first broadcast to the last delivery.
    pub(crate) took: Duration,
    /// Nanoseconds from a broadcast to having read a delivery of it.
    pub(crate) latency_ns: Histogram<u64>,
    pub(crate) timeline: Timeline,
    /// The length of a delivery, as the subscriber sees it.
    pub(crate) message_bytes: usize,
    /// Of the server's process, where it is known.
    pub(crate) server: Option<Cost>,
    /// Of this process.
    pub(crate) own_processor: ProcessorTime,
}

/// What a process cost while it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) processor: ProcessorTime,
    /// At the end.
    pub(crate) resident_bytes: u64,
}

impl Measured {
    /// Processor time of the server for a delivery, in nanoseconds.
    pub(crate) fn server_ns_per_delivery(&self) -> Option<f64> {
        Some(self.per_delivery(self.server?.processor))
    }

    /// `time` for a delivery, in nanoseconds.
    pub(crate) fn per_delivery(&self, time: ProcessorTime) -> f64 {
        time.total().as_nanos() as f64 / self.deliveries.max(1) as f64
    }
}

/// Opens all connections and lets them subscribe. Returns how long that took.
///
/// # Errors
/// An answer that is not due, no progress, a connection that fails.
pub(crate) fn subscribe(engine: &mut Engine, fanout: &mut Fanout) -> anyhow::Result<Duration> {
    let begun_ns = monotonic_ns();
    engine.open(fanout.plan().connections()?);
    engine.run(fanout).context("while the connections were opened and subscribed")?;
    Ok(Duration::from_nanos(monotonic_ns() - begun_ns))
}

/// Broadcasts until so much has been delivered to everybody.
///
/// # Errors
/// A violated guarantee, no progress, a connection that fails.
pub(crate) fn measure(
    engine: &mut Engine,
    fanout: &mut Fanout,
    server: Option<ProcessId>,
    amount: Amount,
) -> anyhow::Result<Measured> {
    let own_process = ProcessId(std::process::id());
    let server_before = server.map(processor_time).transpose()?;
    let own_before = processor_time(own_process)?;
    let begun_ns = monotonic_ns();
    fanout.begin(amount, server, begun_ns, engine.outbox());
    engine.run(fanout).context("while broadcasting")?;
    let own_processor = processor_time(own_process)?.since(own_before);
    let cost = match (server, server_before) {
        (Some(process), Some(before)) => Some(Cost {
            processor: processor_time(process)?.since(before),
            resident_bytes: resident_bytes(process)?,
        }),
        _ => None,
    };
    let stretch = fanout.end();
    let (timeline, latency_ns) = stretch.recorder.finish(monotonic_ns(), stretch.deliveries, "deliveries");
    Ok(Measured {
        broadcasts: stretch.broadcasts,
        deliveries: stretch.deliveries,
        took: Duration::from_nanos(stretch.last_delivery_ns.saturating_sub(begun_ns)),
        latency_ns,
        timeline,
        message_bytes: stretch.message_bytes,
        server: cost,
        own_processor,
    })
}
