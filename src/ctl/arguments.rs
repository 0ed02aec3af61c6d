//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use webrocket_wire::{BackendKey, ChannelName, Rights, UserName, VhostPath};

/// Operates a running WebRocket node through its control API.
#[derive(Debug, Parser)]
#[command(
    name = "webrocket-ctl",
    version,
    after_help = "The node's cookie is taken from --cookie, --cookie-file, the environment variables WEBROCKET_COOKIE and \
                  WEBROCKET_COOKIE_FILE, or ./webrocket-data/<hostname>.cookie, the first that is given. \
                  Exit status: 0 done, 1 failed (one sentence on standard error), 2 wrong usage."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) node: Node,
    /// Print what the node answers, as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Which node, and how to be let in.
#[derive(Debug, Args)]
pub(super) struct Node {
    /// Where the node's control API listens [default: $WEBROCKET_CONTROL_URL, or http://127.0.0.1:9773]
    #[arg(long, value_name = "URL", global = true)]
    pub(super) control_url: Option<String>,
    /// The node's cookie; others on this machine can see it while the command runs, so better use --cookie-file
    #[arg(long, value_name = "COOKIE", global = true, conflicts_with = "cookie_file")]
    pub(super) cookie: Option<Cookie>,
    /// The file that holds the node's cookie
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) cookie_file: Option<PathBuf>,
}

/// A cookie as given. Not shown in `Debug`.
#[derive(Clone)]
pub(super) struct Cookie(pub(super) String);

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie(…)")
    }
}

