//! Who is let in, who is cut off, and what vhosts know of each other: nothing.

use super::*;
use crate::exchange::message::{SourceId, SourceMode};

#[test]
fn nobody_is_let_in_before_everything_is_in_effect() {
    let mut exchange = Exchange::new(ExchangeConfig { directory: Directory::new(SHARDS, 7) });
    let now = Instant::now();
    let token = AccessToken::from_bytes([1; 20]);
    let digits = token.reveal();
    let keys = Arc::new(BTreeSet::from([BackendKey::from_bytes([7; 32])]));
    let vhost = Arc::new(Vhost {
        id: MOON,
        path: "/moon".parse().unwrap(),
        settings: Settings::default(),
        users: Default::default(),
        channels: Arc::default(),
    });
    for command in [
        ExchangeCommand::PutAccess { ticket: Ticket::new(0), vhost: MOON, token, keys },
        ExchangeCommand::PutVhost { ticket: Ticket::new(0), vhost },
    ] {
        exchange.handle(now, ExchangeInput::Command(command));
    }
    assert_eq!(exchange.authenticate(b"/moon", digits.as_bytes()), None);
    assert_eq!(exchange.authenticate_key(&[7; 32]), None);
    assert!(exchange.next_order().is_none(), "there is nobody to be cut off");
    exchange.handle(now, ExchangeInput::Command(ExchangeCommand::Serve));
    let pass = exchange.authenticate(b"/moon", digits.as_bytes());
    assert!(exchange.is_serving() && pass.is_some() && exchange.authenticate_key(&[7; 32]) == pass);
}

#[test]
fn another_token_cuts_off_all_who_had_the_old_one() {
    let mut bench = Bench::new();
    let old = bench.passes[&MOON];
    bench.say("w", &["RD", "job", "1"]);
    bench.say("v", &["RD", "job", "1"]);
    bench.say_on(SUN, "other", &["RD", "job", "1"]);
    bench.exchange.handle(bench.now, ExchangeInput::Subscribed { pass: old, topic: b"/moon:" });
    for _ in 0..3 {
        bench.trigger(MOON, "job");
    }
    bench.say("c", &["OC", "news"]);
    bench.say("c", &["OC", "more"]);
    bench.sent();
    let ExchangeReport::OpenChannel { request, .. } = bench.report() else {
        panic!("a channel was to be opened")
    };

    bench.put_access(MOON, 3);
    assert_eq!(bench.sent(), ["w: QT", "v: QT", "cut 1"]);
    assert!(!bench.exchange.is_valid(old) && !bench.exchange.admits(old, b"/moon:"));
    bench.command(ExchangeCommand::ChannelChanged { request, outcome: Ok(()) });
    assert_eq!(bench.sent(), ["c: OK", "c: ER 402 Unauthorized"], "what had not begun is refused");
    assert!(bench.exchange.next_report().is_none());
    for (frames, reply) in [
        (&["OC", "news"][..], "c: ER 402 Unauthorized"),
        (&["XX"], "c: ER 402 Unauthorized"),
        (&["RD"], "c: QT"),
        (&["HB"], "c: QT"),
    ] {
        assert_eq!(bench.hear("c", frames), [reply], "{frames:?}");
    }
    assert_eq!(bench.hear("w", &["QT"]), [""; 0]);
    assert_eq!(bench.trigger(MOON, "job"), Answer::AssignationFailed, "no worker, and the stream is cut");
    let late = ExchangeInput::Unsubscribed { pass: old, topic: b"/moon:" };
    bench.exchange.handle(bench.now, late);

    let new = bench.let_in(MOON);
    bench.passes.insert(MOON, new);
    assert_eq!(bench.hear("w", &["RD", "job", "9"]), ["w: TR 0 #1", "w: TR 1 #2", "w: TR 2 #3"]);
    assert_eq!(bench.trigger(SUN, "job"), Answer::Triggered);
    assert_eq!(bench.sent(), ["other: TR 4 #1"]);
}

