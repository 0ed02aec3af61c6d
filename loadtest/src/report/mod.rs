//! What a run has found, as text and pages for people and as JSON for programs. Numbers only; how they came about is
//! told in the scenarios' own help.

mod change;
pub(crate) mod compare;
mod comparison;
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

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use change::Change;
pub(crate) use figure::{Better, median};
pub(crate) use findings::Findings;
pub(crate) use numbers::{mib, number, per_second};
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
