//! Those who take events over HTTP, and streams.

use super::*;
use crate::exchange::{
    ExchangeFigure, TAKING_MAX, Transport, TriggerId,
    message::{SourceId, SourceMode},
};

impl Bench {
    fn open(&mut self, source: u64, text: &str, mode: SourceMode) -> SourceOpened {
        let (source, filter) = (SourceId(source), filter(text));
        self.apply(|ticket| ExchangeCommand::OpenSource { ticket, source, vhost: MOON, filter, mode })
    }

    /// What sources are given: `(source, id, number)`, and whether one was closed: `(source, 0, 0)`.
    fn events(&mut self) -> Vec<(u64, u64, usize)> {
        let reports = std::iter::from_fn(|| self.exchange.next_report());
        let shown = reports.map(|report| match report {
            ExchangeReport::SourceEvent { source, id, trigger } => (source.0, id.0, number(&trigger)),
            ExchangeReport::SourceClosed { source } => (source.0, 0, 0),
            other => panic!("{other:?}"),
        });
        shown.collect()
    }

    fn took(&mut self, source: u64, id: u64) {
        self.command(ExchangeCommand::SourceTook { source: SourceId(source), id: TriggerId(id) });
    }
}

const WORKER: SourceMode = SourceMode::Worker { window: 2 };
const STREAM: SourceMode = SourceMode::Stream { window: 2 };

#[test]
fn sources_share_the_work_with_other_workers() {
    let mut bench = Bench::new();
    assert_eq!(bench.open(1, "job", WORKER), Ok(()));
    bench.say("w", &["RD", "job", "2"]);
    for _ in 0..5 {
        assert_eq!(bench.trigger(MOON, "job"), Answer::Triggered);
    }
    assert_eq!(bench.events(), [(1, 1, 0), (1, 3, 2)]);
    assert_eq!(bench.sent(), ["w: TR 1 #2", "w: TR 3 #4"]);
    bench.took(1, 3);
    assert_eq!(bench.events(), [(1, 5, 4)]);
    bench.took(7, 1);
    bench.command(ExchangeCommand::CloseSource { source: SourceId(1) });
    bench.say("w", &["AK", "2"]);
    bench.say("w", &["AK", "4"]);
    assert_eq!(bench.sent(), ["w: TR 0 #1", "w: TR 4 #5"], "what it did not take goes to others, in order");
    bench.took(1, 1);
    assert_eq!(bench.events(), []);
    let workers = bench.apply(|ticket| ExchangeCommand::ListWorkers { ticket, vhost: MOON });
    assert_eq!(workers.iter().map(|info| info.transport).collect::<Vec<_>>(), [Transport::ZeroMq]);
}

#[test]
fn a_source_is_open_on_a_vhost() {
    let mut bench = Bench::new();
    bench.apply(|ticket| ExchangeCommand::RemoveVhost { ticket, vhost: MOON });
    assert_eq!(bench.open(1, "job", WORKER), Err(VhostNotFound));
}

#[test]
fn who_takes_nothing_is_cut() {
    let mut bench = Bench::new();
    bench.open(1, "job", WORKER).unwrap();
    let limit: u64 = TAKING_MAX.as_millis().try_into().unwrap();
    bench.pass_time(10 * limit);
    assert_eq!((bench.events(), bench.exchange.next_deadline()), (vec![], None), "nothing waits for it");
    bench.trigger(MOON, "job");
    bench.trigger(MOON, "job");
    bench.pass_time(limit - 1);
    bench.took(1, 1);
    assert_eq!(bench.events(), [(1, 1, 0), (1, 2, 1)]);
    bench.pass_time(limit - 1);
    assert_eq!(bench.events(), [], "it has taken something");
    bench.pass_time(1);
    assert_eq!(bench.events(), [(1, 0, 0)]);
    assert_eq!(bench.exchange.figures.value(ExchangeFigure::SourcesCut), 1);
    assert_eq!(bench.hear("w", &["RD", "job", "2"]), ["w: TR 1 #2"]);
    assert_eq!(bench.exchange.figures.value(ExchangeFigure::EventSourceWorkers), 0);
}

#[test]
fn streams_get_copies_while_they_have_room() {
    let mut bench = Bench::new();
    bench.open(1, "job", STREAM).unwrap();
    bench.open(2, ".*", STREAM).unwrap();
    assert_eq!(bench.trigger(MOON, "other"), Answer::Triggered, "without workers a stream is enough");
    assert_eq!(bench.trigger(MOON, "job"), Answer::Triggered);
    assert_eq!(bench.events(), [(2, 1, 0), (1, 2, 1), (2, 2, 1)]);
    bench.say("w", &["RD", "job", "9"]);
    assert_eq!(bench.trigger(MOON, "other"), Answer::AssignationFailed, "with workers it is not");
    assert_eq!(bench.events(), [], "what nobody handles is not shown");
    assert_eq!(bench.trigger(MOON, "job"), Answer::Triggered);
    assert_eq!((bench.events(), bench.sent()), (vec![(1, 3, 3)], vec!["w: TR 3 #3".to_owned()]));
    assert_eq!(bench.exchange.figures.value(ExchangeFigure::CopiesDropped), 1, "the other one is full");
    bench.took(2, 1);
    bench.trigger(MOON, "job");
    assert_eq!(bench.events(), [(2, 4, 4)]);
    assert_eq!(bench.exchange.figures.value(ExchangeFigure::Streams), 2);
    bench.put_access(MOON, 3);
    assert_eq!(bench.events().len(), 2, "both are closed");
    assert_eq!(bench.exchange.figures.value(ExchangeFigure::Streams), 0);
}

#[test]
fn streams_over_zeromq_subscribe_beginnings() {
    let mut bench = Bench::new();
    let pass = bench.passes[&MOON];
    let subscribed = |bench: &mut Bench, topic: &str| {
        bench.exchange.handle(bench.now, ExchangeInput::Subscribed { pass, topic: topic.as_bytes() });
    };
    subscribed(&mut bench, "/moon:jo");
    subscribed(&mut bench, "/moon:jo");
    assert_eq!(bench.trigger(MOON, "job"), Answer::Triggered);
    assert_eq!(bench.sent(), ["/moon:job 0"]);
    assert_eq!(bench.trigger(MOON, "other"), Answer::AssignationFailed);
    bench.say("w", &["RD", ".*"]);
    for event in ["job", "other"] {
        assert_eq!(bench.trigger(MOON, event), Answer::Triggered);
    }
    assert_eq!(bench.sent(), ["/moon:job 2", "w: TR 2", "w: TR 3"]);
    for left in [1, 0] {
        bench.exchange.handle(bench.now, ExchangeInput::Unsubscribed { pass, topic: b"/moon:jo" });
        assert_eq!(bench.exchange.figures.value(ExchangeFigure::Streams), left);
    }
    bench.trigger(MOON, "job");
    assert_eq!(bench.sent(), ["w: TR 4"]);
}