#[test]
fn a_key_that_is_taken_away_cuts_off_and_a_further_one_does_not() {
    let mut bench = Bench::new();
    let token = AccessToken::from_bytes([1; 20]);
    bench.put_keys(MOON, token, &[7]);
    let pass = bench.exchange.authenticate_key(&[7; 32]).unwrap();
    bench.passes.insert(MOON, pass);
    bench.say("w", &["RD", "job", "5"]);
    bench.trigger(MOON, "job");
    bench.sent();
    bench.put_keys(MOON, token, &[7, 8]);
    bench.put_keys(MOON, token, &[7, 8]);
    assert_eq!(bench.sent(), [""; 0]);
    assert_eq!(bench.hear("c", &["CC", "-"]), ["c: ER 454 Channel not found"], "nobody was cut off");

    bench.put_keys(MOON, token, &[8]);
    assert_eq!(bench.sent(), ["w: QT", "cut 1"]);
    assert_eq!(bench.hear("c", &["CC", "-"]), ["c: ER 402 Unauthorized"]);
    assert_eq!(bench.exchange.authenticate_key(&[7; 32]), None);
    bench.passes.insert(MOON, bench.exchange.authenticate_key(&[8; 32]).unwrap());
    assert_eq!(bench.hear("v", &["RD", "job", "5"]), ["v: TR 0 #1"]);
    assert_eq!(bench.trigger(SUN, "job"), Answer::AssignationFailed, "a key is one vhost's");
}

#[test]
fn a_removed_vhost_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.say("w", &["RD", "job", "1"]);
    for _ in 0..3 {
        bench.trigger(MOON, "job");
    }
    let (source, mode) = (SourceId(1), SourceMode::Stream { window: 1 });
    let opened = bench.apply(|ticket| ExchangeCommand::OpenSource {
        ticket,
        source,
        vhost: MOON,
        filter: filter(".*"),
        mode,
    });
    assert_eq!(opened, Ok(()));
    bench.sent();
    bench.apply(|ticket| ExchangeCommand::RemoveVhost { ticket, vhost: MOON });
    assert_eq!(bench.sent(), ["w: QT", "cut 1"]);
    assert!(matches!(bench.report(), ExchangeReport::SourceClosed { source: SourceId(1) }));
    assert_eq!(bench.trigger(MOON, "job"), Answer::AssignationFailed);
    assert_eq!(bench.hear("w", &["RD"]), ["w: QT"]);
    assert_eq!(bench.hear("c", &["BC", "a", "b", "1"]), ["c: ER 402 Unauthorized"]);
    let asked = bench.apply(|ticket| ExchangeCommand::ShowQueue { ticket, vhost: MOON });
    assert_eq!(asked, Err(VhostNotFound));
    let figures = bench.exchange.figures().to_vec();
    let gauges = crate::exchange::figures::EXCHANGE_FIGURES.iter().zip(figures);
    for (info, value) in gauges.filter(|(info, _)| info.kind == crate::metrics::FigureKind::Gauge) {
        assert_eq!(value, 0, "{}", info.name);
    }
    assert_eq!(bench.exchange.figures.value(crate::exchange::ExchangeFigure::Dropped), 2);
}

#[test]
fn vhosts_know_nothing_of_each_other() {
    let mut bench = Bench::new();
    bench.say_on(SUN, "w", &["RD"]);
    bench.exchange.handle(bench.now, ExchangeInput::Subscribed { pass: bench.passes[&SUN], topic: b"/sun:" });
    assert_eq!(bench.trigger(MOON, "job"), Answer::AssignationFailed);
    assert_eq!(bench.trigger(SUN, "job"), Answer::Triggered);
    assert_eq!(bench.sent(), ["/sun:job 1", "w: TR 1"]);
    for topic in [&b""[..], b"/", b"/moon:", b"/sun"] {
        assert!(!bench.exchange.admits(bench.passes[&SUN], topic));
        bench.exchange.handle(bench.now, ExchangeInput::Subscribed { pass: bench.passes[&SUN], topic });
    }
    assert_eq!(bench.trigger(MOON, "job"), Answer::AssignationFailed);
}

/// A peer that calls itself like another one, of another vhost or from before, is somebody else.
#[test]
fn a_name_is_worth_nothing() {
    let mut bench = Bench::new();
    bench.say_on(SUN, "w", &["RD", "job", "5"]);
    bench.trigger(SUN, "job");
    assert_eq!(bench.sent(), ["w: TR 0 #1"]);
    assert_eq!(bench.hear("w", &["AK", "1"]), ["w: QT"], "of another vhost");
    assert_eq!(
        bench.trigger(SUN, "job"),
        Answer::AssignationFailed,
        "the worker's connection is another's now"
    );
    bench.say_on(SUN, "v", &["RD", "job", "5"]);
    assert_eq!(bench.sent(), ["v: TR 0 #1"]);
}
