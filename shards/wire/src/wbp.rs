//! WBP 1.0: what backends and the exchange say to each other over ZeroMQ.
//!
//! A message is a list of frames of UTF-8 text: an empty delimiter, a command of two letters, its
//! arguments. *Clients* ask and get one reply each; *workers* say that they are ready, take
//! triggers, and acknowledge them.
//!
//! This room checks the shape of what arrives, down to JSON and names where a wrong one is a 400;
//! names whose absence is another status are left as texts.
//!
//! Source: docs/protocol.md, "ZeroMQ exchange".

use serde_json::value::RawValue;

use crate::{
    message::{DEPTH_MAX, is_deeper_than},
    name::EventName,
    status::Status,
    token::SingleAccessToken,
    trigger::Trigger,
};

/// The most triggers that a worker may take without having acknowledged them.
pub const WINDOW_MAX: u32 = 1000;

/// The most frames of a message, the delimiter included.
pub const FRAMES_MAX: usize = 5;

/// What a client asks.
#[derive(Debug, Clone)]
pub enum ClientRequest<'a> {
    /// `OC` channel
    OpenChannel(&'a str),
    /// `CC` channel
    CloseChannel(&'a str),
    /// `BC` channel event data
    Broadcast {
        /// The channel's name, unchecked.
        channel: &'a str,
        /// What is broadcast.
        event: Event<'a>,
    },
    /// `AT` uid pattern
    IssueToken {
        /// Whom the token is for, unchecked.
        uid: &'a str,
        /// Regular expression on channels, unchecked.
        pattern: &'a str,
    },
    /// `DM` sid event data
    DirectMessage {
        /// The session's identifier, unchecked.
        sid: &'a str,
        /// What it is told.
        event: Event<'a>,
    },
    /// `PR` channel
    Present(&'a str),
}

/// An event with its data, both checked.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// The event's name as a JSON string.
    pub name: Box<RawValue>,
    /// Any JSON value.
    pub data: &'a RawValue,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerMessage<'a> {
    /// `RD` [filter [window]]
    Ready {
        /// Regular expression on event names, unchecked; an absent or empty one takes all.
        filter: Option<&'a str>,
        /// How many unacknowledged triggers it takes, 1 to [`WINDOW_MAX`]; without one it acknowledges none.
        window: Option<u32>,
    },
    /// `AK` id
    Acknowledge(u64),
    /// `NK` id
    Refuse(u64),
    /// `HB`
    Heartbeat,
    /// `QT`
    Quit,
}

/// A message of a peer.
#[derive(Debug, Clone)]
pub enum Message<'a> {
    /// Of a client.
    Client(ClientRequest<'a>),
    /// Of a worker.
    Worker(WorkerMessage<'a>),
}

impl<'a> Message<'a> {
    /// Reads a message: its frames, the delimiter included.
    ///
    /// # Errors
    /// [`Status::InvalidPayload`] or [`Status::InvalidEventName`], both 400: no delimiter, no UTF-8, an
    /// unknown command, a missing, wrong or further argument.
    pub fn parse(frames: &[&'a [u8]]) -> Result<Self, Status> {
        let [[], command, arguments @ ..] = frames else { return Err(Status::InvalidPayload) };
        if frames.len() > FRAMES_MAX {
            return Err(Status::InvalidPayload);
        }
        let mut texts = [""; FRAMES_MAX];
        for (text, argument) in texts.iter_mut().zip(arguments) {
            *text = std::str::from_utf8(argument).map_err(|_| Status::InvalidPayload)?;
        }
        let texts = &texts[..arguments.len()];
        Ok(match (*command, texts) {
            (b"OC", [channel]) => Self::Client(ClientRequest::OpenChannel(channel)),
            (b"CC", [channel]) => Self::Client(ClientRequest::CloseChannel(channel)),
            (b"BC", [channel, event, data]) => {
                Self::Client(ClientRequest::Broadcast { channel, event: Event::parse(event, data)? })
            }
            (b"AT", [uid, pattern]) => Self::Client(ClientRequest::IssueToken { uid, pattern }),
            (b"DM", [sid, event, data]) => {
                Self::Client(ClientRequest::DirectMessage { sid, event: Event::parse(event, data)? })
            }
            (b"PR", [channel]) => Self::Client(ClientRequest::Present(channel)),
            (b"RD", []) => Self::Worker(WorkerMessage::Ready { filter: None, window: None }),
            (b"RD", [filter]) => Self::Worker(WorkerMessage::Ready { filter: some(filter), window: None }),
            (b"RD", [filter, window]) => Self::Worker(WorkerMessage::Ready {
                filter: some(filter),
                window: Some(parse_window(window)?),
            }),
            (b"AK", [id]) => Self::Worker(WorkerMessage::Acknowledge(parse_number(id)?)),
            (b"NK", [id]) => Self::Worker(WorkerMessage::Refuse(parse_number(id)?)),
            (b"HB", []) => Self::Worker(WorkerMessage::Heartbeat),
            (b"QT", []) => Self::Worker(WorkerMessage::Quit),
            _ => return Err(Status::InvalidPayload),
        })
    }
}

impl<'a> Event<'a> {
    fn parse(name: &str, data: &'a str) -> Result<Self, Status> {
        EventName::check(name).map_err(|_| Status::InvalidEventName)?;
        if is_deeper_than(data, DEPTH_MAX) {
            return Err(Status::InvalidPayload);
        }
        let data = serde_json::from_str(data).map_err(|_| Status::InvalidPayload)?;
        let name = serde_json::value::to_raw_value(name).expect("a text is always JSON");
        Ok(Self { name, data })
    }
}

fn some(filter: &str) -> Option<&str> {
    (!filter.is_empty()).then_some(filter)
}

fn parse_window(text: &str) -> Result<u32, Status> {
    let window = u32::try_from(parse_number(text)?).map_err(|_| Status::InvalidPayload)?;
    if (1..=WINDOW_MAX).contains(&window) { Ok(window) } else { Err(Status::InvalidPayload) }
}

/// Digits, and nothing else.
fn parse_number(text: &str) -> Result<u64, Status> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| Status::InvalidPayload)
    } else {
        Err(Status::InvalidPayload)
    }
}

/// What the exchange says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerMessage<'a> {
    /// `OK`: done.
    Done,
    /// `AT` token
    Token(&'a SingleAccessToken),
    /// `PR` list: those present, the text of a JSON array.
    Present(&'a str),
    /// `ER` code status
    Error(Status),
    /// `TR` payload [id]; the id is what a worker with a window acknowledges.
    Trigger(&'a Trigger, Option<u64>),
    /// `HB`
    Heartbeat,
    /// `QT`: reconnect, or go.
    Quit,
}

impl ServerMessage<'_> {
    /// Hands over the frames in order, the delimiter included.
    pub fn encode(&self, mut frame: impl FnMut(&[u8])) {
        frame(b"");
        match *self {
            Self::Done => frame(b"OK"),
            Self::Token(token) => {
                frame(b"AT");
                frame(token.reveal().as_bytes());
            }
            Self::Present(list) => {
                frame(b"PR");
                frame(list.as_bytes());
            }
            Self::Error(status) => {
                frame(b"ER");
                frame(status.code().to_string().as_bytes());
                frame(status.phrase().as_bytes());
            }
            Self::Trigger(trigger, id) => {
                frame(b"TR");
                frame(trigger.payload().as_bytes());
                if let Some(id) = id {
                    frame(id.to_string().as_bytes());
                }
            }
            Self::Heartbeat => frame(b"HB"),
            Self::Quit => frame(b"QT"),
        }
    }
}
