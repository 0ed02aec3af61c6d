//! What a channel says to its subscribers.

use std::sync::Arc;

use uuid::Uuid;
use webrocket_wire::{Position, Publication, SharedPublication, presence::PresenceChange};

/// What the subscribers of a channel are told, in the order that its owner gives to all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// A broadcast, and its place among those of the channel.
    Published(Position, SharedPublication),
    /// Somebody has come or gone.
    Presence(Arc<PresenceChange>),
}

impl ChannelEvent {
    /// What it says.
    #[must_use]
    pub fn said(&self) -> Said<'_> {
        match self {
            Self::Published(position, publication) => Said::Published(*position, publication.parts()),
            Self::Presence(change) => Said::Presence(change),
        }
    }
}

/// What an encoding is given to make a frame of: a [`ChannelEvent`] whose parts are borrowed.
#[derive(Debug)]
pub enum Said<'a> {
    /// A broadcast, and its place among those of the channel.
    Published(Position, Publication<'a>),
    /// Somebody has come or gone.
    Presence(&'a PresenceChange),
}

impl Said<'_> {
    /// The `sid` of the subscriber that is not told.
    #[must_use]
    pub fn left_out(&self) -> Option<Uuid> {
        match self {
            Self::Published(_, publication) => publication.left_out(),
            Self::Presence(_) => None,
        }
    }
}
