//! The bare dialect as a server speaks it: the handshake, frames, and who subscribes to what.
//!
//! Knows connections by number only. Neither receives nor sends: what is to be sent goes to an [`Output`].
//!
//! Source: RFC 6455, sections 4.2.2 and 5; the bare protocol is in [`dialect`](crate::dialect).

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{Context, bail, ensure};
use tungstenite::handshake::derive_accept_key;

/// How long a handshake or a message with its head may be.
pub(super) const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// How much may wait for a connection to take it; one that is farther behind is ended.
pub(super) const UNSENT_BYTES_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 32;

/// Where to send.
pub(super) trait Output {
    /// Sends `bytes` to each of `connections`, behind what they were sent before. One that fails is found out by
    /// receiving.
    fn send(&mut self, connections: &[u32], bytes: &[u8]);
}

/// All connections and channels.
#[derive(Default)]
pub(super) struct Protocol {
    peers: Vec<Peer>,
    /// The numbers of channels by name, and their subscribers.
    numbers: HashMap<Vec<u8>, u32>,
    channels: Vec<Vec<u32>>,
    frame: Vec<u8>,
}

#[derive(Clone, Default)]
struct Peer {
    is_open: bool,
    /// The channel's number, and where in its list the connection stands.
    subscription: Option<(u32, u32)>,
}

impl Protocol {
    /// `connection` has been accepted.
    pub(super) fn accepted(&mut self, connection: u32) {
        let index = connection as usize;
        if self.peers.len() <= index {
            self.peers.resize(index + 1, Peer::default());
        }
        self.peers[index] = Peer::default();
    }

    /// `connection` is gone: it is sent nothing any more.
    pub(super) fn removed(&mut self, connection: u32) {
        let Some((channel, at)) = self.peers[connection as usize].subscription.take() else { return };
        let list = &mut self.channels[channel as usize];
        list.swap_remove(at as usize);
        if let Some(moved) = list.get(at as usize) {
            self.peers[*moved as usize].subscription = Some((channel, at));
        }
    }

    /// Acts upon what `connection` has sent. Returns how many of the bytes that was; the rest is to come again, with
    /// more behind it.
    ///
    /// # Errors
    /// The connection is to be ended: it wants that itself, or does not speak the dialect.
    pub(super) fn take(
        &mut self,
        connection: u32,
        bytes: &mut [u8],
        output: &mut impl Output,
    ) -> anyhow::Result<usize> {
        let mut taken = 0;
        if !self.peers[connection as usize].is_open {
            taken = self.open(connection, bytes, output)?;
        }
        if self.peers[connection as usize].is_open {
            while let Some((payload, used)) = unmask(&mut bytes[taken..])? {
                self.message(connection, &bytes[taken..][payload], output)?;
                taken += used;
            }
        }
        ensure!(bytes.len() - taken < MESSAGE_BYTES_MAX, "a message is too long");
        Ok(taken)
    }

    /// Answers the handshake that `bytes` begin with. Returns its length, 0 until it is complete.
    fn open(&mut self, connection: u32, bytes: &[u8], output: &mut impl Output) -> anyhow::Result<usize> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(length) = request.parse(bytes)? else { return Ok(0) };
        let key = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Key"));
        let accept = derive_accept_key(key.context("no upgrade")?.value);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.peers[connection as usize].is_open = true;
        output.send(&[connection], answer.as_bytes());
        Ok(length)
    }

    fn message(&mut self, connection: u32, message: &[u8], output: &mut impl Output) -> anyhow::Result<()> {
        match message.split_first() {
            Some((b'S', channel)) => self.subscribe(connection, channel, output),
            Some((b'P', rest)) => {
                let Some(space) = rest.iter().position(|byte| *byte == b' ') else { bail!("no data") };
                self.publish(&rest[..space], &rest[space + 1..], output);
            }
            // A close frame ends the connection, anything else is none of the dialect.
            _ => bail!("the end"),
        }
        Ok(())
    }

    fn subscribe(&mut self, connection: u32, channel: &[u8], output: &mut impl Output) {
        let number = match self.numbers.get(channel) {
            Some(number) => *number,
            None => {
                self.numbers.insert(channel.to_vec(), self.channels.len() as u32);
                self.channels.push(Vec::new());
                self.channels.len() as u32 - 1
            }
        };
        let list = &mut self.channels[number as usize];
        let peer = &mut self.peers[connection as usize];
        if peer.subscription.is_none() {
            peer.subscription = Some((number, list.len() as u32));
            list.push(connection);
        }
        frame(&mut self.frame, &[b"subscribed ", channel]);
        output.send(&[connection], &self.frame);
    }

    fn publish(&mut self, channel: &[u8], data: &[u8], output: &mut impl Output) {
        let Some(number) = self.numbers.get(channel) else { return };
        frame(&mut self.frame, &[data]);
        output.send(&self.channels[*number as usize], &self.frame);
    }
}

/// Encodes one unmasked text frame in place of what `out` holds.
fn frame(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    out.clear();
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    out.push(0x81);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

/// Unmasks the frame that `bytes` begin with, in place. Returns where its payload stands, and its length in all;
/// `None` when it is not complete yet.
fn unmask(bytes: &mut [u8]) -> anyhow::Result<Option<(Range<usize>, usize)>> {
    let [_, second, rest @ ..] = &*bytes else { return Ok(None) };
    if second & 0x80 == 0 {
        bail!("a client's frame is masked");
    }
    let (length, mask) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (usize::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (usize::try_from(u64::from_be_bytes(*length))?, 10),
            None => return Ok(None),
        },
        length => (usize::from(length), 2),
    };
    let Some(end) = length.checked_add(mask + 4).filter(|end| *end <= MESSAGE_BYTES_MAX) else {
        bail!("a frame is too long");
    };
    let Some(whole) = bytes.get_mut(..end) else { return Ok(None) };
    let (head, payload) = whole.split_at_mut(mask + 4);
    let key = &head[mask..];
    payload.iter_mut().enumerate().for_each(|(index, byte)| *byte ^= key[index % 4]);
    Ok(Some((mask + 4..end, end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{self, Frame, Opcode};

    #[test]
    fn frames_are_read_by_the_load_test_and_back() {
        for length in [0, 5, 125, 126, 0xffff, 0x1_0000] {
            let payload = vec![b'x'; length];
            let mut bytes = Vec::new();
            frame(&mut bytes, &[&payload]);
            assert_eq!(frames::decode(&bytes), Ok(Some((Frame::Text(&payload), bytes.len()))));

            bytes.clear();
            frames::encode(&mut bytes, Opcode::Text, [1, 2, 3, 4], &payload);
            assert_eq!(unmask(&mut bytes[..1]).expect("valid"), None);
            let end = bytes.len();
            let (range, used) = unmask(&mut bytes).expect("valid").expect("complete");
            assert_eq!((&bytes[range], used), (&payload[..], end));
        }
    }

    #[test]
    fn what_is_no_clients_frame_is_refused() {
        assert!(unmask(&mut [0x81, 0x01, b'x']).is_err(), "not masked");
        let mut long = [0x81, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0];
        assert!(unmask(&mut long).is_err());
    }
}
