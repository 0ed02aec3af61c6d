//! Bytes to messages, messages to frames, and what is between.

use std::hint::black_box;

use uuid::Uuid;
use webrocket_wire::{
    ChannelName, Publication,
    frame::{self, Decoder, Message, Opcode, Received},
    message::{ClientMessage, Fields, Payload},
};

use super::case::{Case, Subject};
use crate::crowd::{broadcast, masked};

const OPERATIONS: u64 = 1_000;
const MESSAGE_BYTES_MAX: usize = 65_536;

/// Data as the load test sends it.
const LOAD_DATA: &str = concat!(
    r#"{"publisher":0,"number":12345,"sent_ns":123456789012345,"#,
    r#""padding":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#
);

pub(super) const CASES: &[Case] = &[
    case("framing", "decode 66 B", || decode(masked(&"x".repeat(60)))),
    case("framing", "decode 256 B", || decode(masked(&"x".repeat(248)))),
    case("framing", "decode 4 KiB", || decode(masked(&"x".repeat(4088)))),
    case("framing", "encode 66 B", || encode(64)),
    case("framing", "encode 256 B", || encode(252)),
    case("framing", "encode 4 KiB", || encode(4092)),
    case("parsing", "classic", || {
        parse(r#"{"broadcast":{"event":"message","channel":"world","data":{"text":"hello, world","n":1}}}"#)
    }),
    case("parsing", "WWFP", || {
        parse(r#"{"broadcast":{"channel":"world","event":"message","data":{"text":"hello, world","n":1}}}"#)
    }),
    case("parsing", "WWFP with ref", || {
        parse(
            r#"{"broadcast":{"channel":"world","event":"message","data":{"text":"hello, world","n":1},"ref":7}}"#,
        )
    }),
    case("parsing", "WWFP, 128 B of data", || parse(&load())),
    case("splicing", "object", || splice(r#"{"text":"hello, world","n":1}"#)),
    case("splicing", "128 B of data", || splice(LOAD_DATA)),
    case("splicing", "scalar", || splice(r#""hello, world""#)),
    case("splicing", "forged", || splice(r#"{"text":"hello, world","sid":1}"#)),
    case("wire", "decode, parse and splice", || decode_parse_splice(broadcast("world", 64))),
    case("wire", "decode, parse and splice 128 B of data", || decode_parse_splice(masked(&load()))),
];

const fn case(group: &'static str, name: &'static str, prepare: fn() -> Box<dyn Subject>) -> Case {
    Case { group, name, operations: OPERATIONS, prepare }
}

/// Unmasks and checks a frame. It is copied first, because unmasking writes in place.
fn decode(masked: Vec<u8>) -> Box<dyn Subject> {
    let mut input = Vec::with_capacity(masked.len());
    let mut decoder = Decoder::default();
    Box::new(move || {
        for _ in 0..OPERATIONS {
            take_in(&mut decoder, &mut input, &masked, |text| {
                black_box(text);
            });
        }
    })
}

/// Hands a masked frame's text on.
fn take_in(decoder: &mut Decoder, input: &mut Vec<u8>, masked: &[u8], then: impl FnOnce(&str)) {
    input.clear();
    input.extend_from_slice(black_box(masked));
    let received = decoder.next(&mut &mut input[..], MESSAGE_BYTES_MAX);
    let Ok(Some(Received::Message(Message::Text(text)))) = received else { panic!("a whole text") };
    then(&text);
}

/// The payload lies in the middle of a buffer, as it does where it comes from: two buffers that begin alike
/// within their pages make the processor take each read for one of what it has just written.
fn encode(payload_bytes: usize) -> Box<dyn Subject> {
    const BEFORE: usize = 1_500;
    let buffer = vec![b'x'; BEFORE + payload_bytes];
    let mut out = Vec::with_capacity(payload_bytes + 16);
    Box::new(move || {
        for _ in 0..OPERATIONS {
            out.clear();
            frame::encode(&mut out, Opcode::Text, black_box(&buffer[BEFORE..]));
            black_box(&out);
        }
    })
}

/// A broadcast of [`LOAD_DATA`].
fn load() -> String {
    format!(r#"{{"broadcast":{{"event":"load","channel":"load-17","data":{LOAD_DATA}}}}}"#)
}

fn parse(text: &str) -> Box<dyn Subject> {
    let text = text.to_owned();
    Box::new(move || {
        for _ in 0..OPERATIONS {
            black_box(ClientMessage::parse(black_box(&text))).expect("a valid message");
        }
    })
}

fn splice(data: &'static str) -> Box<dyn Subject> {
    let channel: ChannelName = "world".parse().expect("a valid name");
    let text = format!(r#"{{"broadcast":{{"channel":"world","event":"message","data":{data}}}}}"#);
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        let fields = fields(&text);
        for _ in 0..OPERATIONS {
            splice_into(&mut out, black_box(&fields), &channel);
        }
    })
}

fn fields(text: &str) -> Fields<'_> {
    match ClientMessage::parse(text) {
        Ok(ClientMessage { payload: Payload::Object(fields), .. }) => fields,
        other => panic!("a valid message, not {other:?}"),
    }
}

fn splice_into(out: &mut Vec<u8>, fields: &Fields<'_>, channel: &ChannelName) {
    out.clear();
    let event = fields.event.expect("it has an event");
    Publication::new(event, fields.data, channel, Some(Uuid::nil())).encode(out);
    black_box(out);
}

/// What wire does for one broadcast; the checks of rights and names are the machine's.
fn decode_parse_splice(masked: Vec<u8>) -> Box<dyn Subject> {
    let channel: ChannelName = "world".parse().expect("a valid name");
    let mut input = Vec::with_capacity(masked.len());
    let mut decoder = Decoder::default();
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        for _ in 0..OPERATIONS {
            take_in(&mut decoder, &mut input, &masked, |text| {
                splice_into(&mut out, &fields(text), &channel);
            });
        }
    })
}
