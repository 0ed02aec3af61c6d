//! The command line of `webrocket-server`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

use super::{Config, ConfigError, Io, LogFormat, LogLevel};

/// A broker between browsers and the applications behind them.
///
/// Browsers hold a WebSocket to it, subscribe channels and broadcast; webrocket-ctl sets it up.
/// Every option can also stand in the file named by --config; what is given here wins.
#[derive(Debug, Default, Parser)]
#[command(name = "webrocket-server", version, max_term_width = 100)]
pub struct Flags {
    /// Where browsers connect, and plain HTTP [default: 127.0.0.1:9772]
    #[arg(long, value_name = "ADDR")]
    pub websocket_addr: Option<SocketAddr>,

    /// Where webrocket-ctl connects, and metrics and health checks are read [default: 127.0.0.1:9773]
    #[arg(long, value_name = "ADDR")]
    pub control_addr: Option<SocketAddr>,

    /// Where ZeroMQ clients and workers connect [default: 127.0.0.1:9774]
    #[arg(long, value_name = "ADDR")]
    pub exchange_addr: Option<SocketAddr>,

    /// Where ZeroMQ stream subscribers connect [default: 127.0.0.1:9775]
    #[arg(long, value_name = "ADDR")]
    pub stream_addr: Option<SocketAddr>,

    /// How long one frame of a ZeroMQ message may be, in bytes [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    pub exchange_message_bytes_max: Option<u32>,

    /// How many bytes a ZeroMQ peer may have sent that could not be read yet [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    pub exchange_unread_bytes_max: Option<u32>,

    /// The file with the secret key (Z85) with which ZeroMQ peers are spoken to in CURVE, and only so [default: none, PLAIN]
    #[arg(long, value_name = "FILE")]
    pub exchange_curve_secret_key_file: Option<PathBuf>,

    /// Where the store and the cookie stand; made if it is not there [default: ./webrocket-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The node's name, which names the cookie's file [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,

    /// How many shards, each a thread of its own [default: CPUs minus one, at least one]
    #[arg(long, value_name = "N")]
    pub shards: Option<u16>,

    /// How shards do their I/O: io_uring, or epoll where io_uring is refused [default: auto]
    #[arg(long, value_enum)]
    pub io: Option<Io>,

    /// Whether each shard stays on one CPU [default: true]
    #[arg(long, value_name = "BOOL")]
    pub pin: Option<bool>,

    /// How long a request head may take, in milliseconds [default: 10000]
    #[arg(long, value_name = "MS")]
    pub handshake_timeout_ms: Option<u32>,

    /// How long a peer may take for its half of a close, in milliseconds [default: 5000]
    #[arg(long, value_name = "MS")]
    pub close_timeout_ms: Option<u32>,

    /// How long an HTTP request's body may be where browsers connect, in bytes [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    pub http_body_bytes_max: Option<u32>,

    /// A TOML file with the same names as these options (see docs/webrocket.toml)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The least important log lines that are written [default: info]
    #[arg(long, value_enum)]
    pub log_level: Option<LogLevel>,

    /// How log lines look [default: text]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,

    /// Try it out: keeps everything in memory, with a vhost /demo and a page to open in a browser
    #[arg(long)]
    pub dev: bool,
}

impl Flags {
    /// The configuration that file and flags together mean, checked.
    ///
    /// # Errors
    /// The file cannot be read or is wrong, or a value is out of its range.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        self.over(config)
    }

    /// What is given here in place of what `config` says, checked.
    pub(super) fn over(self, mut config: Config) -> Result<Config, ConfigError> {
        macro_rules! overlay {
            ($($name:ident),*) => {
                $(if let Some(value) = self.$name {
                    config.$name = value;
                })*
            };
        }
        overlay!(websocket_addr, control_addr, exchange_addr, stream_addr, data_dir, io, pin);
        overlay!(exchange_message_bytes_max, exchange_unread_bytes_max);
        overlay!(handshake_timeout_ms, close_timeout_ms, http_body_bytes_max, log_level, log_format);
        config.exchange_curve_secret_key_file =
            self.exchange_curve_secret_key_file.or(config.exchange_curve_secret_key_file);
        config.node_name = self.node_name.or(config.node_name);
        config.shards = self.shards.or(config.shards);
        config.dev |= self.dev;
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("webrocket.toml");
        fs::write(&path, "shards = 2\nnode-name = \"filed\"\nio = \"epoll\"\ndev = true\n").unwrap();
        let path = path.to_str().unwrap();
        let flags = Flags::parse_from(["webrocket-server", "--config", path, "--shards", "3"]);
        let config = flags.into_config().unwrap();
        let expected = Config {
            shards: Some(3),
            node_name: Some("filed".into()),
            io: Io::Epoll,
            dev: true,
            ..Config::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn the_help_names_the_defaults() {
        let help = Flags::command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let config = Config::default();
        for address in [config.websocket_addr, config.control_addr, config.exchange_addr, config.stream_addr]
        {
            assert!(help.contains(&format!("[default: {address}]")), "{address}");
        }
        for value in [
            config.handshake_timeout_ms,
            config.close_timeout_ms,
            config.http_body_bytes_max,
            config.exchange_message_bytes_max,
            config.exchange_unread_bytes_max,
        ] {
            assert!(help.contains(&format!("[default: {value}]")), "{value}");
        }
    }
}
