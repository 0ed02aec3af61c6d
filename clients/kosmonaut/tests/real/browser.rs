//! A browser's session in WWFP.

use std::{
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};
use webrocket_launcher::PATIENCE;

/// A session of `ann`.
pub(crate) struct Browser {
    socket: WebSocket<TcpStream>,
    pub(crate) sid: String,
}

impl Browser {
    pub(crate) fn connect(address: SocketAddr, vhost: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://{address}{vhost}?protocol=wwfp");
        let (socket, _) = tungstenite::client(url, stream).unwrap();
        let mut browser = Self { socket, sid: String::new() };
        browser.sid = browser.hear()[":connected"]["sid"].as_str().unwrap().to_owned();
        assert_eq!(browser.ask(&json!({"auth": {"user": "ann"}})), json!({":authenticated": {}}));
        browser
    }

    pub(crate) fn hear(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.socket.send(Message::text(request.to_string())).unwrap();
        self.hear()
    }

    pub(crate) fn subscribe(&mut self, channel: &str) {
        let answer = self.ask(&json!({"subscribe": {"channel": channel}}));
        assert_eq!(answer[":subscribed"]["channel"], channel);
    }

    /// Whether a worker was found.
    pub(crate) fn trigger(&mut self, event: &str, data: &Value) -> bool {
        let answer = self.ask(&json!({"trigger": {"event": event, "data": data, "ref": 1}}));
        if answer[":error"]["code"] == 503 {
            return false;
        }
        assert_eq!(answer, json!({":ok": {"code": 205, "status": "Triggered", "ref": 1}}));
        true
    }

    pub(crate) fn trigger_until_placed(&mut self, event: &str, data: &Value) {
        let begun = Instant::now();
        while !self.trigger(event, data) {
            assert!(begun.elapsed() < PATIENCE, "nobody takes {event}");
        }
    }

    /// Triggers `job` with each of these numbers; each must find a worker.
    pub(crate) fn place(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            assert!(self.trigger("job", &json!({"n": number})));
        }
    }
}
