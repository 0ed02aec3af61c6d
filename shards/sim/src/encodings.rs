//! Two encodings that no real client speaks, so that everything is tried in more than one.
//!
//! Both carry a broadcast's position, and what the plain encoding would say: one in an envelope, which costs no more than
//! copying, one in hexadecimal digits, which counts as costly, so that the channel's owner makes it for all shards.

use std::fmt::Write as _;

use webrocket_state::{
    encoding::{Encoder, Encodings},
    event::Said,
};
use webrocket_wire::{
    Position, Publication,
    frame::{self, Opcode},
    handshake::Upgrade,
};

/// How a session receives what channels say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receives {
    /// As all real clients do.
    Plain,
    /// In an envelope.
    Enveloped,
    /// In hexadecimal digits.
    Sealed,
}

/// What came in one of the encodings of this module.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// The epoch and offset of a broadcast.
    pub position: Option<(u64, u64)>,
    /// What the plain encoding would have said.
    pub text: String,
}

/// The encodings of a simulated node.
#[must_use]
pub fn encodings() -> Encodings {
    Encodings::with(vec![Box::new(Envelope), Box::new(Seal)], choose)
}

fn choose(upgrade: &Upgrade) -> usize {
    let chosen = upgrade.query.split('&').find_map(|pair| pair.strip_prefix("encoding="));
    chosen.and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl Receives {
    /// What the target of the handshake says of it.
    #[must_use]
    pub fn query(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Enveloped => Some("encoding=1"),
            Self::Sealed => Some("encoding=2"),
        }
    }

    /// Whether a text is in this encoding, rather than plain; if so, what it says.
    #[must_use]
    pub fn open(self, text: &str) -> Option<Opened> {
        match self {
            Self::Plain => None,
            Self::Enveloped => opened(text.strip_prefix("{\"~\":[")?.strip_suffix("]}")?),
            Self::Sealed => {
                let digits = text.strip_prefix('~')?;
                let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
                let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
                opened(&String::from_utf8(bytes?).ok()?)
            }
        }
    }
}

/// Takes `<epoch>,<offset>,<text>` apart; without position both are 0, which no offset is.
fn opened(content: &str) -> Option<Opened> {
    let (epoch, rest) = content.split_once(',')?;
    let (offset, text) = rest.split_once(',')?;
    let (epoch, offset) = (epoch.parse().ok()?, offset.parse().ok()?);
    Some(Opened { position: (offset > 0).then_some((epoch, offset)), text: text.to_owned() })
}

/// `<epoch>,<offset>,` and what the plain encoding says.
fn content(position: Option<Position>, encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let Position { epoch, offset } = position.unwrap_or(Position { epoch: 0, offset: 0 });
    let mut plain = Vec::new();
    encode(&mut plain);
    let header = match plain[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    [format!("{epoch},{offset},").as_bytes(), &plain[header..]].concat()
}

fn said(said: &Said<'_>) -> Vec<u8> {
    match said {
        Said::Published(position, publication) => content(Some(*position), |out| publication.encode(out)),
        Said::Presence(change) => content(None, |out| change.encode(out)),
    }
}

#[derive(Debug)]
struct Envelope;

impl Envelope {
    fn put(content: &[u8], out: &mut Vec<u8>) {
        frame::encode(out, Opcode::Text, &[b"{\"~\":[", content, b"]}"].concat());
    }
}

impl Encoder for Envelope {
    fn is_costly(&self) -> bool {
        false
    }

    fn encode(&self, what: &Said<'_>, out: &mut Vec<u8>) {
        Self::put(&said(what), out);
    }

    fn encode_direct(&self, message: &Publication<'_>, out: &mut Vec<u8>) {
        Self::put(&content(None, |plain| message.encode(plain)), out);
    }
}

#[derive(Debug)]
struct Seal;

impl Seal {
    fn put(content: &[u8], out: &mut Vec<u8>) {
        let mut digits = String::from("~");
        for byte in content {
            write!(digits, "{byte:02x}").expect("a String takes everything");
        }
        frame::encode(out, Opcode::Text, digits.as_bytes());
    }
}

impl Encoder for Seal {
    fn is_costly(&self) -> bool {
        true
    }

    fn encode(&self, what: &Said<'_>, out: &mut Vec<u8>) {
        Self::put(&said(what), out);
    }

    fn encode_direct(&self, message: &Publication<'_>, out: &mut Vec<u8>) {
        Self::put(&content(None, |plain| message.encode(plain)), out);
    }
}
