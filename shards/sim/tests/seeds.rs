//! Runs seeds: every promise is kept, everything that is worth trying is tried, and a fault put in
//! on purpose is noticed.

use std::thread;

use webrocket_sim::{
    canary::Canary,
    oracles::Violation,
    run,
    theme::Theme,
    world::{Options, Outcome},
};
use webrocket_state::{exchange::ExchangeFigure, metrics::Figure};

/// Runs seeds on two threads; what came of each.
fn run_all(seeds: std::ops::Range<u64>, options: Options) -> Vec<(u64, Result<Outcome, Violation>)> {
    let half = |parity: u64| {
        let seeds = seeds.clone().filter(move |seed| seed % 2 == parity);
        move || seeds.map(|seed| (seed, run(seed, options))).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let halves = [scope.spawn(half(0)), scope.spawn(half(1))];
        halves.into_iter().flat_map(|half| half.join().expect("panics are caught")).collect()
    })
}

/// Runs seeds that must not fail.
fn run_well(seeds: std::ops::Range<u64>, options: Options) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut failures = String::new();
    for (seed, outcome) in run_all(seeds, options) {
        match outcome {
            Ok(outcome) if outcome.violations.is_empty() => outcomes.push(outcome),
            Ok(outcome) => failures.push_str(&format!("\nseed {seed}: {}", outcome.violations[0])),
            Err(violation) => failures.push_str(&format!("\nseed {seed}: {violation}")),
        }
    }
    assert!(failures.is_empty(), "{failures}");
    outcomes
}

fn sum(outcomes: &[Outcome], value: impl Fn(&Outcome) -> u64) -> u64 {
    outcomes.iter().map(value).sum()
}

#[test]
fn every_promise_is_kept_and_everything_is_tried() {
    let outcomes = run_well(160..200, Options::default());
    for theme in Theme::ALL {
        assert!(outcomes.iter().any(|outcome| outcome.theme == theme), "{theme:?}");
    }
    let tried = [
        ("events", sum(&outcomes, |outcome| outcome.deliveries), 50_000),
        ("presence events", sum(&outcomes, |outcome| outcome.presence_events), 3_000),
        ("broadcasts with their position", sum(&outcomes, |outcome| outcome.positions_seen), 20_000),
        ("presence lists compared", sum(&outcomes, |outcome| outcome.lists_compared), 500),
        ("hidden subscriptions", sum(&outcomes, |outcome| outcome.hidden_subscriptions), 200),
        ("answers with their ref", sum(&outcomes, |outcome| outcome.named_answers), 5_000),
        ("tokens spent", sum(&outcomes, |outcome| outcome.tokens_spent), 100),
        ("direct messages", sum(&outcomes, |outcome| outcome.messages), 300),
        ("changes by the control thread", sum(&outcomes, |outcome| outcome.changes), 100),
        ("messages between shards", sum(&outcomes, |outcome| outcome.counters.shard_messages), 10_000),
        ("partial sends", sum(&outcomes, |outcome| outcome.counters.partial_sends), 1_000),
        ("late shards", sum(&outcomes, |outcome| outcome.counters.pauses), 100),
        ("congested turns", sum(&outcomes, |outcome| outcome.counters.congested_turns), 10),
        ("triggers acknowledged", sum(&outcomes, |outcome| outcome.triggers_acknowledged), 3_000),
        ("answers to clients", sum(&outcomes, |outcome| outcome.client_answers), 10_000),
        ("handed over", sum(&outcomes, |outcome| outcome.counters.hand_offs), 5),
    ];
    for (what, count, least) in tried {
        assert!(count >= least, "{what}: {count}");
    }
    for figure in [
        Figure::Refused,
        Figure::ProtocolErrors,
        Figure::SlowConsumers,
        Figure::IdleTimeouts,
        Figure::ChannelLimitHits,
        Figure::SubscriptionLimitHits,
        Figure::RequestPauses,
        Figure::OutputPauses,
        Figure::LinkPauses,
    ] {
        assert!(sum(&outcomes, |outcome| outcome.figure(figure)) > 0, "{figure:?}");
    }
    for figure in [
        ExchangeFigure::Refused,
        ExchangeFigure::Redelivered,
        ExchangeFigure::Dead,
        ExchangeFigure::WorkersExpired,
        ExchangeFigure::CopiesSent,
        ExchangeFigure::CopiesDropped,
        ExchangeFigure::SourcesCut,
        ExchangeFigure::ClientErrors,
    ] {
        assert!(sum(&outcomes, |outcome| outcome.exchange_figure(figure)) > 0, "{figure:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for theme in Theme::ALL {
        let options = Options { theme: Some(theme), ..Options::default() };
        let traces: Vec<_> = (0..2)
            .map(|_| run(1, options).map(|outcome| (outcome.trace, outcome.counters.turns)).ok())
            .collect();
        assert!(traces[0].is_some() && traces[0] == traces[1], "{theme:?}: {traces:?}");
    }
}

fn is_noticed(canary: Canary) {
    // A trigger is not redelivered under each seed.
    let seeds = if canary == Canary::LostRedelivery { 12 } else { 8 };
    let outcomes = run_all(0..seeds, Options { canary: Some(canary), ..Options::default() });
    let (mut put_in, mut noticed) = (0, 0);
    for (seed, outcome) in outcomes {
        let outcome = outcome.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let faulty = outcome.counters.faults > 0;
        assert!(faulty || outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
        put_in += u32::from(faulty);
        noticed += u32::from(faulty && !outcome.violations.is_empty());
    }
    assert!(put_in >= 6 && noticed == put_in, "{canary:?}: {noticed} of {put_in}");
}

#[test]
fn two_broadcasts_that_change_places_are_noticed() {
    is_noticed(Canary::Swap);
}

#[test]
fn a_broadcast_that_is_dropped_is_noticed() {
    is_noticed(Canary::Drop);
}

#[test]
fn a_broadcast_that_is_doubled_is_noticed() {
    is_noticed(Canary::Double);
}

#[test]
fn a_member_whose_leaving_is_lost_is_noticed() {
    is_noticed(Canary::LostLeave);
}

#[test]
fn a_member_that_joins_twice_is_noticed() {
    is_noticed(Canary::DoubledJoin);
}

#[test]
fn a_list_that_misses_a_member_is_noticed() {
    is_noticed(Canary::ShortList);
}

#[test]
fn a_leave_that_is_acknowledged_before_its_effect_is_noticed() {
    is_noticed(Canary::LateLeave);
}

#[test]
fn a_token_that_is_given_away_twice_is_noticed() {
    is_noticed(Canary::TokenTwice);
}

#[test]
fn a_trigger_that_is_lost_on_its_second_way_is_noticed() {
    is_noticed(Canary::LostRedelivery);
}

#[test]
fn a_trigger_that_is_sent_twice_is_noticed() {
    is_noticed(Canary::DoubledTrigger);
}
