//! What a run has found, as text and pages for people and as JSON for programs. Numbers only; how they came about is
//! told in the scenarios' own help.

mod findings;
mod html;
mod latency;
mod output;
mod text;
pub(crate) mod timeline;

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use findings::{Better, Findings, median};
pub(crate) use output::OutputOptions;
pub(crate) use text::table;

use crate::process::ProcessorTime;
use crate::server::Subject;

/// Which server was tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    pub(crate) url: String,
    pub(crate) shards: Option<u64>,
    pub(crate) io: Option<String>,
}

impl ServerReport {
    /// The server under test.
    pub(crate) fn of(subject: &Subject) -> Self {
        Self {
            url: subject.target().to_string(),
            shards: subject.shards(),
            io: subject.io().map(str::to_owned),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = self.url.clone();
        if let Some(shards) = self.shards {
            write!(text, ", {shards} shard{}", if shards == 1 { "" } else { "s" }).expect(INFALLIBLE);
        }
        if let Some(io) = &self.io {
            write!(text, ", {io}").expect(INFALLIBLE);
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "url": self.url, "shards": self.shards, "io": self.io })
    }
}

const INFALLIBLE: &str = "writing into a String succeeds";

/// What a process cost while it was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) processor: ProcessorTime,
    pub(crate) resident_bytes: u64,
}

/// The findings of `fanout`.
pub(crate) struct FanoutReport {
    pub(crate) server: ServerReport,
    pub(crate) connections: u32,
    pub(crate) channels: u32,
    pub(crate) publishers: u32,
    pub(crate) in_flight: u32,
    pub(crate) payload_bytes: usize,
    /// The length of the last delivery, as the subscriber sees it.
    pub(crate) message_bytes: usize,
    pub(crate) opening: Duration,
    pub(crate) broadcasts: u64,
    pub(crate) deliveries: u64,
    pub(crate) delivering: Duration,
    /// Nanoseconds from sending a broadcast to having read a delivery of it.
    pub(crate) latency_ns: Histogram<u64>,
    pub(crate) server_cost: Option<Cost>,
    pub(crate) own_processor: ProcessorTime,
}

impl FanoutReport {
    pub(crate) fn render(&self, as_json: bool) -> String {
        if as_json { self.json().to_string() } else { self.text() }
    }

    fn deliveries_per_second(&self) -> f64 {
        per_second(self.deliveries, self.delivering)
    }

    fn processor_ns_per_delivery(&self, time: Duration) -> f64 {
        time.as_nanos() as f64 / self.deliveries.max(1) as f64
    }

    fn text(&self) -> String {
        let latency =
            |quantile| format!("{:.3} ms", self.latency_ns.value_at_quantile(quantile) as f64 / 1e6);
        let processor = |time: ProcessorTime| {
            format!(
                "{:.0} ns per delivery ({:.2} s user, {:.2} s system)",
                self.processor_ns_per_delivery(time.total()),
                time.user.as_secs_f64(),
                time.system.as_secs_f64(),
            )
        };
        let mut rows = vec![
            ("server", self.server.text()),
            (
                "opened",
                format!(
                    "{} connections, subscribed to {} channels, in {:.2} s ({:.0}/s)",
                    self.connections,
                    self.channels,
                    self.opening.as_secs_f64(),
                    per_second(u64::from(self.connections), self.opening),
                ),
            ),
            (
                "broadcast",
                format!(
                    "{} broadcasts of {} bytes ({} as delivered) by {} publishers, at most {} in flight",
                    self.broadcasts, self.payload_bytes, self.message_bytes, self.publishers, self.in_flight,
                ),
            ),
            (
                "delivered",
                format!(
                    "{} in {:.3} s ({:.0}/s)",
                    self.deliveries,
                    self.delivering.as_secs_f64(),
                    self.deliveries_per_second(),
                ),
            ),
            (
                "verified",
                "one order on all connections, each sender's own order, no loss, no double".to_owned(),
            ),
            ("latency", format!("p50 {}, p99 {}, max {}", latency(0.5), latency(0.99), latency(1.0))),
        ];
        if let Some(cost) = self.server_cost {
            rows.push(("server CPU", processor(cost.processor)));
            rows.push(("server RSS", format!("{:.1} MiB", mib(cost.resident_bytes))));
        }
        rows.push(("own CPU", processor(self.own_processor)));
        table(&rows)
    }

