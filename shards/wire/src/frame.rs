//! WebSocket framing of the server's side.
//!
//! [`Decoder`] takes bytes in any split and yields messages and control frames; a message that
//! lies whole in the input is unmasked in place and borrowed, so a connection between two frames
//! owns no buffer. Frames of the server are unmasked, so the bytes are the same for every peer:
//! [`encode`] writes them once.
//!
//! Strict: a frame of a client must be masked, lengths must be minimal, control frames short and
//! whole, reserved bits zero, text valid UTF-8 as early as it can be known.
//!
//! Source: RFC 6455, sections 5 to 8.

use std::{borrow::Cow, ops::Range};

use tungstenite::protocol::frame::coding::CloseCode as PeerCode;

use crate::status::CloseCode;

/// The longest payload of a control frame, in bytes.
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest header of a client's frame: 2 bytes, 8 of length, 4 of mask.
const HEADER_BYTES_MAX: usize = 14;

/// In a header's first byte: the last frame of its message.
const FINAL: u8 = 0x80;

/// In a header's second byte: the payload is masked.
const MASKED: u8 = 0x80;

/// In a header's second byte: the payload's length, or 126 or 127 where it follows in 2 or 8 bytes.
const LENGTH: u8 = 0x7f;

/// A whole message: borrowed where it lay whole in the input, owned where it was put together from
/// several frames or reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Any bytes.
    Binary(Cow<'a, [u8]>),
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A whole message.
    Message(Message<'a>),
    /// To be answered with a pong of the same payload.
    Ping(Control125),
    /// An answer to a ping, or a sign of life unasked.
    Pong,
    /// The peer closes; the code is to be echoed. `None`: it gave none.
    Close(Option<u16>),
}

/// The payload of a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control125 {
    bytes: [u8; CONTROL_BYTES_MAX],
    len: u8,
}

impl Control125 {
    fn new() -> Self {
        Self { bytes: [0; CONTROL_BYTES_MAX], len: 0 }
    }

    fn extend(&mut self, more: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + more.len()].copy_from_slice(more);
        self.len += u8::try_from(more.len()).expect("a control frame's length was checked");
    }

    /// The payload.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Turns a client's bytes into messages. Between two whole frames it holds nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Partial {
    head: [u8; HEADER_BYTES_MAX],
    head_len: usize,
    frame: Option<Frame>,
    control: Control125,
    /// The kind of the message that is being put together.
    message: Option<MessageKind>,
    bytes: Vec<u8>,
    /// So many of `bytes` are checked UTF-8.
    checked: usize,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    head: Head,
    arrived: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    bytes: usize,
    kind: FrameKind,
    is_final: bool,
    mask: [u8; 4],
    length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageKind {
    Text,
    Binary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Start(MessageKind),
    Continue,
    Ping,
    Pong,
    Close,
}

impl FrameKind {
    fn is_control(self) -> bool {
        match self {
            Self::Ping | Self::Pong | Self::Close => true,
            Self::Start(_) | Self::Continue => false,
        }
    }
}

impl Decoder {
    /// Takes bytes from the front of `input` until something is whole.
    ///
    /// `Ok(None)`: all of `input` is taken and nothing more is whole. Messages longer than
    /// `message_bytes_max` are refused by their header, before their bytes arrive.
    ///
    /// # Errors
    /// The code to close with. The decoder must not be used after that.
    pub fn next<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Received<'a>>, CloseCode> {
        if self.partial.is_none() {
            match parse_head(input, None, message_bytes_max, 0)? {
                None if input.is_empty() => return Ok(None),
                Some(head) if input.len() - head.bytes >= head.length && head.is_final => {
                    let frame = take(input, head.bytes + head.length);
                    let payload = &mut frame[head.bytes..];
                    unmask(payload, head.mask, 0);
                    return whole(head.kind, payload).map(Some);
                }
                None | Some(_) => self.partial = Some(Box::new(Partial::new())),
            }
        }
        let partial = self.partial.as_deref_mut().expect("just made");
        let received = partial.next(input, message_bytes_max)?;
        if partial.is_empty() {
            self.partial = None;
        }
        Ok(received)
    }

    /// Whether the decoder stands between two messages.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }
}

