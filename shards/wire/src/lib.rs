//! Bytes and types of WebRocket's protocols.
//!
//! This crate turns bytes into types and back: [WebSocket frames](frame), the
//! [opening handshake](handshake), the [names](name) of the domain, the messages of the
//! dialects [classic](classic) and [WWFP](wwfp), the [JSON](json) in them, what senders say along with an
//! [event](event), the [publications](publication) that subscribers receive, what they are told of each other's [presence](presence), the
//! [triggers](trigger) that backends receive and their side of the conversation, [WBP](wbp), the
//! [keys](key) that they are known by, and the one [table of statuses](status) that all protocols
//! share. It keeps no state beyond one stream, does no I/O and knows no clock.
//!
//! Normative description: `docs/protocol.md`.

#![forbid(unsafe_code)]

pub mod classic;
pub mod event;
pub mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod handshake;
pub mod json;
pub mod key;
mod members;
pub mod message;
pub mod name;
pub mod presence;
pub mod publication;
pub mod reply;
pub mod rights;
pub mod status;
pub mod token;
pub mod trigger;
pub mod wbp;
pub mod wwfp;

pub use event::Data;
pub use json::Json;
pub use key::{BackendKey, SecretKey};
pub use name::{ChannelKind, ChannelName, EventName, NameError, UserName, VhostPath};
pub use presence::{Member, MemberData};
pub use publication::{Position, Publication, SharedPublication};
pub use reply::{Present, Reply};
pub use rights::Rights;
pub use status::{CloseCode, Status};
pub use token::{AccessToken, SingleAccessToken};
pub use trigger::Trigger;
