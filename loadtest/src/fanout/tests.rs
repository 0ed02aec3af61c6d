use std::collections::HashSet;

use super::*;
use crate::clock::monotonic_ns;
use crate::connection::ConnectionId;
use crate::engine::{Outbox, Scenario};
use crate::mock::{Mock, Sabotage};

fn options(mock: &Mock) -> Options {
    Options {
        server: ServerOptions {
            url: Some(mock.url().parse().expect("valid")),
            // Only a hang takes so long.
            patience: 60,
            ..ServerOptions::default()
        },
        channels: 1,
        subscribers: 40,
        publishers: 7,
        in_flight: 5,
        rate: None,
        seconds: 1,
        broadcasts: Some(60),
        payload_bytes: 128,
        dialect: Dialect::Classic,
        output: OutputOptions::default(),
    }
}

/// The sentence that a run against a server with this fault ends with.
fn failure(sabotage: Sabotage) -> String {
    let mock = Mock::start(sabotage);
    let error = run(&options(&mock)).expect_err("the fault is noticed");
    format!("{error:#}")
}

/// Runs against a server that keeps something back, until as many answers and deliveries have come as will. Returns
/// what is told to be missing.
fn missing(sabotage: Sabotage, due: u64) -> String {
    let mock = Mock::start(sabotage);
    let options = options(&mock);
    let target = mock.url().parse().expect("valid");
    let mut engine = Engine::new(target, options.server.patience()).expect("an epoll set");
    let mut fanout = Fanout::new(options.plan());
    subscribe(&mut engine, &mut fanout).expect("all subscribe");
    let subscribed = fanout.progress();
    fanout.begin(Amount::Broadcasts(60), None, monotonic_ns(), engine.outbox());
    engine.run_until(&mut fanout, |fanout| fanout.progress() >= subscribed + due);
    assert!(!fanout.finished(), "something is missing");
    fanout.missing()
}

fn figure(findings: &Findings, name: &str) -> f64 {
    findings.figures[name].value
}

#[test]
fn a_right_server_passes() {
    let mock = Mock::start(Sabotage::None);
    let findings = run(&options(&mock)).expect("nothing is wrong");
    assert_eq!(figure(&findings, "broadcasts"), 60.0);
    assert_eq!(figure(&findings, "deliveries"), 40.0 * 60.0);
    assert!(figure(&findings, "latency_p99_ms") > 0.0);
    assert!(figure(&findings, "message_bytes") > 128.0);
    assert!(!findings.figures.contains_key("server_rss_bytes"), "nobody said which process it is");
}

#[test]
fn several_channels_and_long_payloads_pass() {
    let mock = Mock::start(Sabotage::None);
    let options = Options {
        channels: 3,
        subscribers: 13,
        payload_bytes: 70_000,
        broadcasts: Some(31),
        ..options(&mock)
    };
    let findings = run(&options).expect("nothing is wrong");
    assert_eq!(figure(&findings, "deliveries"), 13.0 * 31.0);
}

#[test]
fn a_rate_sets_the_pace() {
    let mock = Mock::start(Sabotage::None);
    let options = Options { rate: Some(500), broadcasts: None, ..options(&mock) };
    let findings = run(&options).expect("nothing is wrong");
    assert_eq!(
        figure(&findings, "broadcasts"),
        500.0,
        "what was due in the second, however late it was sent"
    );
}

#[test]
fn a_measured_process_is_reported() {
    let mock = Mock::start(Sabotage::None);
    let mut options = options(&mock);
    options.server.server_pid = Some(std::process::id());
    let findings = run(&options).expect("nothing is wrong");
    assert!(figure(&findings, "server_rss_bytes") > 0.0);
    assert!(figure(&findings, "server_cpu_ns_per_delivery") > 0.0);
}

#[test]
fn canary_a_swapped_pair_ends_the_run() {
    let text = failure(Sabotage::Swap);
    assert!(text.contains("disagree on the order") || text.contains("own order is broken"), "{text}");
}

#[test]
fn canary_a_loss_ends_the_run() {
    let text = failure(Sabotage::Lose);
    assert!(text.contains("lost or overtaken"), "{text}");
}

#[test]
fn canary_a_double_ends_the_run() {
    let text = failure(Sabotage::Double);
    assert!(text.contains("a double"), "{text}");
}

#[test]
fn canary_a_lost_last_delivery_is_missed() {
    let text = missing(Sabotage::LoseLast(60), 60 + 40 * 60 - 1);
    assert!(text.contains("1 deliveries are missing, connection 1 is farthest behind with 59"), "{text}");
}

#[test]
fn canary_a_doubled_last_delivery_ends_the_run() {
    let text = failure(Sabotage::DoubleLast(60));
    assert!(text.contains("a double"), "{text}");
}

#[test]
fn canary_a_missing_acknowledgement_is_missed() {
    // What is not acknowledged counts as in flight.
    let text = missing(Sabotage::SwallowAcknowledgements, 40 * 5);
    assert!(text.contains("5 broadcasts sent, 5 of them delivered to everybody, 0 acknowledged"), "{text}");
}

#[test]
fn a_closed_connection_is_told_with_its_code() {
    let text = failure(Sabotage::CloseSlow);
    assert!(text.contains("connection 1 was closed by the server with code 4008"), "{text}");
    assert!(text.contains("slow consumer"), "{text}");
}

#[test]
fn a_refused_subscription_is_told() {
    let text = failure(Sabotage::RefuseSubscriptions);
    assert!(text.contains(r#"was answered {"err":"ACCESS_DENIED"}"#), "{text}");
}

#[test]
fn no_server_is_told() {
    let mock = Mock::start(Sabotage::None);
    let options = options(&mock);
    drop(mock);
    let text = format!("{:#}", run(&options).expect_err("nobody listens"));
    assert!(text.contains("cannot reach ws://127.0.0.1:"), "{text}");
}

#[test]
fn publishers_have_connections_of_their_own_on_their_channels() {
    for (channels, publishers, subscribers) in [(1, 1, 1), (1, 10, 5000), (3, 7, 10), (20, 10, 10)] {
        let plan = Plan {
            dialect: Dialect::Wwfp,
            channels,
            subscribers,
            publishers,
            load: Load::InFlight(1),
            payload_bytes: 128,
        };
        let mut all = HashSet::new();
        for channel in 0..channels {
            for publisher in 0..publishers {
                let connection = plan.publisher_connection(channel, publisher);
                assert_eq!(plan.channel_of(connection), channel as usize);
                assert!(connection < ConnectionId(plan.connections().expect("a small number")));
                assert!(all.insert(connection), "each has one of its own");
            }
        }
    }
}

#[test]
fn a_binary_message_is_only_taken_where_it_is_spoken() {
    for (dialect, taken) in [(Dialect::Classic, false), (Dialect::SocketIo, false), (Dialect::Nats, true)] {
        let plan = Plan {
            dialect,
            channels: 1,
            subscribers: 1,
            publishers: 1,
            load: Load::InFlight(1),
            payload_bytes: 128,
        };
        let mut fanout = Fanout::new(plan);
        let mut binary = |bytes| fanout.binary(ConnectionId(0), bytes, 0, &mut Outbox::default());
        assert_eq!(binary(b"PO").is_ok(), taken, "{dialect:?}");
        assert_eq!(binary(b"NG\r\n").is_ok(), taken, "{dialect:?}");
        assert_eq!(fanout.finished(), taken, "{dialect:?}: that was the answer to the subscription");
    }
}