    fn json(&self) -> Value {
        let quantile_ns = |quantile| self.latency_ns.value_at_quantile(quantile);
        let processor = |time: ProcessorTime| {
            json!({
                "user_s": time.user.as_secs_f64(),
                "system_s": time.system.as_secs_f64(),
                "ns_per_delivery": self.processor_ns_per_delivery(time.total()),
            })
        };
        json!({
            "scenario": "fanout",
            "server": self.server.json(),
            "connections": self.connections,
            "channels": self.channels,
            "publishers": self.publishers,
            "in_flight": self.in_flight,
            "payload_bytes": self.payload_bytes,
            "message_bytes": self.message_bytes,
            "opening_s": self.opening.as_secs_f64(),
            "opened_per_s": per_second(u64::from(self.connections), self.opening),
            "broadcasts": self.broadcasts,
            "deliveries": self.deliveries,
            "delivering_s": self.delivering.as_secs_f64(),
            "deliveries_per_s": self.deliveries_per_second(),
            "latency_ns": {
                "p50": quantile_ns(0.5),
                "p90": quantile_ns(0.9),
                "p99": quantile_ns(0.99),
                "p999": quantile_ns(0.999),
                "max": self.latency_ns.max(),
            },
            "server_cpu": self.server_cost.map(|cost| processor(cost.processor)),
            "server_rss_bytes": self.server_cost.map(|cost| cost.resident_bytes),
            "own_cpu": processor(self.own_processor),
        })
    }
}

/// The server's resident memory at the points where `idle` looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// After the warm-up.
    pub(crate) before_bytes: u64,
    /// With the bare connections.
    pub(crate) connected_bytes: u64,
    /// With all connections.
    pub(crate) after_bytes: u64,
}

/// The findings of `idle`.
pub(crate) struct IdleReport {
    pub(crate) server: ServerReport,
    pub(crate) warm_up: u32,
    /// Connections that only connected.
    pub(crate) connect_only: u32,
    pub(crate) connecting: Duration,
    /// Connections that subscribed.
    pub(crate) subscribed: u32,
    pub(crate) subscribing: Duration,
    pub(crate) channels: u32,
    pub(crate) memory: Option<Memory>,
}

impl IdleReport {
    pub(crate) fn render(&self, as_json: bool) -> String {
        if as_json { self.json().to_string() } else { self.text() }
    }

    /// What one connection that only connected weighs.
    fn bytes_per_bare_connection(&self) -> Option<f64> {
        let memory = self.memory.filter(|_| self.connect_only > 0)?;
        Some((memory.connected_bytes as f64 - memory.before_bytes as f64) / f64::from(self.connect_only))
    }

    /// What one connection that subscribed weighs.
    fn bytes_per_subscribed_connection(&self) -> Option<f64> {
        let memory = self.memory?;
        Some((memory.after_bytes as f64 - memory.connected_bytes as f64) / f64::from(self.subscribed.max(1)))
    }

