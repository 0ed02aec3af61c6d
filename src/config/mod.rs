//! Configuration: defaults, a TOML file, flags; flags win.
//!
//! File and flags have the same names. Whatever is given is checked here, once.

mod flags;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
};

use serde::{Deserialize, Serialize};

pub use flags::Flags;

use crate::driver::IoMode;

/// Everything that a node is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where browsers connect, and the HTTP Backend API.
    pub websocket_addr: SocketAddr,
    /// Where the control API listens.
    pub control_addr: SocketAddr,
    /// Where the ZeroMQ exchange listens for clients and workers.
    pub exchange_addr: SocketAddr,
    /// Where the ZeroMQ exchange listens for stream subscribers.
    pub stream_addr: SocketAddr,
    /// The length of one frame of a ZeroMQ message, in bytes.
    pub exchange_message_bytes_max: u32,
    /// Bytes that a ZeroMQ peer may have sent without their being read.
    pub exchange_unread_bytes_max: u32,
    /// Where the exchange's secret CURVE key stands; `None`: it speaks PLAIN.
    pub exchange_curve_secret_key_file: Option<PathBuf>,
    /// Where the store and the cookie stand.
    pub data_dir: PathBuf,
    /// The node's name; `None`: the host's.
    pub node_name: Option<String>,
    /// How many shards; `None`: as many as CPUs but one, at least one.
    pub shards: Option<u16>,
    /// How shards do their I/O.
    pub io: Io,
    /// Whether each shard stays on one CPU.
    pub pin: bool,
    /// How long a request head may take, in milliseconds.
    pub handshake_timeout_ms: u32,
    /// How long a peer may take for its half of a close, in milliseconds.
    pub close_timeout_ms: u32,
    /// The length of an HTTP request's body on the WebSocket port, in bytes.
    pub http_body_bytes_max: u32,
    /// The least important log lines that are written.
    pub log_level: LogLevel,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Whether to keep everything in memory and serve the demo.
    pub dev: bool,
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            websocket_addr: local(9772),
            control_addr: local(9773),
            exchange_addr: local(9774),
            stream_addr: local(9775),
            exchange_message_bytes_max: 4 << 20,
            exchange_unread_bytes_max: 64 << 20,
            exchange_curve_secret_key_file: None,
            data_dir: PathBuf::from("./webrocket-data"),
            node_name: None,
            shards: None,
            io: Io::Auto,
            pin: true,
            handshake_timeout_ms: 10_000,
            close_timeout_ms: 5_000,
            http_body_bytes_max: 4 << 20,
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
            dev: false,
        }
    }
}

/// How shards do their I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// io_uring where it can be used, epoll elsewhere.
    Auto,
    /// io_uring, or the server does not start.
    Uring,
    /// Plain threads on epoll.
    Epoll,
}

impl From<Io> for IoMode {
    fn from(io: Io) -> Self {
        match io {
            Io::Auto => Self::Auto,
            Io::Uring => Self::Uring,
            Io::Epoll => Self::Epoll,
        }
    }
}

/// The importance of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// The node cannot do what it should.
    Error,
    /// Something is wrong, the node copes.
    Warn,
    /// Starts, stops, changes.
    Info,
    /// What operators want to know when they look for something.
    Debug,
    /// Everything.
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration file {path} is wrong at line {line}: {message}", path = path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A value is out of its range.
    #[error("{name} is {value}, but must be {range}")]
    Range {
        /// The option.
        name: &'static str,
        /// What it was to be.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// The host has no name that can be used.
    #[error("the host name {name:?} cannot be the node's name; give --node-name")]
    HostName {
        /// The host's name.
        name: String,
    },
}

