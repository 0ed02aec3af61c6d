//! The texts of the NATS client protocol, and its messages in a stream that frames cut anywhere.
//!
//! A message is a line, and after a line `MSG <subject> <subscription> <bytes>` so many bytes and a line's end.
//! A subscription is not answered; since the server serves a client's requests in order, the `PONG` to a `PING`
//! behind it says as much.
//!
//! Source: the NATS client protocol; its carriage over WebSocket is that of nats-server, which puts what is pending
//! for a client, many messages at once, into one binary frame.

use anyhow::bail;

use crate::connection::ConnectionId;
use crate::excerpt::excerpt;
use crate::frames::PAYLOAD_BYTES_MAX;

/// A client's first request: requests are not answered. Its own messages are delivered to it too, as by default.
pub(super) const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
/// The number of a connection's only subscription.
pub(super) const SUBSCRIPTION: &str = "1";

const LINE_END: &[u8] = b"\r\n";
/// The longest line that is accepted; `INFO` has some hundred bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A message's payload with the line's end behind it; `None` if it is not a `MSG`.
pub(super) fn payload_and_end(message: &[u8]) -> Option<&[u8]> {
    if !message.starts_with(b"MSG ") {
        return None;
    }
    Some(&message[line_bytes(message)?..])
}

/// Whether `head` is the line before a payload of `payload_bytes` on `channel`.
pub(super) fn is_head(head: &[u8], channel: &str, payload_bytes: usize) -> bool {
    let rest = head.strip_prefix(b"MSG ").and_then(|rest| rest.strip_prefix(channel.as_bytes()));
    let rest = rest.and_then(|rest| rest.strip_prefix(b" "));
    let rest = rest.and_then(|rest| rest.strip_prefix(SUBSCRIPTION.as_bytes()));
    let number = rest.and_then(|rest| rest.strip_prefix(b" ")?.strip_suffix(LINE_END));
    number.and_then(decimal) == Some(payload_bytes)
}

/// The messages of all connections, put together again where a frame's end cut one.
#[derive(Default)]
pub(crate) struct Streams {
    /// The beginning of a message whose rest has not come yet, by [`ConnectionId`].
    kept: Vec<Vec<u8>>,
}

impl Streams {
    pub(crate) fn new(connections: u32) -> Self {
        Self { kept: vec![Vec::new(); connections as usize] }
    }

    /// Calls `each` with every message that `bytes`, which follow what `connection` received before, complete.
    ///
    /// # Errors
    /// The first of `each`; what is too long to be a message. The stream is of no use afterwards.
    pub(crate) fn feed(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let kept = &mut self.kept[connection.index()];
        if kept.is_empty() {
            let used = take_messages(bytes, &mut each)?;
            kept.extend_from_slice(&bytes[used..]);
        } else {
            kept.extend_from_slice(bytes);
            let used = take_messages(kept, &mut each)?;
            kept.drain(..used);
        }
        Ok(())
    }
}