/// A whole final frame that lies in the input, outside of any fragmented message.
fn whole(kind: FrameKind, payload: &mut [u8]) -> Result<Received<'_>, CloseCode> {
    match kind {
        FrameKind::Start(MessageKind::Text) => {
            let text = simdutf8::basic::from_utf8(payload).map_err(|_| CloseCode::InvalidUtf8)?;
            Ok(Received::Message(Message::Text(text.into())))
        }
        FrameKind::Start(MessageKind::Binary) => Ok(Received::Message(Message::Binary((&*payload).into()))),
        FrameKind::Continue => Err(CloseCode::ProtocolError),
        FrameKind::Ping => {
            let mut control = Control125::new();
            control.extend(payload);
            Ok(Received::Ping(control))
        }
        FrameKind::Pong => Ok(Received::Pong),
        FrameKind::Close => close_code(payload).map(Received::Close),
    }
}

impl Partial {
    fn new() -> Self {
        Self {
            head: [0; HEADER_BYTES_MAX],
            head_len: 0,
            frame: None,
            control: Control125::new(),
            message: None,
            bytes: Vec::new(),
            checked: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    fn next<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Received<'a>>, CloseCode> {
        loop {
            let Some(mut frame) = self.frame.take() else {
                match self.next_head(input, message_bytes_max)? {
                    Some(head) => self.begin(head),
                    None => return Ok(None),
                }
                continue;
            };
            let piece = take(input, (frame.head.length - frame.arrived).min(input.len()));
            unmask(piece, frame.head.mask, frame.arrived);
            frame.arrived += piece.len();
            if frame.head.kind.is_control() {
                self.control.extend(piece);
            } else {
                self.bytes.extend_from_slice(piece);
                self.check_text()?;
            }
            if frame.arrived < frame.head.length {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(received) = self.end(frame.head)? {
                return Ok(Some(received));
            }
        }
    }

    /// Collects a header byte by byte until it is whole.
    fn next_head(
        &mut self,
        input: &mut &mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Head>, CloseCode> {
        while !input.is_empty() {
            self.head[self.head_len] = take(input, 1)[0];
            self.head_len += 1;
            let head =
                parse_head(&self.head[..self.head_len], self.message, message_bytes_max, self.bytes.len())?;
            if head.is_some() {
                self.head_len = 0;
                return Ok(head);
            }
        }
        Ok(None)
    }

    fn begin(&mut self, head: Head) {
        match head.kind {
            FrameKind::Start(kind) => self.message = Some(kind),
            FrameKind::Continue => {}
            FrameKind::Ping | FrameKind::Pong | FrameKind::Close => self.control = Control125::new(),
        }
        self.frame = Some(Frame { head, arrived: 0 });
    }

    fn end<'a>(&mut self, head: Head) -> Result<Option<Received<'a>>, CloseCode> {
        match head.kind {
            FrameKind::Ping => Ok(Some(Received::Ping(self.control))),
            FrameKind::Pong => Ok(Some(Received::Pong)),
            FrameKind::Close => close_code(self.control.as_bytes()).map(|code| Some(Received::Close(code))),
            FrameKind::Start(_) | FrameKind::Continue if !head.is_final => Ok(None),
            FrameKind::Start(_) | FrameKind::Continue => {
                self.checked = 0;
                let bytes = std::mem::take(&mut self.bytes);
                let message = match self.message.take().expect("a message is begun before it ends") {
                    MessageKind::Text => {
                        let text = String::from_utf8(bytes).map_err(|_| CloseCode::InvalidUtf8)?;
                        Message::Text(text.into())
                    }
                    MessageKind::Binary => Message::Binary(bytes.into()),
                };
                Ok(Some(Received::Message(message)))
            }
        }
    }

    /// Checks the new bytes of a text message; a character may be cut off at their end.
    fn check_text(&mut self) -> Result<(), CloseCode> {
        if self.message != Some(MessageKind::Text) {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(CloseCode::InvalidUtf8),
        }
        Ok(())
    }
}

/// Parses and checks the header of a client's frame; `None`: it is not whole yet.
///
/// `message` is what is being put together, of which `message_bytes` are there.
fn parse_head(
    bytes: &[u8],
    message: Option<MessageKind>,
    message_bytes_max: usize,
    message_bytes: usize,
) -> Result<Option<Head>, CloseCode> {
    let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let (length, is_minimal, rest) = match second & LENGTH {
        126 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from(u16::from_be_bytes(*length));
            (length, length >= 126, rest)
        }
        127 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(*length);
            (length, length > u64::from(u16::MAX) && length >> 63 == 0, rest)
        }
        length => (u64::from(length), true, rest),
    };
    if second & MASKED == 0 {
        return Err(CloseCode::ProtocolError);
    }
    let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let is_final = first & FINAL != 0;
    let kind = match first & !FINAL {
        0x0 => FrameKind::Continue,
        0x1 => FrameKind::Start(MessageKind::Text),
        0x2 => FrameKind::Start(MessageKind::Binary),
        0x8 => FrameKind::Close,
        0x9 => FrameKind::Ping,
        0xa => FrameKind::Pong,
        // A reserved opcode, or one with a reserved bit.
        _ => return Err(CloseCode::ProtocolError),
    };
    let is_in_order = match kind {
        FrameKind::Start(_) => message.is_none(),
        FrameKind::Continue => message.is_some(),
        FrameKind::Ping | FrameKind::Pong | FrameKind::Close => {
            is_final && length <= CONTROL_BYTES_MAX as u64
        }
    };
    if !is_in_order || !is_minimal {
        return Err(CloseCode::ProtocolError);
    }
    let room = message_bytes_max.saturating_sub(message_bytes);
    let length = match usize::try_from(length) {
        Ok(length) if kind.is_control() || length <= room => length,
        Ok(_) | Err(_) => return Err(CloseCode::TooBig),
    };
    Ok(Some(Head { bytes: bytes.len() - rest.len(), kind, is_final, mask, length }))
}

/// The code of a close frame's payload, checked.
fn close_code(payload: &[u8]) -> Result<Option<u16>, CloseCode> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(CloseCode::ProtocolError),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !PeerCode::from(code).is_allowed() {
        return Err(CloseCode::ProtocolError);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(CloseCode::InvalidUtf8);
    }
    Ok(Some(code))
}

