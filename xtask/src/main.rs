//! The project's own commands: `cargo xtask test` is the whole gate, on a fresh machine too.
//!
//! [`stages`] says what is checked and in which order, [`imports`] which files import each other, and [`nightly`] what
//! takes longer; [`sanitize`] looks at memory too, [`system_libzmq`] at another libzmq, [`fuzz`] tries inputs,
//! [`instructions`] counts what the hot path takes, [`performance`] compares it with other servers, [`install`] brings
//! what a machine lacks for all that and [`peers`] the other servers.
//! Nothing here knows what a test is about.

mod fuzz;
mod imports;
mod install;
mod instructions;
mod nightly;
mod peers;
mod performance;
mod sanitize;
mod shell;
mod stages;
mod system_libzmq;
mod timed;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check everything, stage by stage, and stop at the first that fails
    Test(stages::Selection),
    /// Check that no files of one crate import each other in a circle
    Imports(imports::Selection),
    /// Run what takes too long for `test`, all of it, and name what failed; some hours on a busy machine
    Nightly(nightly::Selection),
    /// Run the tests of the ZeroMQ exchange under AddressSanitizer; needs its library beside the C++ compiler
    Sanitize {
        /// Only the tests that pytest selects by this expression
        only: Option<String>,
    },
    /// Run the fuzz targets, one after the other; needs a C++ compiler
    Fuzz(fuzz::Fuzzing),
    /// Run the tests of the ZeroMQ exchange against the system's libzmq (Debian: libzmq3-dev), with CURVE
    SystemLibzmq {
        /// Of the process tests only those that pytest selects by this expression
        only: Option<String>,
    },
    /// Count the instructions of the hot path and hold them against the record
    Instructions(instructions::Counting),
    /// Install the servers that `webrocket-loadtest peers` compares WebRocket with, as far as they can be had
    Peers,
    /// Measure the table of docs/performance.md: install the peers, build, compare; some 20 minutes on a quiet machine
    Performance {
        /// What `webrocket-loadtest peers` takes: --rounds, --disciplines, --html, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test(selection) => stages::test(&selection),
        Command::Imports(selection) => imports::imports(&selection),
        Command::Nightly(selection) => nightly::nightly(&selection),
        Command::Sanitize { only } => sanitize::sanitize(only.as_deref()),
        Command::Fuzz(asked) => fuzz::fuzz(&asked),
        Command::SystemLibzmq { only } => system_libzmq::system_libzmq(only.as_deref()),
        Command::Instructions(asked) => instructions::instructions(&asked),
        Command::Peers => peers::peers(),
        Command::Performance { arguments } => performance::performance(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
