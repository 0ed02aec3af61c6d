//! Findings as one page that stands alone: no network and no scripts are needed to see it.
//!
//! Everything that comes from outside (addresses, settings, names in a file) is escaped by the template.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::comparison::{Comparison, Verdict};
use super::figure::{Better, Figure};
use super::findings::Findings;
use super::numbers::{number, with_unit};
use super::plot::{Axis, Curve, Plot};
use super::timeline::Sample;

const STYLE: &str = include_str!("page.css");

/// The page of one run.
pub(crate) fn page(findings: &Findings) -> String {
    let title = format!("WebRocket load test: {}", findings.scenario);
    let body = html! {
        header {
            h1 { (title) }
            p { (when(findings)) }
            (settings(findings))
        }
        (failures(&findings.failures))
        section {
            h2 { "Findings" }
            dl { @for (label, sentence) in &findings.rows { dt { (label) } dd { (sentence) } } }
            @if let Some(table) = &findings.table { (table.html()) }
        }
        (plots(&[("", findings)]))
        section {
            h2 { "Figures" }
            (figures(findings))
        }
    };
    document(&title, &body)
}

/// The page of two runs, side by side.
pub(crate) fn comparison(comparison: &Comparison) -> String {
    let title = "WebRocket load test: comparison";
    let body = html! {
        header {
            h1 { (title) }
            @for (name, path, findings) in comparison.sides() {
                p { strong { (name) } " " (path) ": " (findings.scenario) ", " (when(findings)) }
            }
        }
        (failures(comparison.warnings()))
        section {
            h2 { "Figures" }
            p { "Within " (number(comparison.threshold_percent())) " % of each other, both count as the same." }
            (compared(comparison))
        }
        (plots(&[("A", comparison.a()), ("B", comparison.b())]))
    };
    document(title, &body)
}

fn document(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    page.into_string()
}

fn when(findings: &Findings) -> Markup {
    let ended_at = findings.ended_at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    html! { (findings.server.text()) ", " (ended_at) ", version " (findings.version) }
}

fn failures(sentences: &[String]) -> Markup {
    html! {
        @if !sentences.is_empty() {
            ul class="failures" { @for sentence in sentences { li { (sentence) } } }
        }
    }
}

fn settings(findings: &Findings) -> Markup {
    html! {
        @if !findings.settings.is_empty() {
            ul class="settings" {
                @for (name, value) in &findings.settings {
                    li { (name) " " strong { (super::setting_text(value)) } }
                }
            }
        }
    }
}

fn figures(findings: &Findings) -> Markup {
    let has_rounds = findings.figures.values().any(|figure| !figure.rounds.is_empty());
    html! {
        table {
            thead {
                tr {
                    th { "figure" }
                    th class="number" { "value" }
                    th { "better" }
                    @if has_rounds { th { "rounds" } }
                }
            }
            tbody {
                @for (name, figure) in &findings.figures {
                    tr {
                        th scope="row" { (name) }
                        td class="number" { (with_unit(figure.value, &figure.unit)) }
                        td { (direction(figure.better)) }
                        @if has_rounds { td { (rounds(figure)) } }
                    }
                }
            }
        }
    }
}

fn rounds(figure: &Figure) -> Markup {
    html! {
        @if let Some((least, most)) = figure.spread() {
            (figure.rounds.len()) ", from " (with_unit(least, &figure.unit)) " to "
            (with_unit(most, &figure.unit))
        }
    }
}

fn direction(better: Better) -> &'static str {
    match better {
        Better::Less => "less",
        Better::More => "more",
        Better::Neither => "",
    }
}

