//! Tries seeds and says which fail, and how to see it again.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use webrocket_sim::{
    canary::Canary,
    run,
    theme::Theme,
    world::{Options, Outcome},
};
use webrocket_state::{
    exchange::figures::EXCHANGE_FIGURES,
    metrics::{FIGURES, Figure},
};

#[derive(Debug, Parser)]
#[command(name = "webrocket-sim", about = "Simulates a whole broker, seed by seed")]
struct Arguments {
    /// How many seeds to try
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many shards; by lot where not given
    #[arg(long)]
    shards: Option<usize>,
    /// What the runs are about; by lot where not given
    #[arg(long)]
    theme: Option<Theme>,
    /// A fault to put in; the run must fail
    #[arg(long)]
    canary: Option<Canary>,
    /// One line for each seed, and everything that was violated
    #[arg(long)]
    verbose: bool,
}

/// What all runs came to.
#[derive(Debug, Default)]
struct Summary {
    failed: u64,
    lines: Vec<(&'static str, u64)>,
}

impl Summary {
    fn add(&mut self, name: &'static str, amount: u64) {
        match self.lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += amount,
            None => self.lines.push((name, amount)),
        }
    }

    fn most(&mut self, name: &'static str, amount: u64) {
        match self.lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, most)) => *most = amount.max(*most),
            None => self.lines.push((name, amount)),
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        let counters = outcome.counters;
        self.add("turns", counters.turns);
        self.add("requests", outcome.requests);
        self.add("events received", outcome.deliveries);
        self.add("presence events received", outcome.presence_events);
        self.add("positions seen", outcome.positions_seen);
        self.add("presence lists compared", outcome.lists_compared);
        self.add("hidden subscriptions", outcome.hidden_subscriptions);
        self.add("answers with their ref", outcome.named_answers);
        self.add("tokens spent", outcome.tokens_spent);
        self.add("direct messages delivered", outcome.messages);
        self.add("triggers acknowledged", outcome.triggers_acknowledged);
        self.add("answers to clients over ZeroMQ", outcome.client_answers);
        self.add("bytes received", counters.bytes_received);
        self.add("messages between shards", counters.shard_messages);
        self.add("partial sends", counters.partial_sends);
        self.most("most messages before one queue", counters.waiting_most);
        self.add("late shards", counters.pauses);
        self.add("congested turns", counters.congested_turns);
        self.add("changes by the control thread", outcome.changes);
        self.add("connections handed over", counters.hand_offs);
        self.add("faults put in", counters.faults);
        let figures = FIGURES.iter().zip(outcome.figures);
        for (info, value) in figures.chain(EXCHANGE_FIGURES.iter().zip(outcome.exchange_figures)) {
            if info.name.ends_with("_total") {
                self.add(info.name, value);
            }
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let options = Options { shards: arguments.shards, theme: arguments.theme, canary: arguments.canary };
    let end = arguments.first.checked_add(arguments.seeds).context("there are no seeds behind 2^64")?;
    let mut summary = Summary::default();
    for seed in arguments.first..end {
        let (violations, about) = match run(seed, options) {
            Ok(outcome) => {
                summary.count(&outcome);
                let about = format!(
                    "{:?} on {} shards, {} requests, {} events, {} slow consumers, trace {:016x}",
                    outcome.theme,
                    outcome.shards,
                    outcome.requests,
                    outcome.deliveries,
                    outcome.figure(Figure::SlowConsumers),
                    outcome.trace
                );
                (outcome.violations, about)
            }
            Err(violation) => (vec![violation], "ended early".to_owned()),
        };
        if arguments.verbose {
            println!("seed {seed}: {about}");
        }
        let Some(first) = violations.first() else { continue };
        summary.failed += 1;
        println!("seed {seed} FAILED: {first} | again: {}", again(seed, &arguments));
        if arguments.verbose {
            violations[1..].iter().for_each(|violation| println!("    {violation}"));
        }
    }
    println!("{} seeds, {} failed", arguments.seeds, summary.failed);
    for (name, sum) in &summary.lines {
        println!("{sum:>14} {name}");
    }
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that shows a failure again.
fn again(seed: u64, arguments: &Arguments) -> String {
    let shards = arguments.shards.map(|shards| format!(" --shards {shards}")).unwrap_or_default();
    let theme = arguments.theme.map(|theme| format!(" --theme {}", name(&theme))).unwrap_or_default();
    let canary = arguments.canary.map(|canary| format!(" --canary {}", name(&canary))).unwrap_or_default();
    format!("cargo run -p webrocket-sim -- --first {seed} --seeds 1{shards}{theme}{canary} --verbose")
}

/// A value as it is given on the command line.
fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
