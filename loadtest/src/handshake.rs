//! The opening handshake of a client: one request for all connections, and the check of the server's answer.

use anyhow::{Context, bail};
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::target::Target;

/// The longest answer that is accepted.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// The handshake with one target. All connections share one key: it guards against caches, and there are none here.
pub(crate) struct Handshake {
    request: Vec<u8>,
    accept: String,
}

impl Handshake {
    pub(crate) fn new(target: &Target) -> Self {
        let key = generate_key();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n",
            target.path(),
            target.authority(),
        );
        Self { request: request.into_bytes(), accept: derive_accept_key(key.as_bytes()) }
    }

    /// The bytes to send.
    pub(crate) fn request(&self) -> &[u8] {
        &self.request
    }

    /// Checks the answer that `bytes` begin with, and tells how long it is; `None` when it is not complete yet.
    ///
    /// # Errors
    /// The server refused, or its answer is no valid one.
    pub(crate) fn verify(&self, bytes: &[u8]) -> anyhow::Result<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head_bytes = match response.parse(bytes).context("its answer to the handshake is not HTTP")? {
            httparse::Status::Complete(head_bytes) => head_bytes,
            httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => {
                bail!("its answer to the handshake is longer than {HEAD_BYTES_MAX} bytes")
            }
            httparse::Status::Partial => return Ok(None),
        };
        let code = response.code.unwrap_or_default();
        if code != 101 {
            bail!("it answered the handshake with {code} {}", response.reason.unwrap_or_default());
        }
        let header = |name: &str| {
            response
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name))
                .and_then(|header| std::str::from_utf8(header.value).ok())
                .unwrap_or_default()
        };
        if !header("Upgrade").eq_ignore_ascii_case("websocket") {
            bail!("its answer to the handshake lacks Upgrade: websocket");
        }
        if header("Sec-WebSocket-Accept") != self.accept {
            bail!("its answer to the handshake lacks the Sec-WebSocket-Accept that the key asks for");
        }
        for unasked in ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"] {
            if !header(unasked).is_empty() {
                bail!("its answer to the handshake selects a {unasked} that was not offered");
            }
        }
        Ok(Some(head_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> Handshake {
        Handshake::new(&"ws://127.0.0.1:9772/demo".parse().expect("valid"))
    }

    fn answer(accept: &str) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: Upgrade\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        )
    }

    #[test]
    fn a_right_answer_is_accepted_at_any_split() {
        let handshake = handshake();
        let head = answer(&handshake.accept);
        let mut bytes = head.clone().into_bytes();
        bytes.extend_from_slice(b"\x81\x00");
        for length in 0..head.len() {
            assert_eq!(handshake.verify(&bytes[..length]).expect("no error yet"), None);
        }
        assert_eq!(handshake.verify(&bytes).expect("valid"), Some(head.len()));
    }

    #[test]
    fn wrong_answers_are_told() {
        let handshake = handshake();
        let error = |bytes: &str| handshake.verify(bytes.as_bytes()).expect_err("refused").to_string();
        assert!(error("HTTP/1.1 404 Not Found\r\n\r\n").contains("404 Not Found"));
        assert!(error(&answer("AAAA")).contains("Sec-WebSocket-Accept"));
        assert!(error("HTTP/1.1 101 Yes\r\n\r\n").contains("Upgrade"));
        assert!(error("garbage\r\n\r\n").contains("not HTTP"));
        let compressed = answer(&handshake.accept)
            .replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        assert!(error(&compressed).contains("was not offered"));
    }
}
