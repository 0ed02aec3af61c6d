use proptest::prelude::*;

use super::{
    fuzz::{Seen, read_by_tungstenite},
    *,
};

const MAX: usize = 1 << 20;

fn decode(pieces: &[Vec<u8>], max: usize) -> Vec<Seen> {
    fuzz::decode(pieces.to_vec().iter_mut().map(Vec::as_mut_slice), max)
}

/// The payloads of a server's text frames.
pub(crate) fn texts(mut frames: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while !frames.is_empty() {
        assert_eq!(frames[0], 0x81);
        let length = encoded_length(frames);
        let header = if frames[1] < 126 { 2 } else { 4 };
        texts.push(String::from_utf8(frames[header..length].to_vec()).unwrap());
        frames = &frames[length..];
    }
    texts
}

fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        medium @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    frame
}

fn one(first: u8, payload: &[u8]) -> Vec<Seen> {
    decode(&[client_frame(first, payload)], MAX)
}

fn text(payload: &str) -> Seen {
    Seen::Text(payload.to_owned())
}

#[test]
fn whole_frames_of_every_kind() {
    assert_eq!(one(0x81, b"hello"), [text("hello")]);
    assert_eq!(one(0x82, b"\xff"), [Seen::Binary(vec![0xff])]);
    assert_eq!(one(0x89, b"p"), [Seen::Ping(b"p".to_vec())]);
    assert_eq!(one(0x8a, b"p"), [Seen::Pong]);
    assert_eq!(one(0x88, b""), [Seen::Close(None)]);
    assert_eq!(one(0x88, b"\x03\xe8bye"), [Seen::Close(Some(1000))]);
    for length in [125, 126, 127, 65535, 65536, 70000] {
        assert_eq!(one(0x81, &vec![b'x'; length]), [text(&"x".repeat(length))]);
    }
}

#[test]
fn a_whole_frame_leaves_no_buffer() {
    let mut decoder = Decoder::default();
    let mut bytes = client_frame(0x81, b"hello");
    let mut input = &mut bytes[..];
    assert!(matches!(
        decoder.next(&mut input, MAX),
        Ok(Some(Received::Message(Message::Text(Cow::Borrowed("hello")))))
    ));
    assert!(decoder.is_idle());
}

#[test]
fn fragments_with_a_ping_between() {
    let pieces =
        [client_frame(0x01, "hé".as_bytes()), client_frame(0x89, b"?"), client_frame(0x80, "llo".as_bytes())];
    assert_eq!(decode(&pieces, MAX), [Seen::Ping(b"?".to_vec()), text("héllo")]);
}

#[test]
fn broken_rules_close_with_1002() {
    let broken: [Vec<u8>; 11] = [
        vec![0x81, 0x00],
        client_frame(0xc1, b"rsv1"),
        client_frame(0xa1, b"rsv2"),
        client_frame(0x91, b"rsv3"),
        client_frame(0x83, b"reserved"),
        client_frame(0x8b, b"reserved"),
        client_frame(0x09, b"fragmented ping"),
        client_frame(0x89, &[0; 126]),
        client_frame(0x80, b"nothing to continue"),
        [client_frame(0x01, b"a"), client_frame(0x81, b"b")].concat(),
        vec![0x81, 0x80 | 126, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for bytes in broken {
        assert_eq!(
            decode(std::slice::from_ref(&bytes), MAX),
            [Seen::Error(CloseCode::ProtocolError)],
            "{bytes:?}"
        );
    }
    for payload in [&b"\x03"[..], b"\x03\xed", b"\x00\x00", b"\x03\xf7", b"\xff\xff"] {
        assert_eq!(one(0x88, payload), [Seen::Error(CloseCode::ProtocolError)], "{payload:?}");
    }
    assert_eq!(one(0x88, b"\x03\xe8\xff"), [Seen::Error(CloseCode::InvalidUtf8)]);
}

#[test]
fn invalid_text_is_noticed_at_the_first_wrong_byte() {
    assert_eq!(one(0x81, b"\xce\xba\xff"), [Seen::Error(CloseCode::InvalidUtf8)]);
    // The frame is not whole, yet the byte cannot become valid any more.
    let mut cut = client_frame(0x01, b"ok \xf4\x90 and more");
    cut.truncate(6 + 5);
    assert_eq!(decode(&[cut], MAX), [Seen::Error(CloseCode::InvalidUtf8)]);
    // A character that is cut off by the end of the message.
    assert_eq!(
        decode(&[client_frame(0x01, b"a\xc3"), client_frame(0x80, b"")], MAX),
        [Seen::Error(CloseCode::InvalidUtf8)]
    );
}

#[test]
fn too_long_is_known_from_the_header() {
    let head_only = vec![0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 1, 2, 3, 4];
    assert_eq!(decode(&[head_only], MAX), [Seen::Error(CloseCode::TooBig)]);
    let pieces = [client_frame(0x01, &[b'a'; 60]), client_frame(0x80, &[b'a'; 41])];
    assert_eq!(decode(&pieces, 100), [Seen::Error(CloseCode::TooBig)]);
    assert_eq!(decode(&pieces, 101).len(), 1);
}

#[test]
fn server_frames_and_their_lengths() {
    let mut frames = Vec::new();
    for length in [0, 125, 126, 65535, 65536] {
        encode(&mut frames, Opcode::Text, &vec![b'x'; length]);
    }
    let mut start = 0;
    for length in [2, 127, 130, 65539, 65546] {
        assert_eq!(encoded_length(&frames[start..]), length);
        assert_eq!(frame_around(&frames, start), start..start + length);
        assert_eq!(frame_around(&frames, start + length - 1), start..start + length);
        start += length;
    }
    assert_eq!(frame_around(&frames, start), start..start);
}

fn frame_strategy() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => Just(0x81u8), 2 => Just(0x82), 3 => Just(0x01), 3 => Just(0x80), 2 => Just(0x00),
        1 => Just(0x89), 1 => Just(0x8a), 1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        6 => "\\PC{0,60}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => proptest::collection::vec(Just(b'y'), 120..300),
    ];
    (first, payload).prop_map(|(first, payload)| client_frame(first, &payload))
}

proptest! {
    #[test]
    fn headers_mean_what_tungstenite_says(
        first in prop_oneof![any::<u8>(), Just(0x01), Just(0x81)],
        second in prop_oneof![any::<u8>(), 0xfcu8..],
        zeros in 0usize..8,
        rest in proptest::collection::vec(any::<u8>(), 0..14),
    ) {
        let bytes = [vec![first, second], vec![0; zeros], rest].concat();
        prop_assert_eq!(parse_head(&bytes, None, usize::MAX, 0), read_by_tungstenite(&bytes));
    }

    #[test]
    fn any_split_decodes_alike(
        frames in proptest::collection::vec(frame_strategy(), 1..8),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        fuzz::any_split_decodes_alike(&frames.concat(), &cuts, 256);
    }

    #[test]
    fn arbitrary_bytes_decode_alike(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cuts in proptest::collection::vec(any::<usize>(), 0..4),
    ) {
        fuzz::any_split_decodes_alike(&bytes, &cuts, 100);
    }
}