/// Calls `each` with every complete message of `bytes`, and tells how many bytes they have.
fn take_messages(bytes: &[u8], each: &mut impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<usize> {
    let mut used = 0;
    while let Some(length) = message_bytes(&bytes[used..])? {
        each(&bytes[used..used + length])?;
        used += length;
    }
    Ok(used)
}

/// The length of the message that `bytes` begin with; `None` when it is not complete yet.
fn message_bytes(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(line) = line_bytes(bytes) else {
        if bytes.len() > LINE_BYTES_MAX {
            bail!("a line of more than {LINE_BYTES_MAX} bytes came: {}", excerpt(bytes));
        }
        return Ok(None);
    };
    if !bytes.starts_with(b"MSG ") {
        return Ok(Some(line));
    }
    let text = &bytes[..line - LINE_END.len()];
    let number = text.rsplit(|byte| *byte == b' ').next().and_then(decimal);
    match number {
        Some(payload) if payload as u64 <= PAYLOAD_BYTES_MAX => {
            let length = line + payload + LINE_END.len();
            Ok((length <= bytes.len()).then_some(length))
        }
        Some(_) | None => bail!("a message without an acceptable length came: {}", excerpt(text)),
    }
}

/// The length of the line that `bytes` begin with, its end included.
fn line_bytes(bytes: &[u8]) -> Option<usize> {
    let line = bytes.iter().position(|byte| *byte == b'\r')?;
    bytes[line..].starts_with(LINE_END).then_some(line + LINE_END.len())
}

fn decimal(digits: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTION: ConnectionId = ConnectionId(0);
    const STREAM: &[u8] =
        b"INFO {\"max_payload\":1}\r\nPING\r\nMSG a 1 5\r\nx\r\nyz\r\nMSG a 1 0\r\n\r\nPONG\r\n";

    /// What comes of `pieces`.
    fn messages(pieces: &[&[u8]]) -> anyhow::Result<Vec<Vec<u8>>> {
        let (mut streams, mut seen) = (Streams::new(1), Vec::new());
        for piece in pieces {
            streams.feed(CONNECTION, piece, |message| {
                seen.push(message.to_vec());
                Ok(())
            })?;
        }
        assert!(streams.kept[0].is_empty(), "nothing is left over");
        Ok(seen)
    }

    #[test]
    fn any_split_gives_the_same_messages() {
        let whole = messages(&[STREAM]).expect("valid");
        let expected: [&[u8]; 5] = [
            b"INFO {\"max_payload\":1}\r\n",
            b"PING\r\n",
            b"MSG a 1 5\r\nx\r\nyz\r\n",
            b"MSG a 1 0\r\n\r\n",
            b"PONG\r\n",
        ];
        assert_eq!(whole, expected, "a line's end within a payload ends nothing");
        for split in 0..=STREAM.len() {
            let pieces = [&STREAM[..split], &STREAM[split..]];
            assert_eq!(messages(&pieces).expect("valid"), whole, "split at {split}");
        }
        let single: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(messages(&single).expect("valid"), whole, "byte by byte");
    }

    #[test]
    fn connections_have_streams_of_their_own() {
        let mut streams = Streams::new(2);
        let mut seen = Vec::new();
        for (connection, bytes) in [(0, "PI"), (1, "PO"), (0, "NG\r\n"), (1, "NG\r\n")] {
            let feed = streams.feed(ConnectionId(connection), bytes.as_bytes(), |message| {
                seen.push((connection, message.to_vec()));
                Ok(())
            });
            feed.expect("valid");
        }
        assert_eq!(seen, [(0, b"PING\r\n".to_vec()), (1, b"PONG\r\n".to_vec())]);
    }

    #[test]
    fn what_cannot_be_a_message_is_refused() {
        for bytes in ["MSG a 1 x\r\n", "MSG a 1 +1\r\n", "MSG a 1 99999999999\r\n", "MSG \r\n"] {
            assert!(messages(&[bytes.as_bytes()]).is_err(), "{bytes:?}");
        }
        assert!(messages(&[&vec![b'a'; LINE_BYTES_MAX + 1]]).is_err(), "an endless line");
    }

    #[test]
    fn a_head_names_channel_subscription_and_length() {
        assert!(is_head(b"MSG load-0 1 128\r\n", "load-0", 128));
        for (head, channel, bytes) in [
            ("MSG load-0 1 128\r\n", "load-1", 128),
            ("MSG load-0 1 128\r\n", "load-0", 127),
            ("MSG load-0 2 128\r\n", "load-0", 128),
            ("MSG load-0 1 reply 128\r\n", "load-0", 128),
            ("MSG load-0 1 128", "load-0", 128),
        ] {
            assert!(!is_head(head.as_bytes(), channel, bytes), "{head:?} {channel} {bytes}");
        }
        assert_eq!(payload_and_end(b"MSG a 1 2\r\nhi\r\n"), Some(b"hi\r\n".as_slice()));
        assert_eq!(payload_and_end(b"PONG\r\n"), None);
    }
}
