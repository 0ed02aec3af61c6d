//! WebSocket frames as a client sees them: decodes the server's, encodes and masks its own.
//!
//! Deliberately independent of the server's codec, so that a fault there cannot hide itself here. A server under test
//! sends every message as one unmasked frame and compresses nothing that was not negotiated; anything else is an
//! error and not worked around.
//!
//! Source: RFC 6455, section 5.

use thiserror::Error;

/// The longest payload that is accepted: 16 MiB.
pub(crate) const PAYLOAD_BYTES_MAX: u64 = 16 << 20;

/// A frame that a server under test may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Close { code: Option<u16>, reason: &'a [u8] },
    Ping(&'a [u8]),
    Pong,
}

/// Why bytes are not a frame that a server under test may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("a masked frame came from the server")]
    Masked,
    #[error("a frame came with reserved bits set though no extension was negotiated")]
    ReservedBits,
    #[error("a frame came with the unexpected opcode {0}")]
    UnexpectedOpcode(u8),
    #[error("a fragmented message came; the server sends each message as one frame")]
    Fragmented,
    #[error("a control frame came with a payload of {0} bytes, more than 125")]
    ControlTooLong(u64),
    #[error("a frame's length {0} is not written in its shortest form")]
    LengthNotShortest(u64),
    #[error("a frame announces {0} bytes, more than the {PAYLOAD_BYTES_MAX} that are accepted")]
    TooLong(u64),
    #[error("a close frame came with a payload of one byte")]
    CloseTooShort,
}

/// Decodes the frame that `bytes` begin with and tells how many bytes it takes; `None` when it is not complete yet.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(FrameError::ReservedBits);
    }
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let opcode = first & 0x0f;
    if first & 0x80 == 0 || opcode == 0 {
        return Err(FrameError::Fragmented);
    }
    let (length, length_bytes) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (u64::from_be_bytes(*length), 8),
            None => return Ok(None),
        },
        length => (u64::from(length), 0),
    };
    let shortest = match length {
        0..=125 => 0,
        126..=0xffff => 2,
        _ => 8,
    };
    if length_bytes != shortest {
        return Err(FrameError::LengthNotShortest(length));
    }
    if opcode >= 8 && length > 125 {
        return Err(FrameError::ControlTooLong(length));
    }
    if length > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let Some(payload) = rest.get(length_bytes..length_bytes + length as usize) else { return Ok(None) };
    let frame = match opcode {
        1 => Frame::Text(payload),
        2 => Frame::Binary(payload),
        8 => match payload {
            [] => Frame::Close { code: None, reason: &[] },
            [_] => return Err(FrameError::CloseTooShort),
            [high, low, reason @ ..] => {
                Frame::Close { code: Some(u16::from_be_bytes([*high, *low])), reason }
            }
        },
        9 => Frame::Ping(payload),
        10 => Frame::Pong,
        opcode => return Err(FrameError::UnexpectedOpcode(opcode)),
    };
    Ok(Some((frame, 2 + length_bytes + payload.len())))
}

/// The kinds of frames that the load test sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Pong = 10,
}

/// Appends one frame to `out`, masked with `mask`.
pub(crate) fn encode(out: &mut Vec<u8>, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    out.push(0x80 | opcode as u8);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..=125 => bytes.push(length as u8),
            length @ 126..=0xffff => {
                bytes.push(126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Decodes all of `pieces`, keeping the incomplete rest between them as the engine does.
    fn decode_pieces(pieces: &[&[u8]]) -> Vec<String> {
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        for piece in pieces {
            kept.extend_from_slice(piece);
            let mut used = 0;
            while let Some((frame, length)) = decode(&kept[used..]).expect("valid frames") {
                seen.push(format!("{frame:?}"));
                used += length;
            }
            kept.drain(..used);
        }
        assert!(kept.is_empty(), "nothing is left over");
        seen
    }

    #[test]
    fn any_split_decodes_alike() {
        let mut bytes = Vec::new();
        for length in [0, 1, 125, 126, 200] {
            bytes.extend(server_frame(1, &vec![b'x'; length]));
        }
        bytes.extend(server_frame(2, b"\xff\0"));
        bytes.extend(server_frame(9, b"are you there"));
        bytes.extend(server_frame(10, b""));
        bytes.extend(server_frame(8, b"\x0f\xa8slow consumer"));
        let whole = decode_pieces(&[&bytes]);
        assert_eq!(whole.len(), 9);
        for split in 0..=bytes.len() {
            assert_eq!(decode_pieces(&[&bytes[..split], &bytes[split..]]), whole, "split at {split}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode_pieces(&single), whole, "byte by byte");
    }

    #[test]
    fn long_payloads_decode() {
        for length in [0xffff, 0x1_0000, 0x2_0001] {
            let payload = vec![b'y'; length];
            let bytes = server_frame(1, &payload);
            assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(None));
            assert_eq!(decode(&bytes), Ok(Some((Frame::Text(&payload), bytes.len()))));
        }
    }

    #[test]
    fn a_close_carries_code_and_reason() {
        let bytes = server_frame(8, b"\x0f\xa8slow consumer");
        let close = Frame::Close { code: Some(4008), reason: b"slow consumer" };
        assert_eq!(decode(&bytes), Ok(Some((close, bytes.len()))));
        assert_eq!(decode(&server_frame(8, b"")), Ok(Some((Frame::Close { code: None, reason: b"" }, 2))));
        assert_eq!(decode(&server_frame(8, b"\x03")), Err(FrameError::CloseTooShort));
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        assert_eq!(decode(b"\x81\x80\0\0\0\0"), Err(FrameError::Masked));
        assert_eq!(decode(b"\xc1\x00"), Err(FrameError::ReservedBits));
        assert_eq!(decode(b"\x01\x00"), Err(FrameError::Fragmented));
        assert_eq!(decode(b"\x80\x00"), Err(FrameError::Fragmented));
        assert_eq!(decode(b"\x83\x00"), Err(FrameError::UnexpectedOpcode(3)));
        assert_eq!(decode(b"\x81\x7e\x00\x05"), Err(FrameError::LengthNotShortest(5)));
        assert_eq!(decode(b"\x81\x7f\0\0\0\0\0\0\x01\x00"), Err(FrameError::LengthNotShortest(256)));
        assert_eq!(decode(b"\x89\x7e\x00\x7e"), Err(FrameError::ControlTooLong(126)));
        assert_eq!(decode(b"\x81\x7f\xff\0\0\0\0\0\0\0"), Err(FrameError::TooLong(0xff << 56)));
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut state = 1_u32;
        for length in 0..2000 {
            let bytes: Vec<u8> = (0..length % 40)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn encoded_frames_are_read_by_another_implementation() {
        use tungstenite::protocol::{Message, Role, WebSocket};
        for length in [0, 5, 125, 126, 0xffff, 0x1_0000] {
            let text = "a".repeat(length);
            let mut bytes = Vec::new();
            encode(&mut bytes, Opcode::Text, [1, 2, 3, 4], text.as_bytes());
            let mut socket = WebSocket::from_raw_socket(std::io::Cursor::new(bytes), Role::Server, None);
            assert_eq!(socket.read().expect("a valid frame"), Message::text(text));
        }
    }
}
