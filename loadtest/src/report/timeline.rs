//! How a run went over time: throughput, latency, and what the server used.
//!
//! Bounded: when there are [`SAMPLES_MAX`] samples, neighbours are merged and the interval is doubled, so that a run of
//! hours stays as small as one of seconds. Merging is exact: latencies are kept as histograms until the end.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::process::{ProcessId, processor_time, resident_bytes};

/// The most samples.
pub(crate) const SAMPLES_MAX: usize = 256;
/// How long a sample is at first.
const INTERVAL_NS: u64 = 100_000_000;
/// Longer latencies count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant digits of the whole run's latencies, and of one sample's: 256 of these have to fit into a few MiB.
const DIGITS: u8 = 3;
const SAMPLE_DIGITS: u8 = 2;

/// Samples of a run, one after the other without gaps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// What is counted, in the plural: `deliveries`.
    pub(crate) items: String,
    pub(crate) samples: Vec<Sample>,
}

/// What happened between the end of the sample before and this one's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Its end, since the run's start.
    pub(crate) seconds: f64,
    pub(crate) items_per_s: f64,
    /// `None` if nothing was timed.
    pub(crate) latency_p50_ms: Option<f64>,
    pub(crate) latency_p99_ms: Option<f64>,
    /// Of one processor: 200 is two of them. `None` if nobody said which process the server is.
    pub(crate) server_cpu_percent: Option<f64>,
    /// At the sample's end.
    pub(crate) server_rss_bytes: Option<u64>,
}

impl Sample {
    /// Its latency and what the server used, for people.
    pub(crate) fn text(&self) -> String {
        let latency = self.latency_p99_ms.map(|ms| format!("p99 {ms:.1} ms"));
        let processor = self.server_cpu_percent.map(|percent| format!("server CPU {percent:.0} %"));
        latency.into_iter().chain(processor).collect::<Vec<_>>().join(", ")
    }
}

/// Takes samples while a run goes on.
///
/// [`Recorder::latency`] is called for each item that is timed and costs what a histogram costs; [`Recorder::turn`] is
/// called as often as is convenient and costs a comparison, except ten times a second at most.
pub(crate) struct Recorder {
    process: Option<ProcessId>,
    start_ns: u64,
    interval_ns: u64,
    /// When the sample in the making began, and when it shall end.
    begun_ns: u64,
    due_ns: u64,
    /// Items and processor time at `begun_ns`.
    items: u64,
    processor_ns: Option<u64>,
    /// Latencies since `begun_ns`.
    latency_ns: Histogram<u64>,
    /// Latencies before `begun_ns`.
    total_ns: Histogram<u64>,
    parts: Vec<Part>,
}

/// A sample that can still be merged with its neighbour.
struct Part {
    begun_ns: u64,
    ended_ns: u64,
    items: u64,
    latency_ns: Histogram<u64>,
    processor_ns: Option<u64>,
    resident_bytes: Option<u64>,
}

impl Recorder {
    /// Begins at `now_ns` (`CLOCK_MONOTONIC`); `process` is the server, if it is known.
    pub(crate) fn start(process: Option<ProcessId>, now_ns: u64) -> Self {
        Self {
            process,
            start_ns: now_ns,
            interval_ns: INTERVAL_NS,
            begun_ns: now_ns,
            due_ns: now_ns + INTERVAL_NS,
            items: 0,
            processor_ns: process.and_then(processor_ns),
            latency_ns: histogram(DIGITS),
            total_ns: histogram(DIGITS),
            parts: Vec::new(),
        }
    }

    /// Takes note of one item's latency.
    pub(crate) fn latency(&mut self, latency_ns: u64) {
        self.latency_ns.saturating_record(latency_ns);
    }

    /// Tells how many items there have been since the start. A sample is taken if one is due.
    pub(crate) fn turn(&mut self, now_ns: u64, items: u64) {
        if now_ns >= self.due_ns {
            self.sample(now_ns, items);
        }
    }

    /// The latest sample, for progress; `None` during the first.
    pub(crate) fn latest(&self) -> Option<Sample> {
        Some(self.parts.last()?.sample(self.start_ns))
    }

    /// Ends the recording: how the run went, and all of its latencies.
    pub(crate) fn finish(mut self, now_ns: u64, items: u64, items_name: &str) -> (Timeline, Histogram<u64>) {
        let lasted_ns = now_ns.saturating_sub(self.begun_ns);
        if lasted_ns > 0 {
            self.sample(now_ns, items);
        }
        // A short rest would tell little of its own.
        if lasted_ns < self.interval_ns / 2
            && self.parts.len() > 1
            && let Some(rest) = self.parts.pop()
            && let Some(last) = self.parts.last_mut()
        {
            last.merge(&rest);
        }
        let samples = self.parts.iter().map(|part| part.sample(self.start_ns)).collect();
        (Timeline { items: items_name.to_owned(), samples }, self.total_ns)
    }

    fn sample(&mut self, now_ns: u64, items: u64) {
        let processor_before = self.processor_ns;
        self.processor_ns = self.process.and_then(processor_ns);
        let mut latency_ns = histogram(SAMPLE_DIGITS);
        for step in self.latency_ns.iter_recorded() {
            latency_ns.saturating_record_n(step.value_iterated_to(), step.count_at_value());
        }
        self.parts.push(Part {
            begun_ns: self.begun_ns,
            ended_ns: now_ns,
            items: items - self.items,
            latency_ns,
            processor_ns: self.processor_ns.zip(processor_before).map(|(now, then)| now.saturating_sub(then)),
            resident_bytes: self.process.and_then(|process| resident_bytes(process).ok()),
        });
        self.total_ns.add(&self.latency_ns).expect("both have the same bounds");
        self.latency_ns.reset();
        self.items = items;
        self.begun_ns = now_ns;
        if self.parts.len() == SAMPLES_MAX {
            self.merge_neighbours();
        }
        self.due_ns = now_ns + self.interval_ns;
    }

