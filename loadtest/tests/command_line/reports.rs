//! What the binary writes of a run besides its text, and how it compares two runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;

use super::mock::{Mock, Sabotage};
use super::{HANG, text, webrocket_loadtest};

/// A short run against a server that does all right.
fn fanout(more: &[&str]) -> Output {
    let mock = Mock::start(Sabotage::None);
    let url = mock.url();
    let mut arguments = vec!["fanout", "--url", &url, "--dialect", "classic", "--subscribers", "10"];
    arguments.extend(["--broadcasts", "50", "--patience", HANG]);
    arguments.extend(more);
    webrocket_loadtest(&arguments)
}

/// The findings of a run, in a file.
fn findings(directory: &TempDir, name: &str, more: &[&str]) -> PathBuf {
    let path = directory.path().join(name);
    let output = fanout(&[&["--json", text_of(&path)], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    path
}

/// The same findings with one figure changed.
fn with_figure(path: &Path, name: &str, value: f64) {
    let json = fs::read_to_string(path).expect("it was written");
    let mut json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    json["figures"][name]["value"] = value.into();
    fs::write(path, json.to_string()).expect("our own file");
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room")
}

#[test]
fn files_are_written_and_the_text_is_printed() {
    let directory = directory();
    let [json, html] = ["a.json", "a.html"].map(|name| directory.path().join(name));
    let output = fanout(&["--json", text_of(&json), "--html", text_of(&html)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("verified "), "{}", text(&output.stdout));
    let json = fs::read_to_string(json).expect("it was written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["figures"]["deliveries"]["value"], 500);
    let page = fs::read_to_string(html).expect("it was written");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"), "{page}");
}

#[test]
fn no_terminal_no_progress() {
    let output = fanout(&[]);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_the_run() {
    let output = webrocket_loadtest(&["fanout", "--url", "ws://127.0.0.1:1/", "--html", "/nowhere/a.html"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write /nowhere/a.html"), "{}", text(&output.stderr));
}

#[test]
fn two_runs_are_compared_in_either_spelling() {
    let directory = directory();
    let (a, b) = (findings(&directory, "a.json", &[]), findings(&directory, "b.json", &["--in-flight", "3"]));
    with_figure(&a, "deliveries_per_s", 1000.0);
    with_figure(&b, "deliveries_per_s", 930.0);
    for spelling in ["compare", "--compare"] {
        let output = webrocket_loadtest(&[spelling, text_of(&a), text_of(&b)]);
        let told = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(told.contains("warning: the setting in_flight differs: 16 in A, 3 in B"), "{told}");
        let row = told.lines().find(|line| line.starts_with("deliveries_per_s ")).expect("a row");
        assert!(row.ends_with("0.930  worse"), "{row}");
    }
    let output = webrocket_loadtest(&["compare", text_of(&a), text_of(&b), "--threshold", "10"]);
    let row = text(&output.stdout).lines().find(|line| line.starts_with("deliveries_per_s ")).expect("a row");
    assert!(row.ends_with("0.930  same"), "{row}");
}

#[test]
fn a_comparison_is_a_page_too() {
    let directory = directory();
    let (a, page) = (findings(&directory, "a.json", &[]), directory.path().join("both.html"));
    let output = webrocket_loadtest(&["--compare", text_of(&a), text_of(&a), "--html", text_of(&page)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(fs::read_to_string(page).expect("it was written").contains("<svg"));
}

#[test]
fn files_that_hold_no_findings_are_a_sentence_and_exit_status_1() {
    let directory = directory();
    let right = findings(&directory, "right.json", &[]);
    let [missing, other, cut] = ["missing", "other", "cut"].map(|name| directory.path().join(name));
    fs::write(&other, r#"{"name":"package"}"#).expect("there is room");
    fs::write(&cut, &fs::read(&right).expect("it was written")[..100]).expect("there is room");
    for (path, said) in [
        (&missing, "cannot read "),
        (&other, "holds no findings of this load test"),
        (&cut, "holds no findings of this load test"),
    ] {
        for arguments in [[text_of(path), text_of(&right)], [text_of(&right), text_of(path)]] {
            let output = webrocket_loadtest(&[&["compare"], &arguments[..]].concat());
            assert_eq!(output.status.code(), Some(1), "{}", path.display());
            assert!(output.stdout.is_empty());
            let sentence = text(&output.stderr);
            assert!(sentence.contains(said) && sentence.contains(text_of(path)), "{sentence}");
        }
    }
}

#[test]
fn two_builds_that_would_never_meet_are_told_before_anything_starts() {
    for (arguments, said) in [
        (["--only", "webrocket"], "--only must name both"),
        (["--only", "webrocket-classic,webrocket-other"], "--only must name both"),
        (["--disciplines", "shards"], "only one takes part in these disciplines"),
    ] {
        let output = webrocket_loadtest(&[&["peers", "--other", "/nowhere/server"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_threshold_below_nothing_is_wrong_usage() {
    let output = webrocket_loadtest(&["compare", "a", "b", "--threshold=-1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("not a number of per cent"), "{}", text(&output.stderr));
}
