//! What a run has found, as text and pages for people and as JSON for programs. Numbers only; how they came about is
//! told in the scenarios' own help.

pub(crate) mod compare;
mod findings;
mod html;
mod latency;
mod numbers;
mod output;
mod plot;
mod table;
mod text;
pub(crate) mod timeline;

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use findings::{Better, Findings, median};
pub(crate) use numbers::number;
pub(crate) use output::OutputOptions;
pub(crate) use table::Table;
pub(crate) use text::table;

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

/// A setting's value, as people write it.
fn setting_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
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
}