    fn merge_neighbours(&mut self) {
        self.interval_ns *= 2;
        let mut parts = std::mem::take(&mut self.parts).into_iter();
        while let Some(mut part) = parts.next() {
            if let Some(next) = parts.next() {
                part.merge(&next);
            }
            self.parts.push(part);
        }
    }
}

impl Part {
    /// Takes in the part that comes after it.
    fn merge(&mut self, next: &Self) {
        self.ended_ns = next.ended_ns;
        self.items += next.items;
        self.latency_ns.add(&next.latency_ns).expect("both have the same bounds");
        self.processor_ns = self.processor_ns.zip(next.processor_ns).map(|(this, next)| this + next);
        self.resident_bytes = next.resident_bytes;
    }

    fn sample(&self, start_ns: u64) -> Sample {
        let lasted_ns = (self.ended_ns - self.begun_ns).max(1) as f64;
        let quantile_ms = |quantile| {
            let ms = self.latency_ns.value_at_quantile(quantile) as f64 / 1e6;
            (!self.latency_ns.is_empty()).then_some(ms)
        };
        Sample {
            seconds: (self.ended_ns - start_ns) as f64 / 1e9,
            items_per_s: self.items as f64 * 1e9 / lasted_ns,
            latency_p50_ms: quantile_ms(0.5),
            latency_p99_ms: quantile_ms(0.99),
            server_cpu_percent: self.processor_ns.map(|used_ns| used_ns as f64 * 100.0 / lasted_ns),
            server_rss_bytes: self.resident_bytes,
        }
    }
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_NS_MAX, digits).expect("valid bounds and precision")
}

/// `None` once the process has ended: the run itself finds that out, and says it better.
fn processor_ns(process: ProcessId) -> Option<u64> {
    let time = processor_time(process).ok()?.total();
    u64::try_from(time.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_sample_tells_what_happened_in_it() {
        let mut recorder = Recorder::start(None, SECOND_NS);
        recorder.latency(2_000_000);
        recorder.turn(SECOND_NS + INTERVAL_NS - 1, 10);
        assert!(recorder.latest().is_none(), "none is due yet");
        recorder.turn(SECOND_NS + INTERVAL_NS, 10);
        recorder.turn(SECOND_NS + 3 * INTERVAL_NS, 20);
        let first = recorder.parts[0].sample(SECOND_NS);
        assert_eq!((first.seconds, first.items_per_s), (0.1, 100.0));
        assert!(first.latency_p99_ms.is_some_and(|ms| (1.99..2.02).contains(&ms)));
        let second = recorder.latest().expect("two were due");
        assert_eq!((second.seconds, second.items_per_s, second.latency_p99_ms), (0.3, 50.0, None));
    }

    #[test]
    fn a_short_rest_belongs_to_the_last_sample() {
        for (rest_ns, samples) in [(INTERVAL_NS / 4, 1), (INTERVAL_NS * 3 / 4, 2)] {
            let mut recorder = Recorder::start(None, 0);
            recorder.turn(INTERVAL_NS, 10);
            let end_ns = INTERVAL_NS + rest_ns;
            let (timeline, _) = recorder.finish(end_ns, 20, "deliveries");
            assert_eq!(timeline.samples.len(), samples);
            assert_eq!(timeline.samples.last().map(|sample| sample.seconds), Some(end_ns as f64 / 1e9));
        }
    }

    #[test]
    fn hours_stay_small_and_nothing_is_lost() {
        let turns = 20_000_u64;
        let mut recorder = Recorder::start(None, 0);
        for turn in 1..=turns {
            recorder.latency(turn * 1000);
            recorder.turn(turn * INTERVAL_NS, turn * 7);
            assert!(recorder.parts.len() < SAMPLES_MAX);
        }
        let end_ns = turns * INTERVAL_NS;
        let (timeline, latency_ns) = recorder.finish(end_ns, turns * 7, "deliveries");
        assert_eq!(latency_ns.len(), turns);
        assert!(timeline.samples.len() > SAMPLES_MAX / 4);
        assert_eq!(timeline.samples.last().map(|sample| sample.seconds), Some(end_ns as f64 / 1e9));
        let mut before = 0.0;
        for sample in &timeline.samples {
            assert!((69.999..70.001).contains(&sample.items_per_s), "{sample:?}");
            let (p50, p99) = (sample.latency_p50_ms, sample.latency_p99_ms);
            assert!(p50.is_some() && p50 <= p99 && sample.seconds > before, "{sample:?}");
            before = sample.seconds;
        }
    }

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let mut recorder = Recorder::start(Some(ProcessId(std::process::id())), 0);
        recorder.turn(INTERVAL_NS, 1);
        let sample = recorder.latest().expect("one was due");
        assert!(sample.server_rss_bytes.is_some_and(|bytes| bytes > 0));
        assert!(sample.server_cpu_percent.is_some());
    }

    #[test]
    fn a_process_that_is_gone_leaves_gaps() {
        let mut recorder = Recorder::start(Some(ProcessId(u32::MAX)), 0);
        recorder.turn(INTERVAL_NS, 1);
        let sample = recorder.latest().expect("one was due");
        assert_eq!((sample.server_rss_bytes, sample.server_cpu_percent), (None, None));
    }
}
