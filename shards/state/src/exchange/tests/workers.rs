//! What workers over ZeroMQ say, and what they are given.

use super::*;
use crate::exchange::{
    CONGESTION_PAUSE, ExchangeFigure, FILTERS_MAX, HEARTBEAT_INTERVAL, SILENCE_MAX, Transport,
};

const NOTHING: [&str; 0] = [];

impl Bench {
    /// Carries out the next order as a full way: it comes back.
    fn find_full(&mut self) -> String {
        let order = self.exchange.next_order().expect("something to send");
        let shown = text(&order);
        self.exchange.handle(self.now, ExchangeInput::Full { order });
        shown
    }

    fn queue(&mut self, vhost: VhostId) -> crate::exchange::QueueInfo {
        self.apply(|ticket| ExchangeCommand::ShowQueue { ticket, vhost }).expect("a vhost")
    }
}

#[test]
fn a_worker_with_a_window_acknowledges() {
    let mut bench = Bench::new();
    assert_eq!(bench.trigger(MOON, "job"), Answer::AssignationFailed);
    assert_eq!(bench.hear("w", &["RD", "job|task", "2"]), NOTHING);
    assert_eq!(bench.trigger(MOON, "other"), Answer::AssignationFailed);
    for _ in 0..3 {
        assert_eq!(bench.trigger(MOON, "job"), Answer::Triggered);
    }
    assert_eq!(bench.sent(), ["w: TR 2 #1", "w: TR 3 #2"], "the third waits");
    assert_eq!(bench.hear("w", &["AK", "7"]), NOTHING, "it has no such trigger");
    assert_eq!(bench.hear("w", &["AK", "2"]), ["w: TR 4 #3"]);
    assert_eq!(bench.hear("w", &["NK", "1"]), ["w: TR 2 #1"], "there is nobody else");
    let queue = bench.queue(MOON);
    assert_eq!((queue.placed, queue.refused, queue.redelivered, queue.outstanding), (3, 2, 1, 2));
}

#[test]
fn a_worker_without_window_gets_everything_at_once() {
    let mut bench = Bench::new();
    bench.say("w", &["RD"]);
    for _ in 0..3 {
        bench.trigger(MOON, "job");
    }
    assert_eq!(bench.sent(), ["w: TR 0", "w: TR 1", "w: TR 2"]);
    assert_eq!(bench.hear("w", &["AK", "1"]), NOTHING);
    bench.gone("w");
    bench.say("v", &["RD"]);
    assert_eq!(bench.sent(), NOTHING, "what was sent is done with");
}

#[test]
fn a_vhosts_workers_have_a_bounded_number_of_different_filters() {
    let mut bench = Bench::new();
    for number in 0..FILTERS_MAX {
        assert_eq!(bench.hear(&format!("w{number}"), &["RD", &format!("job{number}")]), NOTHING);
    }
    assert_eq!(bench.hear("late", &["RD", "other"]), ["late: ER 503 Service unavailable"]);
    assert_eq!(bench.hear("late", &["RD", "job7"]), NOTHING, "there is such a one");
    bench.gone("w0");
    assert_eq!(bench.hear("later", &["RD", "other"]), NOTHING);
}

#[test]
fn who_is_no_ready_worker_is_told_to_go() {
    let mut bench = Bench::new();
    for frames in [&["AK", "1"][..], &["NK", "1"], &["HB"]] {
        assert_eq!(bench.hear("w", frames), ["w: QT"]);
    }
    assert_eq!(bench.hear("w", &["QT"]), NOTHING);
    for frames in
        [&["RD", "("][..], &["RD", &"x".repeat(1025)], &["RD", "a", "0"], &["RD", "a", "1001"], &["AK", "x"]]
    {
        assert_eq!(bench.hear("w", frames), ["w: ER 400 Bad request"], "{frames:?}");
    }
    assert_eq!(bench.trigger(MOON, "job"), Answer::AssignationFailed);
    bench.say("w", &["RD", "", "5"]);
    assert_eq!(bench.hear("w", &["RD", "(", "5"]), ["w: ER 400 Bad request"]);
    assert_eq!(bench.trigger(MOON, "job"), Answer::Triggered, "it stays what it was");
}