fn compared(comparison: &Comparison) -> Markup {
    html! {
        table class="compared" {
            thead {
                tr {
                    th { "figure" }
                    @for column in ["A", "B", "B/A"] { th class="number" { (column) } }
                    th {}
                }
            }
            tbody {
                @for row in comparison.rows() {
                    tr {
                        th scope="row" { (row.name) }
                        td class="number" { (row.text_of(row.a)) }
                        td class="number" { (row.text_of(row.b)) }
                        td class="number" { (row.ratio_text()) }
                        td class=(class(row.verdict)) { (row.verdict.text()) }
                    }
                }
            }
        }
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Same | Verdict::Neither | Verdict::OnlyA | Verdict::OnlyB => "same",
    }
}

/// The plots of one run, or of two with their names.
fn plots(runs: &[(&str, &Findings)]) -> Markup {
    html! {
        section class="plots" {
            (latency_by_percentile(runs))
            (over_time(runs, "Throughput", Axis::Throughput, &[("", |sample| Some(sample.items_per_s))]))
            (over_time(
                runs,
                "Latency",
                Axis::Latency,
                &[("p50", |sample| sample.latency_p50_ms), ("p99", |sample| sample.latency_p99_ms)],
            ))
            (over_time(runs, "Server's processor time", Axis::Processor, &[("", |sample| sample.server_cpu_percent)]))
            (over_time(
                runs,
                "Server's resident memory",
                Axis::Memory,
                &[("", |sample| sample.server_rss_bytes.map(|bytes| bytes as f64))],
            ))
        }
    }
}

fn latency_by_percentile(runs: &[(&str, &Findings)]) -> Markup {
    let latencies = || runs.iter().filter_map(|(name, findings)| Some((name, findings.latency.as_ref()?)));
    let curve = |(index, (name, latency)): (usize, (&&str, &super::latency::Latency))| Curve {
        name: (*name).to_owned(),
        class: class_of(index, runs.len(), 0, 1),
        points: latency.curve.iter().map(|(quantile, ns)| (*quantile, *ns as f64 / 1e6)).collect(),
    };
    let curves: Vec<Curve> = latencies().enumerate().map(curve).collect();
    let label = latencies().next().map_or("latency", |(_, latency)| &latency.label);
    let title = format!("{} by percentile", capitalised(label));
    Plot { title, x: Axis::Percentile, y: Axis::Latency, curves }.render()
}

/// Part of a sample, if it was taken.
type Part = fn(&Sample) -> Option<f64>;

fn over_time(runs: &[(&str, &Findings)], title: &str, y: Axis, parts: &[(&str, Part)]) -> Markup {
    let mut curves = Vec::new();
    let mut items = None;
    for (run, (name, findings)) in runs.iter().enumerate() {
        let Some(timeline) = &findings.timeline else { continue };
        items.get_or_insert(&timeline.items);
        for (part, (part_name, value)) in parts.iter().enumerate() {
            let points = timeline.samples.iter();
            let points = points.filter_map(|sample| Some((sample.seconds, value(sample)?))).collect();
            let name = format!("{name} {part_name}").trim().to_owned();
            curves.push(Curve { name, class: class_of(run, runs.len(), part, parts.len()), points });
        }
    }
    let title = match (y, items) {
        (Axis::Throughput, Some(items)) => capitalised(items),
        _ => title.to_owned(),
    };
    Plot { title: format!("{title} over time"), x: Axis::Time, y, curves }.render()
}

