//! What a backend can reach: its wires, the lots, and the ledger.

use crate::{
    chance::Chance,
    net::{Actor, Net},
    oracles::Ledger,
    scenario::Scenario,
    wires::Frames,
};

/// What to hand to every step of a backend.
pub struct Surroundings<'a> {
    /// What lies between the actors.
    pub net: &'a mut Net,
    /// The lots.
    pub chance: &'a mut Chance,
    /// What is fixed.
    pub scenario: &'a Scenario,
    /// What is known.
    pub ledger: &'a mut Ledger,
    /// Whether it may misbehave.
    pub is_loading: bool,
}

impl Surroundings<'_> {
    /// Says something on a wire.
    pub(super) fn say(&mut self, wire: usize, frames: &[&str]) {
        let frames: Frames = [""].iter().chain(frames).map(|frame| frame.as_bytes().to_vec()).collect();
        self.net.wires.all[wire].to_exchange.push_back(frames);
        self.net.wake(Actor::Exchange, 1);
    }

    /// The next thing that was said on a wire.
    pub(super) fn hear(&mut self, wire: usize) -> Option<Vec<String>> {
        let frames = self.net.wires.all[wire].to_peer.pop_front()?;
        Some(frames.iter().skip(1).map(|frame| String::from_utf8_lossy(frame).into_owned()).collect())
    }

    /// Whether a peer vanishes now, and nobody says so.
    pub(super) fn loses_a_peer(&mut self) -> bool {
        self.is_loading && self.chance.permille(4)
    }

    /// A wire ends, with or without what was said last.
    pub(super) fn cut(&mut self, wire: usize) {
        let entry = &mut self.net.wires.all[wire];
        entry.is_cut = true;
        if self.chance.percent(50) {
            entry.to_exchange.clear();
        }
        self.net.wake(Actor::Exchange, 1);
    }
}