#[test]
fn what_a_worker_leaves_behind_goes_to_others_first() {
    for leaves in [
        |bench: &mut Bench| bench.say("w", &["QT"]),
        |bench: &mut Bench| bench.gone("w"),
        |bench: &mut Bench| bench.say("w", &["RD", "never", "1"]),
    ] {
        let mut bench = Bench::new();
        bench.say("w", &["RD", "job", "3"]);
        for _ in 0..5 {
            bench.trigger(MOON, "job");
        }
        assert_eq!(bench.sent().len(), 3);
        leaves(&mut bench);
        assert_eq!(bench.sent(), NOTHING);
        bench.say("v", &["RD", "job", "10"]);
        let order = ["v: TR 0 #1", "v: TR 1 #2", "v: TR 2 #3", "v: TR 3 #4", "v: TR 4 #5"];
        assert_eq!(bench.sent(), order);
    }
}

#[test]
fn a_worker_that_is_ready_again_begins_anew() {
    let mut bench = Bench::new();
    bench.say("w", &["RD", "a", "1"]);
    for _ in 0..2 {
        bench.trigger(MOON, "a");
    }
    assert_eq!(bench.sent(), ["w: TR 0 #1"]);
    assert_eq!(bench.hear("w", &["RD", "a", "5"]), ["w: TR 0 #1", "w: TR 1 #2"]);
    let workers = bench.apply(|ticket| ExchangeCommand::ListWorkers { ticket, vhost: MOON });
    let shown: Vec<_> =
        workers.iter().map(|info| (info.transport, &*info.filter, info.window, info.outstanding)).collect();
    assert_eq!(shown, [(Transport::ZeroMq, "a", Some(5), 2)]);
    assert_eq!(bench.exchange.figures.value(ExchangeFigure::ZeroMqWorkers), 1);
}

#[test]
fn both_sides_give_signs_of_life() {
    let mut bench = Bench::new();
    bench.say("w", &["RD", "a", "1"]);
    bench.say("silent", &["RD", "b", "1"]);
    let second = HEARTBEAT_INTERVAL.as_millis().try_into().unwrap();
    for _ in 0..2 {
        assert_eq!(bench.exchange.next_deadline(), Some(bench.now + HEARTBEAT_INTERVAL));
        bench.pass_time(second);
        assert_eq!(bench.sent(), ["w: HB", "silent: HB"]);
        assert_eq!(bench.hear("w", &["HB"]), NOTHING);
    }
    bench.trigger(MOON, "b");
    assert_eq!(bench.sent(), ["silent: TR 0 #1"]);
    bench.pass_time(u64::try_from(SILENCE_MAX.as_millis()).unwrap() - 2 * second);
    assert_eq!(bench.sent(), ["silent: QT", "w: HB"]);
    assert_eq!(bench.hear("v", &["RD", ".*", "1"]), ["v: TR 0 #1"]);
    assert_eq!(bench.hear("silent", &["HB"]), ["silent: QT"]);
    assert_eq!(bench.exchange.figures.value(ExchangeFigure::WorkersExpired), 1);
    // Any message is a sign of life.
    bench.pass_time(2 * second - 1);
    assert!(bench.hear("w", &["PR", "-"]).contains(&"w: ER 454 Channel not found".to_owned()));
    bench.pass_time(3 * second - 1);
    let sent = bench.sent();
    assert!(sent.contains(&"v: QT".to_owned()) && sent.contains(&"w: HB".to_owned()), "{sent:?}");
    assert!(!sent.contains(&"w: QT".to_owned()), "{sent:?}");
}

#[test]
fn those_who_die_together_inherit_nothing_from_each_other() {
    let mut bench = Bench::with(Settings { trigger_redeliveries_max: 1, ..Settings::default() });
    for name in ["a", "b", "c", "d"] {
        bench.say(name, &["RD", "job", "1"]);
    }
    for _ in 0..4 {
        bench.trigger(MOON, "job");
    }
    assert_eq!(bench.sent().len(), 4);
    bench.pass_time(SILENCE_MAX.as_millis().try_into().unwrap());
    assert_eq!(bench.sent()[..4], ["a: QT", "b: QT", "c: QT", "d: QT"]);
    assert_eq!(bench.queue(MOON).waiting, 4);
    bench.say("v", &["RD", "job", "4"]);
    assert_eq!(bench.sent(), ["v: TR 0 #1", "v: TR 1 #2", "v: TR 2 #3", "v: TR 3 #4"]);
    bench.gone("v");
    assert_eq!(bench.sent(), ["give up /moon job"; 4]);
    assert_eq!(bench.queue(MOON).dead, 4);
}