    fn text(&self) -> String {
        let opened = |verb: &str, count: u32, time: Duration| {
            let rate = per_second(u64::from(count), time);
            format!("{count} connections {verb} in {:.2} s ({rate:.0}/s)", time.as_secs_f64())
        };
        let mut rows = vec![("server", self.server.text())];
        if self.connect_only > 0 {
            rows.push(("connected", opened("without subscribing", self.connect_only, self.connecting)));
        }
        let verb = format!("with one of {} channels each", self.channels);
        rows.push(("subscribed", opened(&verb, self.subscribed, self.subscribing)));
        if let Some(memory) = self.memory {
            let warm =
                format!("{:.2} MiB (after {} warm-up connections)", mib(memory.before_bytes), self.warm_up);
            rows.push(("RSS before", warm));
            if self.connect_only > 0 {
                rows.push(("RSS between", format!("{:.2} MiB", mib(memory.connected_bytes))));
            }
            rows.push(("RSS after", format!("{:.2} MiB", mib(memory.after_bytes))));
            let growth = mib(memory.after_bytes) - mib(memory.before_bytes);
            rows.push(("growth", format!("{growth:.2} MiB")));
        }
        if let Some(bytes) = self.bytes_per_bare_connection() {
            rows.push(("weight", format!("{bytes:.0} bytes per idle connection without subscription")));
        }
        if let Some(bytes) = self.bytes_per_subscribed_connection() {
            rows.push(("weight", format!("{bytes:.0} bytes per idle subscribed connection")));
        }
        table(&rows)
    }

    fn json(&self) -> Value {
        json!({
            "scenario": "idle",
            "server": self.server.json(),
            "warm_up": self.warm_up,
            "channels": self.channels,
            "connect_only": self.connect_only,
            "connected_per_s": per_second(u64::from(self.connect_only), self.connecting),
            "subscribed": self.subscribed,
            "subscribed_per_s": per_second(u64::from(self.subscribed), self.subscribing),
            "rss_before_bytes": self.memory.map(|memory| memory.before_bytes),
            "rss_connected_bytes": self.memory.map(|memory| memory.connected_bytes),
            "rss_after_bytes": self.memory.map(|memory| memory.after_bytes),
            "bytes_per_bare_connection": self.bytes_per_bare_connection(),
            "bytes_per_subscribed_connection": self.bytes_per_subscribed_connection(),
        })
    }
}

/// A rate; 0 where nothing was done or no time passed.
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Some server.
    pub(crate) fn server() -> ServerReport {
        ServerReport {
            url: "ws://127.0.0.1:1/demo".to_owned(),
            shards: Some(2),
            io: Some("epoll".to_owned()),
        }
    }

    #[test]
    fn idle_weighs_bare_and_subscribed_connections_apart() {
        let report = IdleReport {
            server: server(),
            warm_up: 100,
            connect_only: 100,
            connecting: Duration::from_secs(1),
            subscribed: 400,
            subscribing: Duration::from_secs(2),
            channels: 10,
            memory: Some(Memory { before_bytes: 1000, connected_bytes: 51_000, after_bytes: 451_000 }),
        };
        let json = report.json();
        assert_eq!(json["bytes_per_bare_connection"], 500.0);
        assert_eq!(json["bytes_per_subscribed_connection"], 1000.0);
        assert_eq!(json["subscribed_per_s"], 200.0);
        assert!(report.text().contains("1000 bytes per idle subscribed connection"));
    }

    #[test]
    fn fanout_tells_cost_per_delivery() {
        let mut latency_ns = Histogram::new(3).expect("valid precision");
        latency_ns.record(2_000_000).expect("in range");
        let report = FanoutReport {
            server: server(),
            connections: 10,
            channels: 1,
            publishers: 1,
            in_flight: 1,
            payload_bytes: 128,
            message_bytes: 200,
            opening: Duration::from_secs(1),
            broadcasts: 100,
            deliveries: 1000,
            delivering: Duration::from_millis(500),
            latency_ns,
            server_cost: Some(Cost {
                processor: ProcessorTime {
                    user: Duration::from_micros(300),
                    system: Duration::from_micros(700),
                    total: Duration::from_millis(1),
                },
                resident_bytes: 2 << 20,
            }),
            own_processor: ProcessorTime::default(),
        };
        let json = report.json();
        assert_eq!(json["server_cpu"]["ns_per_delivery"], 1000.0);
        assert_eq!(json["deliveries_per_s"], 2000.0);
        let text = report.text();
        assert!(text.contains("1000 ns per delivery"), "{text}");
        assert!(text.contains("p50 2.0"), "{text}");
        assert!(text.contains("ws://127.0.0.1:1/demo, 2 shards, epoll"), "{text}");
    }
}
