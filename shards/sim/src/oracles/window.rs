//! One subscription as its browser knows it: who subscribes, what came, and how it ended.

use super::{broadcast::Place, members::Knowledge};
use crate::time::Micros;

/// How a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Open,
    /// By a request, put together then.
    Asked(Micros),
    /// Otherwise: nothing is promised about its last events.
    Otherwise,
}

/// Something that all subscribers of a channel see in one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// A broadcast, by its number.
    Broadcast(usize),
    /// A member joined with these data.
    Joined(u64),
    /// A member left with these data.
    Left(u64),
    /// A member joined or left, in words that may be said again.
    Alike(usize),
}

impl Fact {
    pub(super) fn happens_once(self) -> bool {
        !matches!(self, Self::Alike(_))
    }
}

/// When something was asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// At what time.
    pub at: Micros,
    /// After how many broadcasts.
    pub broadcasts: usize,
}

/// What a subscriber is, apart from where.
#[derive(Debug, Default)]
pub struct Subscriber {
    /// By what others know it, on private and presence channels.
    pub uid: Option<String>,
    /// Whether it shows itself to nobody.
    pub is_hidden: bool,
    /// What it shows of itself.
    pub tab: Option<usize>,
}

/// One subscription, from `subscribed` to its end.
#[derive(Debug)]
pub struct Window {
    /// Whose.
    pub browser: usize,
    /// Of what.
    pub place: Place,
    pub(super) asked: Asked,
    pub(super) started: Micros,
    /// What came, in order.
    pub(super) seen: Vec<Fact>,
    /// How it ended.
    pub end: End,
    /// Who subscribes.
    pub subscriber: Subscriber,
    /// Who is present, on presence channels.
    pub knowledge: Option<Knowledge>,
    /// The epoch and offset of the broadcast that came last, where they are told.
    pub(super) position: Option<(u64, u64)>,
}

impl Window {
    pub(super) fn broadcasts(&self) -> impl Iterator<Item = usize> + '_ {
        self.seen.iter().filter_map(|fact| match fact {
            Fact::Broadcast(number) => Some(*number),
            Fact::Joined(_) | Fact::Left(_) | Fact::Alike(_) => None,
        })
    }
}
