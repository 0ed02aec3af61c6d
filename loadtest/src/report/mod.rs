//! What a run has found, as text and pages for people and as JSON for programs. Numbers only; how they came about is
//! told in the scenarios' own help.

mod change;
pub(crate) mod compare;
mod figure;
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
use serde_json::Value;

pub(crate) use change::Change;
pub(crate) use figure::{Better, median};
pub(crate) use findings::Findings;
pub(crate) use numbers::number;
pub(crate) use output::OutputOptions;
pub(crate) use table::Table;

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
}

const INFALLIBLE: &str = "writing into a String succeeds";

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
}
