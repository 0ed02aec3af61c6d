//! Faults put in on purpose: which there are, and what a run must be about for each to be noticed.

use crate::theme::Theme;

/// A fault put in on purpose: the oracles must notice it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Canary {
    /// Two neighbours in one queue between shards change places.
    Swap,
    /// An entry of one queue is lost.
    Drop,
    /// An entry of one queue arrives twice.
    Double,
    /// The word that a member left does not reach one shard.
    LostLeave,
    /// The word that a member joined reaches one shard twice.
    DoubledJoin,
    /// The list that a session of another shard is given misses a member.
    ShortList,
    /// A channel's owner says that it has taken what was said to it before, but takes one leave of it later.
    LateLeave,
    /// A single access token is given away twice.
    TokenTwice,
    /// A trigger that comes to its next worker is lost, and taken for handled.
    LostRedelivery,
    /// A trigger is sent to a worker without window twice.
    DoubledTrigger,
}

impl Canary {
    /// What the run must be about for the fault to be noticed: where everybody stays and listens, or where
    /// some do while others come and go.
    #[must_use]
    pub fn theme(self) -> Theme {
        match self {
            Self::Swap | Self::Drop | Self::Double => Theme::Calm,
            Self::LostLeave | Self::DoubledJoin | Self::ShortList | Self::LateLeave | Self::TokenTwice => {
                Theme::Churn
            }
            Self::LostRedelivery | Self::DoubledTrigger => Theme::Work,
        }
    }

    /// At which of the opportunities it is put in, at the earliest.
    #[must_use]
    pub fn patience(self) -> (u64, u64) {
        match self {
            Self::Swap | Self::Drop | Self::Double => (40, 100),
            Self::LostLeave
            | Self::DoubledJoin
            | Self::ShortList
            | Self::LateLeave
            | Self::TokenTwice
            | Self::LostRedelivery
            | Self::DoubledTrigger => (1, 10),
        }
    }
}
