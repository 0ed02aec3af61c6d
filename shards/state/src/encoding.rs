//! How the subscribers of a channel are told what it says: encodings, and what makes frames in them.
//!
//! An encoding stands for the frames of one family of dialects under one compression. Classic and WWFP are one
//! family, uncompressed: [`Encoding::PLAIN`], which every node has and which is made without a call through a table.
//! A node may have more: see [`Encodings::with`].
//!
//! What a channel says is made into a frame once per shard and encoding that is in use there. An encoding that costs
//! more than copying parts is made once per node, by the channel's owner, and only while somebody listens in it.

use std::{fmt::Debug, sync::Arc};

use webrocket_wire::{Publication, handshake::Upgrade};

use crate::event::{ChannelEvent, Said};

/// One of a node's encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding(u8);

impl Encoding {
    /// Both dialects, as they stand in docs/protocol.md, uncompressed.
    pub const PLAIN: Self = Self(0);

    /// The encoding of a number, whether there is one or not.
    #[cfg(test)]
    pub(crate) const fn numbered(number: u8) -> Self {
        Self(number)
    }
}

/// What makes the frames of one encoding.
pub trait Encoder: Debug + Send + Sync {
    /// Whether it costs more than copying parts, so that the channel's owner shall make it for all.
    fn is_costly(&self) -> bool;

    /// Appends one whole frame, header included, of what a channel says.
    fn encode(&self, said: &Said<'_>, out: &mut Vec<u8>);

    /// Appends one whole frame of a message to one session.
    fn encode_direct(&self, message: &Publication<'_>, out: &mut Vec<u8>);
}

/// The encodings of a node, the same in all its shards.
#[derive(Debug, Clone, Default)]
pub struct Encodings(Option<Arc<More>>);

/// What a node has beyond the plain encoding.
#[derive(Debug)]
struct More {
    encoders: Vec<Box<dyn Encoder>>,
    choose: fn(&Upgrade) -> usize,
}

impl Encodings {
    /// The plain encoding and `encoders`, at most 255. `choose` says by the handshake how a session receives: 0 is
    /// plain, 1 the first of `encoders`, and so on; any other number is plain too.
    #[must_use]
    pub fn with(encoders: Vec<Box<dyn Encoder>>, choose: fn(&Upgrade) -> usize) -> Self {
        assert!(encoders.len() <= usize::from(u8::MAX), "an encoding is named by one byte");
        Self(Some(Arc::new(More { encoders, choose })))
    }

    /// How the session of this handshake receives.
    #[must_use]
    pub fn of(&self, upgrade: &Upgrade) -> Encoding {
        let Some(more) = &self.0 else { return Encoding::PLAIN };
        let chosen = (more.choose)(upgrade);
        let known = u8::try_from(chosen).ok().filter(|chosen| usize::from(*chosen) <= more.encoders.len());
        known.map_or(Encoding::PLAIN, Encoding)
    }

    /// Whether the channel's owner makes the frames.
    #[must_use]
    pub fn is_costly(&self, encoding: Encoding) -> bool {
        self.encoder(encoding).is_some_and(Encoder::is_costly)
    }

    /// Appends the frame of what a channel says.
    pub fn encode(&self, encoding: Encoding, said: &Said<'_>, out: &mut Vec<u8>) {
        match (self.encoder(encoding), said) {
            (None, Said::Published(_, publication)) => publication.encode(out),
            (None, Said::Presence(change)) => change.encode(out),
            (Some(encoder), said) => encoder.encode(said, out),
        }
    }

    /// Appends the frame of a message to one session.
    pub fn encode_direct(&self, encoding: Encoding, message: &Publication<'_>, out: &mut Vec<u8>) {
        match self.encoder(encoding) {
            None => message.encode(out),
            Some(encoder) => encoder.encode_direct(message, out),
        }
    }

    /// Makes the frame in each of `encodings`.
    #[must_use]
    pub fn make(&self, encodings: impl IntoIterator<Item = Encoding>, event: &ChannelEvent) -> Made {
        let mut encodings = encodings.into_iter().peekable();
        if encodings.peek().is_none() {
            return Made(None);
        }
        let said = event.said();
        let frames = encodings.map(|encoding| {
            let mut frame = Vec::new();
            self.encode(encoding, &said, &mut frame);
            (encoding, frame.into_boxed_slice())
        });
        Made(Some(Arc::new(frames.collect())))
    }

    fn encoder(&self, encoding: Encoding) -> Option<&dyn Encoder> {
        if encoding == Encoding::PLAIN {
            return None;
        }
        let more = self.0.as_ref().expect("only these encodings name others than the plain one");
        Some(&*more.encoders[usize::from(encoding.0) - 1])
    }
}

/// What one event of a channel is in the encodings that its owner makes, shared by all shards.
#[derive(Debug, Clone, Default)]
pub struct Made(Option<Arc<Vec<Frame>>>);

/// One whole frame, and its encoding.
type Frame = (Encoding, Box<[u8]>);

impl Made {
    /// The frame in an encoding, if the owner has made it.
    #[must_use]
    pub fn frame(&self, encoding: Encoding) -> Option<&[u8]> {
        let frames = self.0.as_deref()?;
        frames.iter().find(|(of, _)| *of == encoding).map(|(_, frame)| &**frame)
    }
}
