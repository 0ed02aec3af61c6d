//! Members of presence channels: what each wants to show, what subscribers know of them, and who must be there.

use std::collections::{BTreeMap, BTreeSet};

use super::broadcast::Place;
use crate::answer::Data;

/// The `uid` of those who show themselves to nobody.
pub const SHY: &str = "eve";

/// Who is present, by `uid`, and what each shows.
pub type Present = BTreeMap<String, Data>;

/// A session's wish to show itself on a channel, by which others may recognise it.
#[derive(Debug)]
pub struct Tab {
    pub(super) place: Place,
    pub(super) is_hidden: bool,
    /// By what others know it, once it is told that it subscribes.
    pub(super) uid: Option<String>,
    /// Whether no other session has that `uid`.
    pub(super) is_solo: bool,
    /// What it said when it left, if it was told that it did.
    pub(super) farewell: Option<Option<usize>>,
}

/// What one subscription knows of its channel's members.
#[derive(Debug)]
pub struct Knowledge {
    /// Who is present; `None` before the list.
    pub present: Option<Present>,
    /// The session's own `uid`, whose joining must be the first that it is told.
    pub(super) own_join: Option<String>,
}

/// What browsers say of a channel.
#[derive(Debug, Default)]
pub struct Audience {
    /// How many subscribe.
    pub subscribers: u64,
    /// Whose visible sessions do.
    pub visible: BTreeSet<String>,
    /// Who else may still be there: sessions of browsers that are gone.
    pub ghosts: BTreeSet<String>,
    /// The subscriptions.
    pub windows: Vec<usize>,
}

/// By place.
pub type Audiences = BTreeMap<Place, Audience>;

impl Knowledge {
    /// What a new subscription knows. `own`: the `uid` that it shows, if it does.
    #[must_use]
    pub fn new(own: Option<String>) -> Self {
        Self { present: None, own_join: own }
    }
}
