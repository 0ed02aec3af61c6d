//! What came of a run: what went wrong, and how much of everything there was.

use webrocket_state::{
    exchange::{ExchangeFigure, figures::EXCHANGE_FIGURE_COUNT},
    metrics::{FIGURE_COUNT, Figure},
};

use crate::{net::Counters, oracles::Violation, theme::Theme};

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What it was about.
    pub theme: Theme,
    /// How many shards there were.
    pub shards: usize,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// The hash of everything that happened.
    pub trace: u64,
    /// How things went.
    pub counters: Counters,
    /// The shards' figures, added up.
    pub figures: [u64; FIGURE_COUNT],
    /// The exchange's figures.
    pub exchange_figures: [u64; EXCHANGE_FIGURE_COUNT],
    /// Triggers that workers acknowledged.
    pub triggers_acknowledged: u64,
    /// Answers that clients over ZeroMQ received.
    pub client_answers: u64,
    /// Requests that browsers made.
    pub requests: u64,
    /// Events that browsers received.
    pub deliveries: u64,
    /// Presence events that browsers received.
    pub presence_events: u64,
    /// Presence lists that were compared with what was known.
    pub lists_compared: u64,
    /// Broadcasts that arrived with their position, in an encoding that tells it.
    pub positions_seen: u64,
    /// Subscriptions of presence channels that nobody was to know of.
    pub hidden_subscriptions: u64,
    /// Answers that carried a `ref`.
    pub named_answers: u64,
    /// Tokens that authenticated somebody.
    pub tokens_spent: u64,
    /// Direct messages that were delivered.
    pub messages: u64,
    /// Changes that the control thread made by itself.
    pub changes: u64,
}

impl Outcome {
    /// One figure, over all shards.
    #[must_use]
    pub fn figure(&self, figure: Figure) -> u64 {
        self.figures[figure as usize]
    }

    /// One figure of the exchange.
    #[must_use]
    pub fn exchange_figure(&self, figure: ExchangeFigure) -> u64 {
        self.exchange_figures[figure as usize]
    }
}
