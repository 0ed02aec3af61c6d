//! The binary as a user calls it: what it prints, and how it exits.

#[path = "../src/mock.rs"]
mod mock;
#[path = "command_line/population.rs"]
mod population;
#[path = "command_line/reports.rs"]
mod reports;

use std::process::{Command, Output};

use mock::{Mock, Sabotage};

/// After so many seconds without progress a run hangs. Where that is not what is tried, only a hang takes so long.
const HANG: &str = "60";

fn webrocket_loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_webrocket-loadtest")).args(arguments).output().expect("it starts")
}

fn fanout(mock: &Mock, more: &[&str]) -> Output {
    let url = mock.url();
    let mut arguments = vec!["fanout", "--url", &url, "--subscribers", "30", "--publishers", "4"];
    arguments.extend(["--dialect", "classic", "--broadcasts", "50"]);
    arguments.extend(more);
    webrocket_loadtest(&arguments)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn success_is_one_line_of_json_and_exit_status_0() {
    let output = fanout(&Mock::start(Sabotage::None), &["--patience", HANG, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
    assert_eq!(value["figures"]["deliveries"]["value"], 30 * 50);
    assert!(value["latency_ns"]["p99"].as_u64().expect("a number") > 0);
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
}

#[test]
fn every_violation_is_a_sentence_and_exit_status_1() {
    let faults = [
        (Sabotage::Swap, "connection 1 received publisher"),
        (Sabotage::Lose, "lost or overtaken"),
        (Sabotage::Double, "a double"),
        (Sabotage::DoubleLast(50), "a double"),
        (Sabotage::CloseSlow, "closed by the server with code 4008"),
    ];
    for (sabotage, said) in faults {
        let output = fanout(&Mock::start(sabotage), &["--patience", HANG]);
        let sentence = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{sabotage:?}");
        assert!(output.stdout.is_empty(), "no figures of a run that broke a guarantee");
        assert!(sentence.starts_with("webrocket-loadtest: "), "{sentence}");
        assert!(sentence.contains(said), "{sabotage:?}: {sentence}");
    }
}

#[test]
fn a_timeout_is_a_sentence_and_exit_status_1() {
    let output = fanout(&Mock::start(Sabotage::LoseLast(50)), &["--patience", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no progress for 1 s"), "{}", text(&output.stderr));
}

#[test]
fn connect_is_told_as_text() {
    let mock = Mock::start(Sabotage::None);
    let url = mock.url();
    let mut arguments = vec!["connect", "--url", &url, "--dialect", "classic", "--connections", "30"];
    arguments.extend(["--patience", HANG, "--warm-up", "5", "--channels", "4"]);
    let output = webrocket_loadtest(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("27 connections with one of 4 channels each"));
    assert_eq!(mock.closed_cleanly(), 5);
}

#[test]
fn a_wrong_answer_to_a_subscription_is_a_sentence_and_exit_status_1() {
    let faults = [
        (Sabotage::RefuseSubscriptions, HANG, "was answered {\"err\":\"ACCESS_DENIED\"}"),
        (Sabotage::SwallowSubscriptions, "1", "no progress for 1 s"),
        (Sabotage::AnswerTwice, HANG, "which waits for nothing, received"),
    ];
    for (sabotage, patience, said) in faults {
        let mock = Mock::start(sabotage);
        let url = mock.url();
        let mut arguments = vec!["connect", "--url", &url, "--dialect", "classic", "--patience", patience];
        arguments.extend(["--connections", "30"]);
        let output = webrocket_loadtest(&arguments);
        assert_eq!(output.status.code(), Some(1), "{sabotage:?}");
        assert!(text(&output.stderr).contains(said), "{sabotage:?}: {}", text(&output.stderr));
    }
}

#[test]
fn wrong_usage_is_exit_status_2() {
    assert_eq!(webrocket_loadtest(&["fanout", "--publishers", "0"]).status.code(), Some(2));
    assert_eq!(webrocket_loadtest(&["fanout", "--url", "wss://127.0.0.1/demo"]).status.code(), Some(2));
    let contradiction = ["connect", "--url", "ws://127.0.0.1/demo", "--shards", "2"];
    assert_eq!(webrocket_loadtest(&contradiction).status.code(), Some(2));
    for gone in [&["idle"] as &[&str], &["floor", "--taskrun", "coop"], &["floor", "--batch", "1"]] {
        assert_eq!(webrocket_loadtest(gone).status.code(), Some(2), "{gone:?}");
    }
}

#[test]
fn too_many_connections_are_told_before_anything_starts() {
    let output = webrocket_loadtest(&["connect", "--connections", "4000000000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("file descriptors"), "{}", text(&output.stderr));
}