impl Config {
    /// Reads a TOML file; what it does not name keeps its default.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is wrong.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads the text of the file at `path`.
    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            ConfigError::Parse {
                path: path.to_owned(),
                line: text[..at].matches('\n').count() + 1,
                message: error.message().replace('\n', " "),
            }
        })
    }

    /// Checks what no type can.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let range = |name, value: String, range| Err(ConfigError::Range { name, value, range });
        if let Some(shards) = self.shards
            && !(1..=1024).contains(&shards)
        {
            return range("shards", shards.to_string(), "from 1 to 1024");
        }
        if let Some(name) = &self.node_name
            && !is_node_name(name)
        {
            return range(
                "node-name",
                format!("{name:?}"),
                "1 to 64 letters, digits, dots, dashes or underscores",
            );
        }
        for (name, value) in
            [("handshake-timeout-ms", self.handshake_timeout_ms), ("close-timeout-ms", self.close_timeout_ms)]
        {
            if !(10..=3_600_000).contains(&value) {
                return range(name, value.to_string(), "from 10 to 3600000");
            }
        }
        for (name, value) in [
            ("http-body-bytes-max", self.http_body_bytes_max),
            ("exchange-message-bytes-max", self.exchange_message_bytes_max),
            ("exchange-unread-bytes-max", self.exchange_unread_bytes_max),
        ] {
            if !(1_024..=1 << 30).contains(&value) {
                return range(name, value.to_string(), "from 1024 to 1073741824");
            }
        }
        if self.exchange_unread_bytes_max < self.exchange_message_bytes_max {
            let value = self.exchange_unread_bytes_max.to_string();
            return range("exchange-unread-bytes-max", value, "at least exchange-message-bytes-max");
        }
        Ok(())
    }

    /// The number of shards that this configuration means on this machine.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        self.shards.unwrap_or_else(|| {
            let cpus = thread::available_parallelism().map_or(1, usize::from);
            u16::try_from(cpus.saturating_sub(1).clamp(1, 1024)).expect("at most 1024")
        })
    }

    /// The node's name.
    ///
    /// # Errors
    /// None is given, and the host's cannot be used.
    pub fn node_name(&self) -> Result<String, ConfigError> {
        if let Some(name) = &self.node_name {
            return Ok(name.clone());
        }
        let name = hostname::get().unwrap_or_default().to_string_lossy().into_owned();
        if is_node_name(&name) { Ok(name) } else { Err(ConfigError::HostName { name }) }
    }
}

/// A node's name is a part of file names.
fn is_node_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../docs/webrocket.toml");

    /// The sample's settings: every line that is a commented assignment.
    fn sample_assignments() -> Vec<&'static str> {
        SAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| !line.starts_with(' '))
            .collect()
    }

    #[test]
    fn the_sample_file_says_the_defaults() {
        assert_eq!(
            toml::from_str::<Config>(SAMPLE).unwrap(),
            Config::default(),
            "all of it is commented out"
        );
        let of_the_host = ["exchange-curve-secret-key-file", "node-name", "shards"];
        let (host, fixed): (Vec<&str>, Vec<&str>) = sample_assignments()
            .into_iter()
            .partition(|line| of_the_host.iter().any(|name| line.starts_with(name)));
        assert_eq!(host.len(), of_the_host.len());
        assert_eq!(toml::from_str::<Config>(&fixed.join("\n")).unwrap(), Config::default());
        toml::from_str::<Config>(&host.join("\n")).unwrap().check().unwrap();
    }

    #[test]
    fn the_sample_file_names_everything() {
        let everything = Config {
            exchange_curve_secret_key_file: Some("x".into()),
            node_name: Some("x".into()),
            shards: Some(1),
            ..Config::default()
        };
        let toml::Value::Table(table) = toml::Value::try_from(everything).unwrap() else { panic!() };
        let named: Vec<&str> = sample_assignments()
            .iter()
            .filter_map(|line| line.split_once(" = "))
            .map(|(name, _)| name)
            .collect();
        for key in table.keys() {
            assert!(named.contains(&key.as_str()), "docs/webrocket.toml does not name {key}");
        }
        assert_eq!(named.len(), table.len());
    }

    #[test]
    fn a_wrong_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("webrocket.toml");
        fs::write(&path, "shards = 2\n\nshard = 3\n").unwrap();
        let message = Config::read(&path).unwrap_err().to_string();
        assert!(message.contains("wrong at line 3: unknown field `shard`"), "{message}");
        fs::write(&path, "shards = 0\n").unwrap();
        let message = Config::read(&path).unwrap().check().unwrap_err().to_string();
        assert_eq!(message, "shards is 0, but must be from 1 to 1024");
        fs::write(&path, "http-body-bytes-max = 1023\n").unwrap();
        let message = Config::read(&path).unwrap().check().unwrap_err().to_string();
        assert_eq!(message, "http-body-bytes-max is 1023, but must be from 1024 to 1073741824");
        fs::write(&path, "exchange-unread-bytes-max = 4194303\n").unwrap();
        let message = Config::read(&path).unwrap().check().unwrap_err().to_string();
        assert!(message.ends_with("must be at least exchange-message-bytes-max"), "{message}");
    }

    #[test]
    fn node_names_are_file_names() {
        assert!(is_node_name("web-1.example"));
        assert!(!is_node_name("../x") && !is_node_name("") && !is_node_name(".x") && !is_node_name("a/b"));
    }
}
