//! Drives a WebRocket server with thousands of real connections and checks what comes back.
//!
//! One thread, one epoll set, plain sockets: see [`engine`]. What is done with the connections is a [`Scenario`]
//! (`engine::Scenario`), one module each: [`fanout`] measures and verifies deliveries, [`connect`] times and
//! weighs connections that do nothing, [`churn`] lets connections come and go under load and [`soak`] does so for
//! hours, [`presence`] lets a crowd be joined, [`exchange`] drives the backends' side. The server is started as a
//! child process ([`server`]) or stands elsewhere (`--url`). No code is shared with the server's crates; what starts the
//! process is shared with tests, and knows nothing of them either.
//!
//! Exit status: 0 when every guarantee held, 1 on a violation, a timeout or a failure, 2 on wrong usage.
//!
//! [`Scenario`]: engine::Scenario

mod announced;
mod broadcast;
mod churn;
mod clock;
mod connect;
mod connection;
mod contest;
mod control;
mod dialect;
mod engine;
mod epoll;
mod excerpt;
mod exchange;
mod fanout;
mod floor;
mod frames;
mod handshake;
mod interrupt;
mod membership;
#[cfg(test)]
mod mock;
mod order;
mod pace;
mod placement;
mod population;
mod presence;
mod process;
mod progress;
mod report;
mod rivals;
mod server;
mod soak;
mod subscription;
mod target;
mod trend;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Drives a WebRocket server with thousands of real connections and checks what comes back.
///
/// Without --url the server is started for the run (in memory, on free ports) and ended afterwards.
#[derive(Parser)]
#[command(name = "webrocket-loadtest", version, max_term_width = 110)]
struct CommandLine {
    #[command(subcommand)]
    scenario: ScenarioCommand,
}

#[derive(Subcommand)]
enum ScenarioCommand {
    Fanout(fanout::Options),
    Connect(connect::Options),
    Churn(churn::Options),
    Soak(soak::Options),
    Presence(presence::Options),
    Trigger(exchange::TriggerOptions),
    Request(exchange::RequestOptions),
    #[command(long_flag = "compare")]
    Compare(report::compare::Options),
    Broker(exchange::BrokerOptions),
    Peers(contest::Options),
    Floor(floor::Options),
}

fn main() -> ExitCode {
    let outcome = run(CommandLine::parse().scenario);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webrocket-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(scenario: ScenarioCommand) -> anyhow::Result<()> {
    match scenario {
        // Servers end as everybody does who is told to.
        ScenarioCommand::Broker(_) | ScenarioCommand::Floor(_) => {}
        _ => interrupt::listen()?,
    }
    match scenario {
        ScenarioCommand::Fanout(options) => options.output.tell(|| fanout::run(&options)),
        ScenarioCommand::Connect(options) => options.output.tell(|| connect::run(&options)),
        ScenarioCommand::Churn(options) => options.population.output.tell(|| churn::run(&options)),
        ScenarioCommand::Soak(options) => options.population.output.tell(|| soak::run(&options)),
        ScenarioCommand::Presence(options) => options.output.tell(|| presence::run(&options)),
        ScenarioCommand::Trigger(options) => options.pair.output.tell(|| exchange::run_trigger(&options)),
        ScenarioCommand::Request(options) => options.pair.output.tell(|| exchange::run_request(&options)),
        ScenarioCommand::Compare(options) => report::compare::run(&options),
        ScenarioCommand::Broker(options) => exchange::run_broker(&options),
        ScenarioCommand::Peers(options) => options.output.tell(|| contest::run(&options)),
        ScenarioCommand::Floor(options) => floor::run(&options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::CommandLine::command().debug_assert();
    }
}
