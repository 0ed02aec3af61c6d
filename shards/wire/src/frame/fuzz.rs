//! What holds of any bytes of a client.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::*;

/// The longest messages that a decoder is told, of which an input chooses one.
const MESSAGE_BYTES_MAX: [usize; 4] = [16, 125, 300, 70_000];

/// Of `input`, the first byte chooses the longest message and says how many cuts follow, two bytes each. The rest is
/// what a client sends.
pub fn frame(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let Some((cuts, bytes)) = rest.split_at_checked(2 * usize::from(choice & 7)) else { return };
    let (cuts, _) = cuts.as_chunks();
    let cuts: Vec<usize> = cuts.iter().map(|cut| usize::from(u16::from_le_bytes(*cut))).collect();
    any_split_decodes_alike(bytes, &cuts, MESSAGE_BYTES_MAX[usize::from(choice >> 6)]);
}

/// Whole, cut into pieces and byte by byte, `bytes` mean the same. Their first header means what tungstenite says.
pub(crate) fn any_split_decodes_alike(bytes: &[u8], cuts: &[usize], max: usize) {
    assert_eq!(parse_head(bytes, None, usize::MAX, 0), read_by_tungstenite(bytes));
    let seen = decode([&mut bytes.to_vec()[..]], max);
    assert_eq!(decode(split(&mut bytes.to_vec(), cuts), max), seen, "cut at {cuts:?}");
    assert_eq!(decode(bytes.to_vec().chunks_mut(1), max), seen, "byte by byte");
}

/// What a decoder yields, without borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Error(CloseCode),
}

/// Decodes pieces one after the other, and sees that memory stays in its bounds.
pub(crate) fn decode<'a>(pieces: impl IntoIterator<Item = &'a mut [u8]>, max: usize) -> Vec<Seen> {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for mut input in pieces {
        loop {
            let received = decoder.next(&mut input, max);
            assert!(bytes_held(&decoder) <= 2 * max.max(8), "a vector at most doubles what it must hold");
            match received {
                Ok(Some(Received::Message(Message::Text(text)))) => {
                    assert!(text.len() <= max);
                    seen.push(Seen::Text(text.into_owned()));
                }
                Ok(Some(Received::Message(Message::Binary(bytes)))) => {
                    assert!(bytes.len() <= max);
                    seen.push(Seen::Binary(bytes.into_owned()));
                }
                Ok(Some(Received::Ping(payload))) => seen.push(Seen::Ping(payload.as_bytes().to_vec())),
                Ok(Some(Received::Pong)) => seen.push(Seen::Pong),
                Ok(Some(Received::Close(code))) => seen.push(Seen::Close(code)),
                Ok(None) => {
                    assert!(input.is_empty(), "all of the input is taken");
                    break;
                }
                Err(code) => {
                    seen.push(Seen::Error(code));
                    return seen;
                }
            }
        }
    }
    seen
}

/// For how many bytes of a message a decoder has memory.
fn bytes_held(decoder: &Decoder) -> usize {
    decoder.partial.as_ref().map_or(0, |partial| partial.bytes.capacity())
}

/// Cuts `bytes` at these places, which are taken modulo their number.
fn split<'a>(mut bytes: &'a mut [u8], cuts: &[usize]) -> Vec<&'a mut [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for cut in cuts {
        pieces.push(take(&mut bytes, cut - start));
        start = cut;
    }
    pieces.push(bytes);
    pieces
}

/// [`parse_head`] outside of any message, as tungstenite reads headers.
pub(super) fn read_by_tungstenite(bytes: &[u8]) -> Result<Option<Head>, CloseCode> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| CloseCode::ProtocolError)?;
    let Some((header, length)) = parsed else { return Ok(None) };
    let is_short = header.is_final && length <= 125;
    let kind = match header.opcode {
        OpCode::Data(Data::Text) => FrameKind::Start(MessageKind::Text),
        OpCode::Data(Data::Binary) => FrameKind::Start(MessageKind::Binary),
        OpCode::Control(Control::Ping) if is_short => FrameKind::Ping,
        OpCode::Control(Control::Pong) if is_short => FrameKind::Pong,
        OpCode::Control(Control::Close) if is_short => FrameKind::Close,
        OpCode::Data(_) | OpCode::Control(_) => return Err(CloseCode::ProtocolError),
    };
    let head_bytes = cursor.position() as usize;
    let is_reserved = header.rsv1 || header.rsv2 || header.rsv3 || length >> 63 == 1;
    match header.mask {
        Some(mask) if !is_reserved && header.len(length) == head_bytes => {
            let length = length as usize;
            Ok(Some(Head { bytes: head_bytes, kind, is_final: header.is_final, mask, length }))
        }
        Some(_) | None => Err(CloseCode::ProtocolError),
    }
}