/// Cuts the first `count` bytes off `input`.
fn take<'a>(input: &mut &'a mut [u8], count: usize) -> &'a mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(count);
    *input = rest;
    front
}

/// Unmasks `bytes`, which begin `offset` bytes into the payload.
fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut key = mask;
    key.rotate_left(offset % 4);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// The opcodes of the server's frames, FIN set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A whole text message.
    Text,
    /// A whole binary message.
    Binary,
    /// Close.
    Close,
    /// Ping.
    Ping,
    /// Pong.
    Pong,
}

/// Appends the header of an unmasked frame whose payload of `length` bytes the caller appends next.
pub fn encode_header(out: &mut Vec<u8>, opcode: Opcode, length: usize) {
    let first = FINAL
        | match opcode {
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        };
    match length {
        0..126 => out.extend_from_slice(&[first, length as u8]),
        126..0x1_0000 => {
            let [high, low] = (length as u16).to_be_bytes();
            out.extend_from_slice(&[first, 126, high, low]);
        }
        _ => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a whole unmasked frame.
pub fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    encode_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a frame whose payload is these pieces, one behind the other.
pub fn encode_pieces(out: &mut Vec<u8>, opcode: Opcode, pieces: &[&str]) {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    out.reserve(length + 10);
    encode_header(out, opcode, length);
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Appends a close frame with a code of the table.
pub fn encode_close(out: &mut Vec<u8>, code: CloseCode) {
    let reason = code.reason();
    encode_header(out, Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&code.code().to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends the echo of a peer's close frame.
pub fn encode_close_echo(out: &mut Vec<u8>, code: Option<u16>) {
    match code {
        Some(code) => encode(out, Opcode::Close, &code.to_be_bytes()),
        None => encode(out, Opcode::Close, &[]),
    }
}

/// The length of a server's frame from its first bytes: header and payload.
///
/// `frames` begins at a frame boundary and holds whole frames of [`encode`].
#[must_use]
pub fn encoded_length(frames: &[u8]) -> usize {
    match frames[1] & 0x7f {
        126 => 4 + usize::from(u16::from_be_bytes([frames[2], frames[3]])),
        127 => {
            let length = u64::from_be_bytes(frames[2..10].try_into().expect("8 bytes"));
            10 + usize::try_from(length).expect("a frame in memory")
        }
        short => 2 + usize::from(short),
    }
}

/// The frame that `position` lies in, within whole frames: its range. At a boundary: the frame
/// that begins there, or an empty range at the end.
#[must_use]
pub fn frame_around(frames: &[u8], position: usize) -> Range<usize> {
    let mut start = 0;
    while start < frames.len() {
        let end = start + encoded_length(&frames[start..]);
        if position < end {
            return start..end;
        }
        start = end;
    }
    start..start
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
pub(crate) mod tests;
