//! What a server logs: one JSON object a line.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    sync::mpsc::SyncSender,
};

use serde_json::Value;

/// How many of the last noteworthy lines are kept.
const LINES_MAX: usize = 20;

/// The line that says `ready`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ready {
    fields: Value,
}

impl Ready {
    /// Where a port listens: `websocket`, `control`, `exchange` or `streams`.
    #[must_use]
    pub fn address(&self, port: &str) -> Option<SocketAddr> {
        self.fields[port].as_str()?.parse().ok()
    }

    /// A number that it says of itself, as `shards`.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.fields[name].as_u64()
    }

    /// A text that it says of itself, as `io`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields[name].as_str()
    }
}

#[derive(Debug, PartialEq)]
enum Line {
    Ready(Ready),
    /// A warning, an error, or nothing of the log: a panic, for example.
    Noteworthy,
    Ordinary,
}

/// Reads a log to its end. Announces the first line that says `ready`; returns the last noteworthy ones.
pub(crate) fn drain(log: impl Read, announce: SyncSender<Ready>) -> VecDeque<String> {
    let mut announce = Some(announce);
    let mut lines = VecDeque::new();
    let mut reader = BufReader::new(log);
    let mut bytes = Vec::new();
    // A pipe that cannot be read is a closed one: either way there is no more to read.
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        match read(&text) {
            Line::Ready(ready) => {
                if let Some(announce) = announce.take() {
                    // Fails only when nobody waits any more.
                    let _ = announce.send(ready);
                }
            }
            Line::Noteworthy => {
                if lines.len() == LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(text);
            }
            Line::Ordinary => {}
        }
    }
    lines
}

fn read(line: &str) -> Line {
    let Ok(mut value) = serde_json::from_str::<Value>(line) else { return Line::Noteworthy };
    if value["fields"]["message"] == "ready" {
        return Line::Ready(Ready { fields: value["fields"].take() });
    }
    match value["level"].as_str() {
        Some("WARN" | "ERROR") => Line::Noteworthy,
        _ => Line::Ordinary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sorted_by_what_they_say() {
        let line = r#"{"timestamp":"…","level":"INFO","fields":{"message":"ready","websocket":"127.0.0.1:4711",
            "shards":3,"io":"epoll"},"target":"webrocket"}"#;
        let Line::Ready(ready) = read(line) else { panic!("it is ready") };
        assert_eq!(ready.address("websocket"), Some(SocketAddr::from(([127, 0, 0, 1], 4711))));
        assert_eq!((ready.address("control"), ready.number("shards")), (None, Some(3)));
        assert_eq!(ready.text("io"), Some("epoll"));
        assert_eq!(read(r#"{"level":"INFO","fields":{"message":"accepted"}}"#), Line::Ordinary);
        assert_eq!(read(r#"{"level":"WARN","fields":{"message":"slow"}}"#), Line::Noteworthy);
        assert_eq!(read("thread 'main' panicked"), Line::Noteworthy);
    }
}
