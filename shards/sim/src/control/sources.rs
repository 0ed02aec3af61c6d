//! Those who take events over HTTP.

use std::collections::VecDeque;

use webrocket_state::exchange::{TriggerId, message::SourceId};

use crate::time::Micros;

/// Somebody who takes events over HTTP.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: SourceId,
    pub(super) waiting: VecDeque<TriggerId>,
    pub(super) naps_until: Micros,
}

/// All who do.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) all: Vec<Source>,
    pub(super) last: u64,
    pub(super) due: Micros,
}