impl From<&str> for Cookie {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Vhosts: separate worlds with channels, users and tokens of their own
    #[command(subcommand)]
    Vhost(VhostCommand),
    /// Users of a vhost
    #[command(subcommand)]
    User(UserCommand),
    /// Keys of a vhost: by them its backends over ZeroMQ are known where the node speaks CURVE
    #[command(subcommand)]
    Key(KeyCommand),
    /// Channels of a vhost
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// Single access tokens: each lets one session in, once
    #[command(subcommand)]
    Token(TokenCommand),
    /// Workers: the backends that are ready to handle what sessions trigger
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// The queue of a vhost: what waits for its workers
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Limits and timeouts of a vhost
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// The node itself
    #[command(subcommand)]
    Node(NodeCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum VhostCommand {
    /// Add a vhost and print its access token
    Add { path: VhostPath },
    /// List all vhosts
    List,
    /// Show a vhost and its access token
    Show { path: VhostPath },
    /// Remove a vhost with its users and channels, and close its sessions
    Remove { path: VhostPath },
    /// Give a vhost a new access token; backends that hold the old one are locked out at once
    RegenerateToken { path: VhostPath },
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user; without a secret it authenticates by its name alone
    Add {
        vhost: VhostPath,
        name: UserName,
        #[command(flatten)]
        secret: Secret,
        /// What the user may do: a list of read, write, manage, or none
        #[arg(long)]
        rights: Rights,
    },
    /// List the users of a vhost
    List { vhost: VhostPath },
    /// Remove a user; its sessions become anonymous
    Remove { vhost: VhostPath, name: UserName },
    /// Change what a user may do; its sessions go on under the new rights
    SetRights {
        vhost: VhostPath,
        name: UserName,
        /// What the user may do: a list of read, write, manage, or none
        #[arg(long)]
        rights: Rights,
    },
    /// Change a user's secret, or take it away
    #[command(group = clap::ArgGroup::new("new-secret").args(["secret", "secret_stdin", "none"]).required(true))]
    SetSecret {
        vhost: VhostPath,
        name: UserName,
        #[command(flatten)]
        secret: Secret,
        /// Take the secret away: the user authenticates by its name alone
        #[arg(long)]
        none: bool,
    },
}

/// A user's secret. Not shown in `Debug`.
#[derive(Args)]
pub(super) struct Secret {
    /// The user's secret; others on this machine can see it while the command runs, so better use --secret-stdin
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_stdin")]
    pub(super) secret: Option<String>,
    /// Read the secret from standard input, up to the first line's end
    #[arg(long)]
    pub(super) secret_stdin: bool,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Let in backends that have the secret half of this public key
    Add {
        vhost: VhostPath,
        /// 40 characters of Z85; in a shell it stands in single quotes
        #[arg(allow_hyphen_values = true)]
        key: BackendKey,
    },
    /// List the keys of a vhost
    List { vhost: VhostPath },
    /// Take a key away; all backends of the vhost are cut off, and those with another key connect again
    #[command(alias = "delete")]
    Remove {
        vhost: VhostPath,
        #[arg(allow_hyphen_values = true)]
        key: BackendKey,
    },
    /// Make a key pair, for a node or a backend, and print its public key; no node is asked
    Pair {
        /// Where the secret key is written: a new file, readable by its owner only
        #[arg(value_name = "FILE")]
        secret_key_file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ChannelCommand {
    /// Open a channel; it stays until it is removed
    Add { vhost: VhostPath, name: ChannelName },
    /// List the channels of a vhost
    List { vhost: VhostPath },
    /// Show a channel and who is present
    Show { vhost: VhostPath, name: ChannelName },
    /// Close a channel; its subscribers are told
    Remove { vhost: VhostPath, name: ChannelName },
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Issue a token and print it, nothing else
    Issue {
        vhost: VhostPath,
        /// Whom the session will be, 1 to 128 bytes
        #[arg(long)]
        uid: String,
        /// The channels that the session may use: a regular expression that matches their whole names
        #[arg(long, value_name = "PATTERN")]
        channels: String,
        /// How long the token is valid while it is unused, in seconds [default: 60]
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum WorkerCommand {
    /// List the ready workers of a vhost, over ZeroMQ and HTTP, in the order in which they came
    List { vhost: VhostPath },
}

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// Show how much waits for the workers of a vhost, and what came of the rest
    Show { vhost: VhostPath },
}

#[derive(Debug, Subcommand)]
pub(super) enum SettingsCommand {
    /// Show all settings of a vhost
    Show { vhost: VhostPath },
    /// Change settings, all of the given ones or none
    Set {
        vhost: VhostPath,
        /// A setting and its new value, for example channels_max=500 or anonymous=read
        #[arg(value_name = "KEY=VALUE", required = true)]
        settings: Vec<Setting>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Show the node's name, version and addresses
    Show,
}

/// `key=value`. The value is a number if it looks like one, otherwise text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: serde_json::Value,
}

impl std::str::FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("it must be KEY=VALUE")?;
        if key.is_empty() {
            return Err("it must be KEY=VALUE");
        }
        let number = value.parse::<u64>().map(serde_json::Value::from);
        Ok(Self { key: key.to_owned(), value: number.unwrap_or_else(|_| value.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("webrocket-ctl").chain(line.split(' ')))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood() {
        for line in [
            "vhost add /a",
            "vhost list",
            "vhost show /a/b",
            "vhost remove /a",
            "vhost regenerate-token /a",
            "user add /a joe --rights read,write",
            "user add /a joe --secret s --rights none",
            "user add /a joe --secret-stdin --rights manage",
            "user list /a",
            "user remove /a joe",
            "user set-rights /a joe --rights read",
            "user set-secret /a joe --secret s",
            "user set-secret /a joe --secret-stdin",
            "user set-secret /a joe --none",
            "key add /a rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
            "key add /a -h:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
            "key list /a",
            "key remove /a --:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
            "key pair exchange.key",
            "channel add /a presence-x",
            "channel list /a --json",
            "channel show /a x",
            "channel remove /a x",
            "token issue /a --uid joe --channels .* --ttl 5",
            "worker list /a",
            "queue show /a --json",
            "settings show /a",
            "settings set /a channels_max=5 anonymous=read,write",
            "--control-url http://h:1 --cookie-file f --json node show",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn wrong_usage_is_refused_before_a_node_is_asked() {
        for (line, kind) in [
            ("vhost add a", ErrorKind::ValueValidation),
            ("key add /a rq:rM", ErrorKind::ValueValidation),
            ("user add /a joe", ErrorKind::MissingRequiredArgument),
            ("user add /a joe --rights fly", ErrorKind::ValueValidation),
            ("user add /a joe --secret s --secret-stdin --rights read", ErrorKind::ArgumentConflict),
            ("user set-secret /a joe", ErrorKind::MissingRequiredArgument),
            ("user set-secret /a joe --secret s --none", ErrorKind::ArgumentConflict),
            ("settings set /a", ErrorKind::MissingRequiredArgument),
            ("settings set /a channels_max", ErrorKind::ValueValidation),
            ("--cookie c --cookie-file f node show", ErrorKind::ArgumentConflict),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let text =
            format!("{:?}", parse("--cookie c00kie user add /a joe --secret s3cr3t --rights read").unwrap());
        assert!(!text.contains("c00kie") && !text.contains("s3cr3t"), "{text}");
    }

    #[test]
    fn values_are_numbers_or_text() {
        assert_eq!("a=5".parse::<Setting>().unwrap().value, 5);
        assert_eq!("a=b=c".parse::<Setting>().unwrap().value, "b=c");
    }
}
