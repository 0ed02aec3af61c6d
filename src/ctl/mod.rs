//! `webrocket-ctl`: operates a running node through its control API.
//!
//! What it prints to standard output is for people, or with `--json` what the node said. An
//! error is one sentence on standard error and exit status 1; wrong usage is 2.

mod arguments;
mod client;
mod command;
mod error;
mod table;

use std::process::ExitCode;

use clap::Parser;

use arguments::Cli;
use error::CtlError;

/// Runs the command that the process's arguments name.
#[must_use]
pub fn main() -> ExitCode {
    match command::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has read enough: `webrocket-ctl channel list /a | head`.
        Err(CtlError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webrocket-ctl: {error}");
            ExitCode::FAILURE
        }
    }
}
