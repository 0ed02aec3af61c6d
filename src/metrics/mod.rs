//! Figures for operators: where shards and the exchange leave theirs, and how all of them are
//! written down.
//!
//! A machine counts in plain integers; its driver copies them to the [`Board`] from time to time. Whoever reads the board sees each figure whole, but not all of them of one moment.

mod exposition;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use webrocket_state::{
    ShardId,
    exchange::figures::{EXCHANGE_FIGURE_COUNT, EXCHANGE_FIGURES},
    metrics::{FIGURE_COUNT, FIGURES},
};

use crate::driver::turns::LongestTurn;

pub use exposition::{Exposition, Kind};

/// The latest figures of every shard and of the exchange.
#[derive(Debug)]
pub struct Board {
    shards: Box<[Row<FIGURE_COUNT>]>,
    exchange: Row<EXCHANGE_FIGURE_COUNT>,
    accept_pauses: OnceLock<Arc<AtomicU64>>,
    longest_turns: OnceLock<Box<[Arc<LongestTurn>]>>,
}

/// The figures of one machine, on cache lines of their own: its stores disturb no other.
#[derive(Debug)]
#[repr(align(128))]
struct Row<const N: usize>([AtomicU64; N]);

impl<const N: usize> Row<N> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    fn store(&self, figures: &[u64]) {
        assert_eq!(figures.len(), N, "a machine publishes all of its figures");
        for (cell, &figure) in self.0.iter().zip(figures) {
            cell.store(figure, Ordering::Relaxed);
        }
    }
}

impl Board {
    /// A board for `shards` shards, all figures 0.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self {
            shards: (0..shards).map(|_| Row::new()).collect(),
            exchange: Row::new(),
            accept_pauses: OnceLock::new(),
            longest_turns: OnceLock::new(),
        }
    }

    /// Shows the driver's count of pauses in accepting, too.
    pub fn show_accept_pauses(&self, pauses: Arc<AtomicU64>) {
        // A board belongs to one driver, which shows its count once.
        let _ = self.accept_pauses.set(pauses);
    }

    /// Shows how long the driver's turns take, too, by shard.
    pub fn show_longest_turns(&self, turns: Box<[Arc<LongestTurn>]>) {
        // As above.
        let _ = self.longest_turns.set(turns);
    }

    /// Stores a shard's figures, in the order of [`FIGURES`].
    ///
    /// # Panics
    /// If the board has no such shard or there are not [`FIGURE_COUNT`] figures.
    pub fn publish(&self, shard: ShardId, figures: &[u64]) {
        self.shards[shard.index()].store(figures);
    }

    /// Stores the exchange's figures, in the order of [`EXCHANGE_FIGURES`].
    ///
    /// # Panics
    /// If there are not [`EXCHANGE_FIGURE_COUNT`] figures.
    pub fn publish_exchange(&self, figures: &[u64]) {
        self.exchange.store(figures);
    }

    /// Writes all figures; of those that all shards have, one series a shard.
    pub fn write(&self, exposition: &mut Exposition) {
        if let Some(pauses) = self.accept_pauses.get() {
            let name = "accept_pauses_total";
            let help = "Times that a shard accepted nothing for a while because file descriptors ran short.";
            exposition.family(name, help, Kind::Counter);
            exposition.sample(name, &[], pauses.load(Ordering::Relaxed));
        }
        self.write_turns(exposition);
        for (index, info) in FIGURES.iter().enumerate() {
            exposition.family(info.name, info.help, info.kind.into());
            for (shard, row) in self.shards.iter().enumerate() {
                let value = row.0[index].load(Ordering::Relaxed);
                exposition.sample(info.name, &[("shard", &shard.to_string())], value);
            }
        }
        for (info, cell) in EXCHANGE_FIGURES.iter().zip(&self.exchange.0) {
            exposition.single(info.name, info.help, info.kind.into(), cell.load(Ordering::Relaxed));
        }
    }

    fn write_turns(&self, exposition: &mut Exposition) {
        let Some(turns) = self.longest_turns.get() else { return };
        let mut family = |name, help, length: fn(&LongestTurn) -> Duration| {
            exposition.family(name, help, Kind::Gauge);
            for (shard, turn) in turns.iter().enumerate() {
                let length = u64::try_from(length(turn).as_micros()).unwrap_or(u64::MAX);
                exposition.sample(name, &[("shard", &shard.to_string())], length);
            }
        };
        family(
            "longest_turn_microseconds",
            "Longest time of the last 10 to 20 s for which the shard served nobody else.",
            LongestTurn::wall,
        );
        family(
            "longest_turn_processor_microseconds",
            "The same in processor time: without what the system ran on the shard's core meanwhile.",
            LongestTurn::processor,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use webrocket_state::{
        exchange::{ExchangeFigure, ExchangeFigures},
        metrics::{Figure, Figures},
    };

    #[test]
    fn the_exchange_has_one() {
        let board = Board::new(2);
        let mut figures = ExchangeFigures::default();
        figures.set(ExchangeFigure::Waiting, 7);
        board.publish_exchange(figures.values());
        let mut exposition = Exposition::default();
        board.write(&mut exposition);
        let text = exposition.into_text();
        assert!(text.contains("\nwebrocket_triggers_waiting 7\n"), "{text}");
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let once: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(once.len(), names.len(), "no name is given twice");
    }

    #[test]
    fn every_shard_has_its_series() {
        let board = Board::new(2);
        let mut figures = Figures::default();
        figures.add(Figure::Sessions, 7);
        board.publish(ShardId(1), figures.values());
        board.show_accept_pauses(Arc::new(AtomicU64::new(3)));
        let mut exposition = Exposition::default();
        board.write(&mut exposition);
        let text = exposition.into_text();
        assert!(text.contains("\nwebrocket_accept_pauses_total 3\n"), "{text}");
        let sessions: Vec<_> = text.lines().filter(|line| line.contains("webrocket_sessions")).collect();
        assert_eq!(
            sessions,
            [
                "# HELP webrocket_sessions Open WebSocket sessions.",
                "# TYPE webrocket_sessions gauge",
                "webrocket_sessions{shard=\"0\"} 0",
                "webrocket_sessions{shard=\"1\"} 7",
            ]
        );
    }
}
