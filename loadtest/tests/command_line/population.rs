//! `churn` and `soak`, and what is tried against a server of our own.

use std::path::Path;

use super::mock::{Mock, Sabotage};
use super::{HANG, text, webrocket_loadtest};

/// Runs a scenario of a population against `mock`, whose process is this one.
fn population(mock: &Mock, scenario: &str, more: &[&str]) -> std::process::Output {
    let (url, pid) = (mock.url(), std::process::id().to_string());
    let mut arguments = vec![scenario, "--url", &url, "--server-pid", &pid, "--dialect", "classic"];
    arguments.extend(["--connections", "30", "--channels", "2", "--leaves", "40"]);
    arguments.extend(more);
    webrocket_loadtest(&arguments)
}

#[test]
fn connections_come_and_go() {
    let output = population(
        &Mock::start(Sabotage::None),
        "churn",
        &["--duration", "1s", "--json", "--patience", HANG],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
    assert_eq!(value["scenario"], "churn");
    assert_eq!(value["figures"]["joins"]["value"], 40, "what was due in the second");
    assert!(value["latency_ns"]["p99"].as_u64().expect("a number") > 0);
}

#[test]
fn a_server_that_keeps_descriptors_is_told_with_the_findings() {
    let mock = Mock::start(Sabotage::KeepClosed);
    let output = population(&mock, "churn", &["--duration", "1s", "--abrupt", "1", "--patience", "5"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not let go"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("descriptors"), "what was found is told all the same");
}

#[test]
fn a_violation_among_those_who_come_and_go_is_exit_status_1() {
    for sabotage in [Sabotage::LoseFirst { from: 30 }, Sabotage::Replay { from: 30 }, Sabotage::Lose] {
        let output = population(&Mock::start(sabotage), "churn", &["--duration", "2s", "--patience", HANG]);
        assert_eq!(output.status.code(), Some(1), "{sabotage:?}: {}", text(&output.stdout));
        assert!(output.stdout.is_empty(), "no figures of a run that broke a guarantee");
    }
}

#[test]
fn growth_is_judged_by_the_slope_that_is_allowed() {
    for (most, status) in [("1e15", 0), ("-1e15", 1)] {
        let slope = format!("--max-slope={most}");
        let output = population(
            &Mock::start(Sabotage::None),
            "soak",
            &["--duration", "3s", &slope, "--patience", HANG],
        );
        assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("RSS slope"), "{}", text(&output.stdout));
        assert_eq!(text(&output.stderr).contains("memory grew by"), status == 1);
    }
    let blind = ["soak", "--url", "ws://127.0.0.1:1/demo", "--max-slope", "1", "--duration", "1s"];
    let output = webrocket_loadtest(&blind);
    assert!(text(&output.stderr).contains("--server-pid"), "{}", text(&output.stderr));
}

/// The whole of it, with a server of our own where one was built: tests of this crate do not build it.
#[test]
fn a_server_of_our_own_passes() {
    let server = Path::new(env!("CARGO_BIN_EXE_webrocket-loadtest")).with_file_name("webrocket-server");
    if !server.is_file() {
        eprintln!("left out: {} was not built", server.display());
        return;
    }
    for scenario in [
        &["connect", "--connections", "300"] as &[&str],
        &["churn", "--connections", "300", "--duration", "2s", "--dialect", "classic"],
        &["soak", "--connections", "100", "--duration", "5s", "--max-slope", "1e12"],
    ] {
        let output = webrocket_loadtest(&[scenario, &["--patience", HANG]].concat());
        assert_eq!(output.status.code(), Some(0), "{scenario:?}: {}", text(&output.stderr));
    }
}
