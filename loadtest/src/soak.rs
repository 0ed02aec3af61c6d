//! `soak`: hours of broadcasts, of coming and going, and of watching the server's memory.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use crate::population::{self, Look, Outcome, PopulationOptions, duration};
use crate::report::{Findings, ServerReport, mib, number, per_second};

/// How often a line tells how it goes.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Does for hours what churn does, tells every minute how it goes, and measures whether the server's memory grows.
///
/// The slope is that of the least-squares line through the server's resident memory, read once a second after the
/// first quarter of the run. With --max-slope a steeper one is a failure; a run of minutes has a slope too, but says
/// little about hours. Everything that churn checks is checked all the time.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) population: PopulationOptions,
    /// For how long: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Fail when the server's memory grows by more than so many bytes an hour
    #[arg(long, value_name = "BYTES_PER_HOUR")]
    pub(crate) max_slope: Option<f64>,
}

/// Runs the scenario against a server of its own or the one at `--url`.
///
/// # Errors
/// A violated guarantee, somebody waits for too long, or a failure of server or connections; `--max-slope` without
/// knowing the server's process.
pub(crate) fn run(options: &Options) -> anyhow::Result<Findings> {
    let server = &options.population.server;
    ensure!(
        options.max_slope.is_none() || server.url.is_none() || server.server_pid.is_some(),
        "--max-slope needs to know whose memory is meant: say --server-pid"
    );
    let mut minutes = Minutes::default();
    let look = |look: Look<'_>| minutes.look(look);
    population::run(&options.population, options.duration, look, |server, outcome| {
        tell(options, server, outcome)
    })
}

fn tell(options: &Options, server: ServerReport, outcome: &Outcome) -> Findings {
    let mut findings = population::tell("soak", server, outcome);
    findings.setting("duration_s", options.duration.as_secs_f64());
    let Some(most) = options.max_slope else { return findings };
    findings.setting("max_slope", most);
    match outcome.server.as_ref().and_then(|server| server.slope) {
        Some(slope) if slope <= most => {}
        Some(slope) => {
            findings.failed(format!(
                "the server's memory grew by {} bytes an hour, more than the {} that are allowed",
                number(slope),
                number(most),
            ));
        }
        None => {
            findings.failed("the run was too short to tell whether the server's memory grows");
        }
    }
    findings
}

/// Tells every minute what has happened in it.
#[derive(Default)]
struct Minutes {
    told: Duration,
    deliveries: u64,
}

impl Minutes {
    fn look(&mut self, mut look: Look<'_>) {
        let elapsed = look.lived.saturating_sub(self.told);
        if elapsed >= LINE_INTERVAL {
            look.progress.line(&self.line(&mut look, elapsed));
            self.told = look.lived;
        }
    }

    fn line(&mut self, look: &mut Look<'_>, elapsed: Duration) -> String {
        let latency_ns = look.population.take_latency();
        let deliveries = look.population.tally().deliveries;
        let ms = |ns: u64| number(ns as f64 / 1e6);
        let memory = look.resident_bytes.map(|bytes| format!("RSS {:.1} MiB, ", mib(bytes)));
        let line = format!(
            "{:.0} min: {}{} deliveries ({}/s), p99 {} ms, max {} ms",
            look.lived.as_secs_f64() / 60.0,
            memory.unwrap_or_default(),
            number(deliveries as f64),
            number(per_second(deliveries - self.deliveries, elapsed)),
            ms(latency_ns.value_at_quantile(0.99)),
            ms(latency_ns.max()),
        );
        self.deliveries = deliveries;
        line
    }
}