/// The classes of a curve: with one run colours tell its parts apart, with two the runs; then only the last part, the
/// higher quantile, is drawn in full.
fn class_of(run: usize, runs: usize, part: usize, parts: usize) -> &'static str {
    let is_faint = runs > 1 && part + 1 < parts;
    match (if runs > 1 { run } else { part }, is_faint) {
        (0, false) => "c1",
        (0, true) => "c1 faint",
        (_, false) => "c2",
        (_, true) => "c2 faint",
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use roxmltree::Document;

    use super::*;
    use crate::report::tests::server;
    use crate::report::timeline::Timeline;

    fn findings() -> Findings {
        let mut latency_ns = Histogram::new(3).expect("valid precision");
        for ns in 1..10_000_u64 {
            latency_ns.record(ns * 1000).expect("in range");
        }
        let sample = |second: u32| Sample {
            seconds: f64::from(second),
            items_per_s: 1000.0 + f64::from(second),
            latency_p50_ms: Some(1.0),
            latency_p99_ms: Some(2.0),
            server_cpu_percent: Some(99.0),
            server_rss_bytes: Some(20 << 20),
        };
        let mut findings = Findings::new("fanout", server());
        findings
            .setting("connections", 5000)
            .latency("latency", &latency_ns)
            .rounds("floor_per_s", &[3.0, 1.0, 2.5], "/s", Better::More)
            .timeline(Timeline { items: "deliveries".to_owned(), samples: (1..20).map(sample).collect() });
        findings
    }

    /// The page as XML: all of HTML's elements that are never closed stand on the first lines.
    fn parsed(page: &str) -> String {
        let text = page.strip_prefix("<!DOCTYPE html>").expect("it says what it is");
        let parts = text.split("<meta ").enumerate();
        let without_meta = parts.map(|(index, part)| match index {
            0 => part,
            _ => part.split_once('>').expect("an element ends").1,
        });
        without_meta.collect()
    }

    fn plots_of(page: &str) -> usize {
        let text = parsed(page);
        let document = Document::parse(&text).expect("well-formed");
        document.descendants().filter(|node| node.has_tag_name("svg")).count()
    }

    #[test]
    fn a_page_is_well_formed_and_has_all_plots() {
        assert_eq!(plots_of(&page(&findings())), 5);
    }

    #[test]
    fn a_page_without_plots_is_a_page() {
        let mut findings = findings();
        (findings.latency, findings.timeline) = (None, None);
        assert_eq!(plots_of(&page(&findings)), 0);
    }

    #[test]
    fn a_page_stands_alone() {
        let two = Comparison::new([findings(), findings()], ["a", "b"].map(str::to_owned), 5.0);
        for page in [page(&findings()), comparison(&two)] {
            for foreign in ["http", "<script", "<link", "src=", "url(", "@import"] {
                assert!(!page.contains(foreign), "{foreign}");
            }
            assert!(page.contains("prefers-color-scheme: dark"));
        }
    }

    #[test]
    fn what_comes_from_outside_is_text() {
        const HOSTILE: &str = r#"</title><script>alert("1")</script>'"&"#;
        let mut server = server();
        server.url = HOSTILE.to_owned();
        let mut findings = Findings::new(HOSTILE, server);
        findings.setting(HOSTILE, HOSTILE).fact(HOSTILE, 1.0, HOSTILE).row(HOSTILE, HOSTILE).failed(HOSTILE);
        findings.latency_curve(HOSTILE, &{
            let mut latency_ns = Histogram::new(3).expect("valid precision");
            latency_ns.record_n(1000, 100).expect("in range");
            latency_ns
        });
        let two =
            Comparison::new([findings.clone(), findings.clone()], [HOSTILE, HOSTILE].map(str::to_owned), 5.0);
        for page in [page(&findings), comparison(&two)] {
            assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
            Document::parse(&parsed(&page)).expect("well-formed all the same");
        }
    }

    #[test]
    fn a_comparison_has_both_runs_in_each_plot() {
        let mut slower = findings();
        slower.less_is_better("latency_p99_ms", 99.0, "ms");
        let comparison = Comparison::new([findings(), slower], ["a", "b"].map(str::to_owned), 5.0);
        let page = super::comparison(&comparison);
        assert_eq!(plots_of(&page), 5);
        assert!(page.contains(r#"class="worse">worse"#), "{page}");
        for curve in ["curve c1", "curve c2"] {
            let count = page.matches(&format!("\"{curve}\"")).count();
            assert_eq!(count, 5, "one of each run in each plot: {page}");
            assert_eq!(page.matches(&format!("\"{curve} faint\"")).count(), 1);
        }
    }
}
