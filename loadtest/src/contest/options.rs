//! What `peers` is asked for.

use std::path::PathBuf;

use clap::Args;

use crate::report::OutputOptions;

/// Compares servers side by side: the floor, WebRocket in both dialects, and what else the machine has.
///
/// In each discipline the servers take turns, --rounds times; each round opens its connections anew. A server has the
/// first processor for itself and the load test the next one. Told are medians, how far the rounds spread, and the
/// ratio to the floor: the median of the ratios of each round. The floor is a loop of send(2) without any logic
/// (`webrocket-loadtest floor`). Every delivery of every server is checked for loss, doubles and order.
///
/// With --other, our build is also compared with the other one, in each discipline in which all servers take part: the
/// median of the ratios new/old of each round, its 95 % interval, and a verdict. The interval comes from the ranks of
/// the ratios (sign test) and assumes nothing about their distribution. Where less is better, the build has failed if
/// the whole interval is above 1.05, and has passed if it is wholly below; where more is better, it has failed below
/// 1/1.05 and has passed above. An interval around the limit is unresolved. A build that has failed ends the command
/// with exit status 1, after the table. Use --rounds 30 for a verdict; fewer than 6 rounds have no interval.
///
/// Costs are processor time of the server's process for a delivery.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many rounds each server has in each discipline; a verdict on --other takes 6 and should have 30
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
    /// How many seconds a round broadcasts; five times as many where a percentile is taken
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) seconds: u32,
    /// Only these servers, separated by commas; the floor is always there, and so is WebRocket where it is compared
    /// with itself: by shards, by subscribers, by channels
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// Only disciplines whose names contain one of these
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) disciplines: Vec<String>,
    /// WebRocket's binary [default: webrocket-server beside this one]
    #[arg(long, value_name = "PATH")]
    pub(super) server: Option<PathBuf>,
    /// Another build of WebRocket, which takes part as webrocket-other: ours is judged by its ratio to this one
    #[arg(long, value_name = "PATH")]
    pub(super) other: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}
