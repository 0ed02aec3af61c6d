//! Carrying out a command: what to ask the node, and how to show its answer.

use std::{
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use ureq::http::Method;
use webrocket_wire::VhostPath;

use super::{
    arguments::{
        ChannelCommand, Cli, Command, KeyCommand, NodeCommand, QueueCommand, Secret, SettingsCommand,
        TokenCommand, UserCommand, VhostCommand, WorkerCommand,
    },
    client::Client,
    error::CtlError,
    table::{pairs, table},
};
use crate::exchange::KeyPair;

/// What a command comes to.
enum Errand {
    /// A node is asked.
    Ask(Task),
    /// A key pair is made, and its secret key written to this file.
    MakePair(PathBuf),
}

/// What to ask, and how to show the answer to a person.
struct Task {
    method: Method,
    segments: Vec<String>,
    body: Option<Value>,
    show: fn(&Value) -> String,
}

/// Carries out the command.
pub(super) fn run(cli: Cli) -> Result<(), CtlError> {
    let (answer, show) = match errand(cli.command)? {
        Errand::Ask(task) => {
            let client = Client::new(&cli.node)?;
            let segments: Vec<_> = task.segments.iter().map(String::as_str).collect();
            (client.ask(task.method, &segments, task.body.as_ref())?, task.show)
        }
        Errand::MakePair(file) => (make_pair(&file)?, show_flat as fn(&Value) -> String),
    };
    let text = match (cli.json, &answer) {
        (_, Value::Null) => String::new(),
        (true, answer) => format!("{answer}\n"),
        (false, answer) => show(answer),
    };
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(CtlError::Output)
}

fn errand(command: Command) -> Result<Errand, CtlError> {
    Ok(Errand::Ask(match command {
        Command::Vhost(command) => vhost(&command),
        Command::User(command) => user(command)?,
        Command::Key(command) => return Ok(key(command)),
        Command::Channel(command) => channel(&command),
        Command::Token(command) => token(command),
        Command::Worker(WorkerCommand::List { vhost }) => {
            let segments = below(&vhost, &["workers"]);
            Task { method: Method::GET, segments, body: None, show: show_workers }
        }
        Command::Queue(QueueCommand::Show { vhost }) => {
            let segments = below(&vhost, &["queue"]);
            Task { method: Method::GET, segments, body: None, show: show_flat }
        }
        Command::Settings(command) => settings(command),
        Command::Node(NodeCommand::Show) => {
            Task { method: Method::GET, segments: vec!["node".to_owned()], body: None, show: show_flat }
        }
    }))
}

fn vhost(command: &VhostCommand) -> Task {
    let vhosts = || vec!["vhosts".to_owned()];
    match command {
        VhostCommand::Add { path } => Task {
            method: Method::POST,
            segments: vhosts(),
            body: Some(json!({ "path": path })),
            show: show_vhost,
        },
        VhostCommand::List => Task { method: Method::GET, segments: vhosts(), body: None, show: show_vhosts },
        VhostCommand::Show { path } => {
            Task { method: Method::GET, segments: below(path, &[]), body: None, show: show_vhost }
        }
        VhostCommand::Remove { path } => {
            Task { method: Method::DELETE, segments: below(path, &[]), body: None, show: nothing }
        }
        VhostCommand::RegenerateToken { path } => {
            Task { method: Method::PUT, segments: below(path, &["token"]), body: None, show: show_vhost }
        }
    }
}

fn user(command: UserCommand) -> Result<Task, CtlError> {
    Ok(match command {
        UserCommand::Add { vhost, name, secret, rights } => {
            let mut body = json!({ "name": name, "rights": rights });
            if let Some(secret) = secret.read()? {
                body["secret"] = secret.into();
            }
            Task {
                method: Method::POST,
                segments: below(&vhost, &["users"]),
                body: Some(body),
                show: nothing,
            }
        }
        UserCommand::List { vhost } => {
            Task { method: Method::GET, segments: below(&vhost, &["users"]), body: None, show: show_users }
        }
        UserCommand::Remove { vhost, name } => Task {
            method: Method::DELETE,
            segments: below(&vhost, &["users", name.as_str()]),
            body: None,
            show: nothing,
        },
        UserCommand::SetRights { vhost, name, rights } => Task {
            method: Method::PATCH,
            segments: below(&vhost, &["users", name.as_str()]),
            body: Some(json!({ "rights": rights })),
            show: nothing,
        },
        // Without --none one of the others is there: the argument group wants it so.
        UserCommand::SetSecret { vhost, name, secret, none: _ } => Task {
            method: Method::PATCH,
            segments: below(&vhost, &["users", name.as_str()]),
            body: Some(json!({ "secret": secret.read()? })),
            show: nothing,
        },
    })
}

fn key(command: KeyCommand) -> Errand {
    Errand::Ask(match command {
        KeyCommand::Add { vhost, key } => Task {
            method: Method::POST,
            segments: below(&vhost, &["keys"]),
            body: Some(json!({ "key": key.to_string() })),
            show: nothing,
        },
        KeyCommand::List { vhost } => {
            Task { method: Method::GET, segments: below(&vhost, &["keys"]), body: None, show: show_keys }
        }
        KeyCommand::Remove { vhost, key } => Task {
            method: Method::DELETE,
            segments: below(&vhost, &["keys", &key.to_string()]),
            body: None,
            show: nothing,
        },
        KeyCommand::Pair { secret_key_file } => return Errand::MakePair(secret_key_file),
    })
}

/// Makes a key pair; the secret key is seen by its file only.
fn make_pair(secret_key_file: &Path) -> Result<Value, CtlError> {
    let pair = KeyPair::generate()?;
    pair.save(secret_key_file)?;
    Ok(json!({ "public_key": pair.public() }))
}

fn channel(command: &ChannelCommand) -> Task {
    let one = |vhost, name: &str| below(vhost, &["channels", name]);
    match command {
        ChannelCommand::Add { vhost, name } => Task {
            method: Method::POST,
            segments: below(vhost, &["channels"]),
            body: Some(json!({ "name": name })),
            show: nothing,
        },
        ChannelCommand::List { vhost } => Task {
            method: Method::GET,
            segments: below(vhost, &["channels"]),
            body: None,
            show: show_channels,
        },
        ChannelCommand::Show { vhost, name } => {
            Task { method: Method::GET, segments: one(vhost, name.as_str()), body: None, show: show_flat }
        }
        ChannelCommand::Remove { vhost, name } => {
            Task { method: Method::DELETE, segments: one(vhost, name.as_str()), body: None, show: nothing }
        }
    }
}

fn token(command: TokenCommand) -> Task {
    let TokenCommand::Issue { vhost, uid, channels, ttl } = command;
    let mut body = json!({ "uid": uid, "channels": channels });
    if let Some(ttl) = ttl {
        body["ttl"] = ttl.into();
    }
    Task { method: Method::POST, segments: below(&vhost, &["tokens"]), body: Some(body), show: show_token }
}

fn settings(command: SettingsCommand) -> Task {
    match command {
        SettingsCommand::Show { vhost } => {
            Task { method: Method::GET, segments: below(&vhost, &["settings"]), body: None, show: show_flat }
        }
        SettingsCommand::Set { vhost, settings } => {
            let body: Map<_, _> = settings.into_iter().map(|setting| (setting.key, setting.value)).collect();
            let segments = below(&vhost, &["settings"]);
            Task { method: Method::PATCH, segments, body: Some(body.into()), show: nothing }
        }
    }
}

impl Secret {
    /// The secret, from wherever it is to come.
    fn read(self) -> Result<Option<String>, CtlError> {
        if !self.secret_stdin {
            return Ok(self.secret);
        }
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(CtlError::Secret)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
    }
}

/// The address of something below a vhost.
fn below(vhost: &VhostPath, rest: &[&str]) -> Vec<String> {
    ["vhosts", vhost.as_str()].iter().chain(rest).map(|&segment| segment.to_owned()).collect()
}

fn nothing(_: &Value) -> String {
    String::new()
}

fn show_vhost(vhost: &Value) -> String {
    pairs([("path", word(&vhost["path"])), ("token", word(&vhost["token"]))])
}

fn show_vhosts(answer: &Value) -> String {
    rows(&answer["vhosts"], &[("path", "/path"), ("users", "/users"), ("channels", "/channels")])
}

fn show_users(answer: &Value) -> String {
    rows(&answer["users"], &[("name", "/name"), ("rights", "/rights"), ("secret", "/has_secret")])
}

fn show_keys(answer: &Value) -> String {
    rows(&answer["keys"], &[("key", "/key")])
}

fn show_channels(answer: &Value) -> String {
    let columns =
        [("name", "/name"), ("type", "/type"), ("opened", "/opened"), ("subscribers", "/subscribers/size")];
    rows(&answer["channels"], &columns)
}

fn show_workers(answer: &Value) -> String {
    let columns = [
        ("id", "/id"),
        ("transport", "/transport"),
        ("filter", "/filter"),
        ("window", "/window"),
        ("outstanding", "/outstanding"),
        ("since", "/since"),
    ];
    rows(&answer["workers"], &columns)
}

fn show_token(answer: &Value) -> String {
    format!("{}\n", word(&answer["token"]))
}

/// One line a member; members of members by their dotted names.
fn show_flat(answer: &Value) -> String {
    let mut lines = Vec::new();
    flatten("", answer, &mut lines);
    pairs(lines.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

fn flatten(prefix: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    let Value::Object(members) = value else {
        lines.push((prefix.to_owned(), word(value)));
        return;
    };
    for (name, value) in members {
        let dotted = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        flatten(&dotted, value, lines);
    }
}

/// A table of a list's objects: headings, and where in the object each column stands.
fn rows(list: &Value, columns: &[(&str, &str)]) -> String {
    let headings: Vec<_> = columns.iter().map(|&(heading, _)| heading).collect();
    let cell = |object: &Value, place: &str| object.pointer(place).map(word).unwrap_or_default();
    let row = |object: &Value| columns.iter().map(|&(_, place)| cell(object, place)).collect();
    let rows: Vec<Vec<String>> = list.as_array().into_iter().flatten().map(row).collect();
    table(&headings, &rows)
}

/// A value as a person reads it.
fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn asked(line: &str) -> (Method, String, Option<Value>) {
        let cli = Cli::parse_from(std::iter::once("webrocket-ctl").chain(line.split(' ')));
        let Errand::Ask(task) = errand(cli.command).unwrap() else { panic!("no node is asked") };
        (task.method, task.segments.join(" "), task.body)
    }

    #[test]
    fn commands_ask_for_what_they_say() {
        assert_eq!(
            asked("vhost add /a/b"),
            (Method::POST, "vhosts".to_owned(), Some(json!({"path": "/a/b"})))
        );
        assert_eq!(asked("vhost regenerate-token /a/b"), (Method::PUT, "vhosts /a/b token".to_owned(), None));
        assert_eq!(
            asked("user add /a joe --rights write,read"),
            (
                Method::POST,
                "vhosts /a users".to_owned(),
                Some(json!({"name": "joe", "rights": "read,write"}))
            )
        );
        assert_eq!(
            asked("token issue /a/b --uid joe --channels private-.* --ttl 5"),
            (
                Method::POST,
                "vhosts /a/b tokens".to_owned(),
                Some(json!({"uid": "joe", "channels": "private-.*", "ttl": 5}))
            )
        );
        let key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
        assert_eq!(
            asked(&format!("key add /a {key}")),
            (Method::POST, "vhosts /a keys".to_owned(), Some(json!({ "key": key })))
        );
        let removal = (Method::DELETE, format!("vhosts /a keys {key}"), None);
        assert_eq!(asked(&format!("key remove /a {key}")), removal);
        assert_eq!(asked(&format!("key delete /a {key}")), removal);
        assert_eq!(asked("worker list /a/b"), (Method::GET, "vhosts /a/b workers".to_owned(), None));
        assert_eq!(asked("queue show /a/b"), (Method::GET, "vhosts /a/b queue".to_owned(), None));
        let secret = |line| asked(line).2.unwrap()["secret"].clone();
        assert_eq!(secret("user set-secret /a joe --secret pw"), "pw");
        assert_eq!(secret("user set-secret /a joe --none"), Value::Null);
        assert_eq!(
            asked("settings set /a channels_max=5 anonymous=read").2,
            Some(json!({"channels_max": 5, "anonymous": "read"}))
        );
    }

    #[test]
    fn answers_are_shown_to_people() {
        let channel =
            json!({"name": "presence-x", "opened": true, "subscribers": {"size": 2}, "members": ["a", "b"]});
        assert_eq!(
            show_flat(&channel),
            "members           a, b\nname              presence-x\nopened            yes\nsubscribers.size  2\n"
        );
        assert_eq!(
            show_channels(&json!({"channels": [channel]})),
            "NAME        TYPE  OPENED  SUBSCRIBERS\npresence-x        yes     2\n"
        );
        assert_eq!(show_vhost(&json!({"path": "/a", "token": "00", "users": 1})), "path   /a\ntoken  00\n");
        let worker =
            json!({"id": "0.1", "transport": "zeromq", "filter": "a.*", "window": null, "outstanding": 0});
        assert_eq!(
            show_workers(&json!({"workers": [worker]})),
            "ID   TRANSPORT  FILTER  WINDOW  OUTSTANDING  SINCE\n0.1  zeromq     a.*             0\n"
        );
        assert_eq!(show_keys(&json!({"keys": [{"key": "%nSc0"}]})), "KEY\n%nSc0\n");
        assert_eq!(show_token(&json!({"token": "ff"})), "ff\n");
    }
}
