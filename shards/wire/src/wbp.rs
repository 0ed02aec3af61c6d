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

use crate::{
    event::Data, json::Json, name::EventName, presence::quoted, status::Status, token::SingleAccessToken,
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
    name: String,
    /// What is said along with it.
    pub data: Data<'a>,
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
        let data = Data::parse(data).map_err(|_| Status::InvalidPayload)?;
        Ok(Self { name: quoted(name), data })
    }

    /// The event's name as a JSON string.
    #[must_use]
    pub fn name(&self) -> Json<'_> {
        Json::parse(&self.name).expect("a quoted text is JSON")
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

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{json::DEPTH_MAX, trigger::Origin};

    fn parse<'a>(frames: &[&'a str]) -> Result<Message<'a>, Status> {
        let frames: Vec<&[u8]> =
            std::iter::once("").chain(frames.iter().copied()).map(str::as_bytes).collect();
        Message::parse(&frames)
    }

    fn worker<'a>(frames: &[&'a str]) -> WorkerMessage<'a> {
        match parse(frames) {
            Ok(Message::Worker(message)) => message,
            other => panic!("{frames:?} is a worker's, not {other:?}"),
        }
    }

    #[test]
    fn workers_speak() {
        let ready = |filter, window| WorkerMessage::Ready { filter, window };
        assert_eq!(worker(&["RD"]), ready(None, None));
        assert_eq!(worker(&["RD", ""]), ready(None, None));
        assert_eq!(worker(&["RD", "a|b"]), ready(Some("a|b"), None));
        assert_eq!(worker(&["RD", "", "1"]), ready(None, Some(1)));
        assert_eq!(worker(&["RD", "a", "1000"]), ready(Some("a"), Some(WINDOW_MAX)));
        assert_eq!(worker(&["AK", "18446744073709551615"]), WorkerMessage::Acknowledge(u64::MAX));
        assert_eq!(worker(&["NK", "0"]), WorkerMessage::Refuse(0));
        assert_eq!(worker(&["HB"]), WorkerMessage::Heartbeat);
        assert_eq!(worker(&["QT"]), WorkerMessage::Quit);
    }

    #[test]
    fn clients_ask() {
        use ClientRequest as Ask;
        let ask = |frames: &[&'static str]| match parse(frames) {
            Ok(Message::Client(request)) => request,
            other => panic!("{frames:?} is a client's, not {other:?}"),
        };
        assert!(matches!(ask(&["OC", "-any-"]), Ask::OpenChannel("-any-")));
        assert!(matches!(ask(&["CC", "a"]), Ask::CloseChannel("a")));
        assert!(matches!(ask(&["PR", "a"]), Ask::Present("a")));
        assert!(matches!(ask(&["AT", "joe", "("]), Ask::IssueToken { uid: "joe", pattern: "(" }));
        let Ask::Broadcast { channel: "a", event } = ask(&["BC", "a", "h\"i", " {\"b\" :1.50} "]) else {
            panic!("a broadcast was asked for")
        };
        assert_eq!((event.name().text(), event.data.text()), (r#""h\"i""#, "{\"b\" :1.50}"));
        let Ask::DirectMessage { sid: "x", event } = ask(&["DM", "x", "e", "null"]) else {
            panic!("a direct message was asked for")
        };
        assert_eq!((event.name().text(), event.data.text()), (r#""e""#, "null"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let wrong = Status::InvalidPayload;
        for frames in [
            &[][..],
            &["XX"],
            &["rd"],
            &["RD "],
            &["OC"],
            &["OC", "a", "b"],
            &["BC", "a", "e"],
            &["BC", "a", "e", "1", "2"],
            &["BC", "a", "e", ""],
            &["BC", "a", "e", "{"],
            &["BC", "a", "e", "1 1"],
            &["AT", "joe"],
            &["DM", "x", "e", "nothing"],
            &["RD", "a", ""],
            &["RD", "a", "0"],
            &["RD", "a", "1001"],
            &["RD", "a", "+1"],
            &["RD", "a", "4294967297"],
            &["RD", "a", "1", "x"],
            &["AK"],
            &["AK", ""],
            &["AK", "-1"],
            &["AK", "18446744073709551616"],
            &["NK", "1", "2"],
            &["HB", ""],
            &["QT", "now"],
        ] {
            assert_eq!(parse(frames).unwrap_err(), wrong, "{frames:?}");
        }
        for event in ["", ":e", "__e", "err", "a\nb", &"x".repeat(201)] {
            assert_eq!(parse(&["BC", "a", event, "1"]).unwrap_err(), Status::InvalidEventName, "{event:?}");
        }
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        assert_eq!(parse(&["BC", "a", "e", &deep]).unwrap_err(), wrong);
        assert!(parse(&["BC", "a", "e", &deep[1..deep.len() - 1]]).is_ok());
        assert_eq!(Message::parse(&[b"OC", b"a"]).unwrap_err(), wrong, "no delimiter");
        assert_eq!(Message::parse(&[]).unwrap_err(), wrong);
        assert_eq!(Message::parse(&[b"", b"OC", b"\xff"]).unwrap_err(), wrong);
    }

    #[test]
    fn the_server_speaks() {
        let frames = |message: ServerMessage<'_>| {
            let mut frames = Vec::new();
            message.encode(|frame| frames.push(String::from_utf8(frame.to_vec()).unwrap()));
            frames
        };
        let event = Json::parse(r#""job""#).unwrap();
        let trigger = Trigger::new(event, None, Origin { sid: Uuid::nil(), uid: None, channel: None });
        let token = SingleAccessToken::from_bytes([0xab; 64]);
        assert_eq!(frames(ServerMessage::Done), ["", "OK"]);
        assert_eq!(frames(ServerMessage::Token(&token)), ["", "AT", &"ab".repeat(64)]);
        assert_eq!(frames(ServerMessage::Present("[]")), ["", "PR", "[]"]);
        assert_eq!(
            frames(ServerMessage::Error(Status::ChannelNotFound)),
            ["", "ER", "454", "Channel not found"]
        );
        assert_eq!(frames(ServerMessage::Trigger(&trigger, None)), ["", "TR", trigger.payload()]);
        assert_eq!(frames(ServerMessage::Trigger(&trigger, Some(7))), ["", "TR", trigger.payload(), "7"]);
        assert_eq!(frames(ServerMessage::Heartbeat), ["", "HB"]);
        assert_eq!(frames(ServerMessage::Quit), ["", "QT"]);
    }

    fn anything() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let command =
            prop::sample::select(vec!["OC", "CC", "BC", "AT", "DM", "PR", "RD", "AK", "NK", "HB", "QT"]);
        let part = prop_oneof![
            4 => proptest::collection::vec(any::<u8>(), 0..12),
            2 => command.prop_map(|command| command.as_bytes().to_vec()),
            2 => Just(Vec::new()),
            2 => "[0-9]{1,5}|[a-z]{1,4}|\\{\"a\":[0-9]\\}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec(part, 0..8)
    }

    proptest! {
        #[test]
        fn arbitrary_frames_never_panic(frames in anything()) {
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            fuzz::what_is_understood_was_said(&frames);
        }

        #[test]
        fn what_is_said_is_understood(
            channel in ".{0,9}",
            event in "x[a-z\"\\\\é]{0,8}",
            data in any::<i64>(),
            window in 1..=WINDOW_MAX,
            id in any::<u64>(),
        ) {
            let texts = [data.to_string(), window.to_string(), id.to_string()];
            let said = parse(&["BC", &channel, &event, &texts[0]]);
            let Ok(Message::Client(ClientRequest::Broadcast { channel: of, event: heard })) = said else {
                return Err(TestCaseError::fail(format!("{said:?}")));
            };
            prop_assert_eq!((of, heard.data.text()), (&*channel, &*texts[0]));
            prop_assert_eq!(serde_json::from_str::<String>(heard.name().text()).unwrap(), event);
            let filter = (!channel.is_empty()).then_some(&*channel);
            let ready = WorkerMessage::Ready { filter, window: Some(window) };
            prop_assert_eq!(worker(&["RD", &channel, &texts[1]]), ready);
            prop_assert_eq!(worker(&["AK", &texts[2]]), WorkerMessage::Acknowledge(id));
            prop_assert_eq!(worker(&["NK", &texts[2]]), WorkerMessage::Refuse(id));
        }
    }
}