#[test]
fn what_finds_the_way_full_waits_in_its_place() {
    for window in [None, Some("9")] {
        let mut bench = Bench::new();
        let ready: Vec<_> = ["RD", "job"].into_iter().chain(window).collect();
        bench.say("w", &ready);
        for _ in 0..4 {
            bench.trigger(MOON, "job");
        }
        let ids = |from: usize| -> Vec<String> {
            let shown = |number: usize| {
                let id = window.map(|_| format!(" #{}", number + 1)).unwrap_or_default();
                format!("w: TR {number}{id}")
            };
            (from..4).map(shown).collect()
        };
        let first = bench.exchange.next_order().unwrap();
        assert_eq!(text(&first), ids(0)[0]);
        assert_eq!(bench.find_full(), ids(1)[0]);
        assert_eq!(bench.sent(), NOTHING, "what stands behind it is not sent either");
        assert_eq!(bench.queue(MOON).waiting, 3);
        bench.now += CONGESTION_PAUSE;
        bench.exchange.handle(bench.now, ExchangeInput::Deadline);
        assert_eq!(bench.sent(), ids(1));
        assert_eq!(bench.queue(MOON).redelivered, 0, "nobody had them");
    }
}

#[test]
fn what_is_not_sent_yet_is_not_a_workers_to_handle() {
    let mut bench = Bench::new();
    bench.say("w", &["RD", "job", "1"]);
    bench.trigger(MOON, "job");
    bench.say("w", &["AK", "1"]);
    bench.say("w", &["NK", "1"]);
    assert_eq!(bench.queue(MOON).outstanding, 1);
    assert_eq!(bench.sent(), ["w: TR 0 #1"]);
    bench.say("w", &["AK", "1"]);
    assert_eq!(bench.queue(MOON).outstanding, 0);
}

#[test]
fn what_was_not_sent_to_a_worker_that_goes_is_not_counted_as_had() {
    let mut bench = Bench::with(Settings { trigger_redeliveries_max: 0, ..Settings::default() });
    for window in [&["RD", "job"][..], &["RD", "job", "1"]] {
        bench.say("w", window);
        bench.trigger(MOON, "job");
        bench.gone("w");
        assert_eq!(bench.sent(), NOTHING);
    }
    bench.say("v", &["RD"]);
    assert_eq!(bench.sent(), ["v: TR 0", "v: TR 1"]);
}

#[test]
fn a_worker_may_ask_too() {
    let mut bench = Bench::new();
    bench.say("w", &["RD", "job", "5"]);
    bench.say("w", &["OC", "news"]);
    let ExchangeReport::OpenChannel { request, .. } = bench.report() else {
        panic!("a channel was to be opened")
    };
    bench.trigger(MOON, "job");
    bench.say("w", &["QT"]);
    bench.command(ExchangeCommand::ChannelChanged { request, outcome: Ok(()) });
    assert_eq!(bench.sent(), ["w: OK"]);
    assert_eq!(bench.exchange.peers.find(b"w"), None);
}

#[test]
fn a_full_queue_refuses() {
    let mut bench = Bench::with(Settings { trigger_queue_max: 2, ..Settings::default() });
    bench.say("w", &["RD", "job", "1"]);
    let answers: Vec<_> = (0..4).map(|_| bench.trigger(MOON, "job")).collect();
    assert_eq!(answers[2..], [Answer::Triggered, Answer::AssignationFailed]);
    bench.put_vhost(MOON, "/moon", Settings { trigger_queue_bytes_max: 400, ..Settings::default() });
    let placed = (0..100).filter(|_| bench.trigger(MOON, "job") == Answer::Triggered).count();
    let queue = bench.queue(MOON);
    assert!(placed > 0 && queue.waiting == 2 + placed as u64 && queue.waiting_bytes <= 400, "{queue:?}");
}

#[test]
fn who_shuts_down_tells_all_workers() {
    let mut bench = Bench::new();
    bench.say("w", &["RD", "job", "1"]);
    bench.say_on(SUN, "v", &["RD"]);
    bench.trigger(MOON, "job");
    bench.command(ExchangeCommand::Shutdown);
    assert_eq!(bench.sent(), ["w: QT", "cut 1", "v: QT", "cut 2", "stop"]);
    assert_eq!(bench.trigger(MOON, "job"), Answer::AssignationFailed);
    assert_eq!(bench.hear("w", &["RD"]), ["w: QT"]);
}

#[test]
fn nobody_is_silent_to_one_who_cannot_listen() {
    let mut bench = Bench::new();
    bench.say("w", &["RD"]);
    bench.now += SILENCE_MAX;
    bench.exchange.handle(bench.now, ExchangeInput::Delayed);
    bench.exchange.handle(bench.now, ExchangeInput::Deadline);
    assert_eq!(bench.sent(), ["w: HB"], "it may have spoken");
    bench.now += SILENCE_MAX;
    bench.exchange.handle(bench.now, ExchangeInput::Deadline);
    assert_eq!(bench.sent(), ["w: QT"], "it has not");
}
