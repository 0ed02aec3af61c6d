//! What holds of any frames of a backend.

use super::*;

/// Between frames of an input. No UTF-8 text has this byte.
const BETWEEN: u8 = 0xff;

/// `input` is a message: its frames with [`BETWEEN`] between them.
pub fn wbp(input: &[u8]) {
    let frames: Vec<&[u8]> = input.split(|byte| *byte == BETWEEN).collect();
    what_is_understood_was_said(&frames);
}

/// A message that is understood says, written down again, what stands in `frames`, and is understood alike.
pub(crate) fn what_is_understood_was_said(frames: &[&[u8]]) {
    let message = match Message::parse(frames) {
        Ok(message) => message,
        Err(status) => {
            return assert!(
                matches!(status, Status::InvalidPayload | Status::InvalidEventName),
                "{status:?}"
            );
        }
    };
    assert!(frames.len() <= FRAMES_MAX);
    let written = written(&message);
    let texts: Vec<&str> = written.iter().map(|text| &**text).collect();
    for (text, frame) in texts.iter().zip(frames) {
        // Space around JSON and zeros in front of a number mean nothing.
        let frame = std::str::from_utf8(frame).expect("what was understood is text");
        let is_meant = *text == frame
            || *text == frame.trim_matches([' ', '\t', '\r', '\n'])
            || text.parse::<u64>().is_ok_and(|number| frame.parse() == Ok(number));
        assert!(is_meant, "{frame:?} was understood as {text:?}");
    }
    let again: Vec<&[u8]> = written.iter().map(String::as_bytes).collect();
    let again = Message::parse(&again).expect("what is written down is understood");
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
}

/// The frames that mean a message.
fn written(message: &Message<'_>) -> Vec<String> {
    let texts = |texts: &[&str]| [""].iter().chain(texts).map(|text| (*text).to_owned()).collect();
    let with_event = |command, to: &str, event: &Event<'_>| {
        let name: String = serde_json::from_str(event.name().text()).expect("an event's name is a string");
        assert_eq!(EventName::check(&name), Ok(()));
        texts(&[command, to, &name, event.data.text()])
    };
    match message {
        Message::Client(ClientRequest::OpenChannel(channel)) => texts(&["OC", channel]),
        Message::Client(ClientRequest::CloseChannel(channel)) => texts(&["CC", channel]),
        Message::Client(ClientRequest::Broadcast { channel, event }) => with_event("BC", channel, event),
        Message::Client(ClientRequest::IssueToken { uid, pattern }) => texts(&["AT", uid, pattern]),
        Message::Client(ClientRequest::DirectMessage { sid, event }) => with_event("DM", sid, event),
        Message::Client(ClientRequest::Present(channel)) => texts(&["PR", channel]),
        Message::Worker(WorkerMessage::Ready { filter, window: None }) => {
            texts(&["RD", filter.unwrap_or_default()])
        }
        Message::Worker(WorkerMessage::Ready { filter, window: Some(window) }) => {
            texts(&["RD", filter.unwrap_or_default(), &window.to_string()])
        }
        Message::Worker(WorkerMessage::Acknowledge(id)) => texts(&["AK", &id.to_string()]),
        Message::Worker(WorkerMessage::Refuse(id)) => texts(&["NK", &id.to_string()]),
        Message::Worker(WorkerMessage::Heartbeat) => texts(&["HB"]),
        Message::Worker(WorkerMessage::Quit) => texts(&["QT"]),
    }
}
