//! What a request's path names, and what may be done with it.
//!
//! No segment of a vhost's path is one of the reserved words, so the first of them in a path ends
//! the vhost's part, whatever the names behind it are. That part is taken as it stands, as the
//! WebSocket handshake does; the names behind it are percent-decoded.

use axum::http::Method;
use percent_encoding::percent_decode_str;
use webrocket_wire::VhostPath;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// The browser client, as it is or for a vhost.
    Script(Option<VhostPath>),
    /// Something of a vhost.
    Resource(VhostPath, Resource),
}

/// A resource. Names are not checked yet: who may not do anything is not told what a name is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Channel(String),
    ChannelEvents(String),
    SessionEvents(String),
    Events,
    Token,
}

/// What is to be done with a resource.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operation {
    OpenChannel(String),
    CloseChannel(String),
    ShowChannel(String),
    Broadcast(String),
    SendMessages(String),
    TakeEvents,
    IssueToken,
}

/// The words that can stand behind a vhost's path first.
const FIRST_WORDS: [&str; 5] = ["channels", "token", "events", "sessions", "webrocket.js"];

impl Address {
    /// Takes a path apart; `None` where nothing can be.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut end_of_vhost = 0;
        for segment in path.strip_prefix('/')?.split('/') {
            if FIRST_WORDS.contains(&segment) {
                break;
            }
            end_of_vhost += 1 + segment.len();
        }
        let (vhost, rest) = path.split_at(end_of_vhost);
        let rest: Vec<_> = rest.strip_prefix('/')?.split('/').collect();
        let resource = match *rest.as_slice() {
            ["webrocket.js"] if vhost.is_empty() => return Some(Self::Script(None)),
            ["webrocket.js"] => return Some(Self::Script(Some(vhost.parse().ok()?))),
            ["channels", name] => Resource::Channel(decoded(name)),
            ["channels", name, "events"] => Resource::ChannelEvents(decoded(name)),
            ["sessions", sid, "events"] => Resource::SessionEvents(decoded(sid)),
            ["events"] => Resource::Events,
            ["token"] => Resource::Token,
            _ => return None,
        };
        Some(Self::Resource(vhost.parse().ok()?, resource))
    }
}

impl Resource {
    /// What a method does with it.
    ///
    /// A token is not for `HEAD`: nobody would learn what was issued. Nor are events: there is
    /// nothing to say of them before they come.
    ///
    /// # Errors
    /// The methods that there are.
    pub(super) fn operation(self, method: &Method) -> Result<Operation, &'static str> {
        match (self, method.as_str()) {
            (Self::Channel(name), "GET" | "HEAD") => Ok(Operation::ShowChannel(name)),
            (Self::Channel(name), "POST") => Ok(Operation::OpenChannel(name)),
            (Self::Channel(name), "DELETE") => Ok(Operation::CloseChannel(name)),
            (Self::Channel(_), _) => Err("GET,HEAD,POST,DELETE"),
            (Self::ChannelEvents(name), "POST") => Ok(Operation::Broadcast(name)),
            (Self::SessionEvents(sid), "POST") => Ok(Operation::SendMessages(sid)),
            (Self::ChannelEvents(_) | Self::SessionEvents(_), _) => Err("POST"),
            (Self::Events, "GET") => Ok(Operation::TakeEvents),
            (Self::Token, "GET") => Ok(Operation::IssueToken),
            (Self::Events | Self::Token, _) => Err("GET"),
        }
    }
}

/// A segment decoded. What is no UTF-8 is no name of anything afterwards either.
fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_reserved_word_ends_the_vhost() {
        let channel = |name: &str| Resource::Channel(name.to_owned());
        let events = |name: &str| Resource::ChannelEvents(name.to_owned());
        for (path, vhost, resource) in [
            ("/a/channels/x", "/a", channel("x")),
            ("/a/b/c/channels/x/events", "/a/b/c", events("x")),
            ("/a/channels/channels", "/a", channel("channels")),
            ("/a/channels/events", "/a", channel("events")),
            ("/a/channels/events/events", "/a", events("events")),
            ("/a/channels/token/events", "/a", events("token")),
            ("/a/channels/webrocket.js", "/a", channel("webrocket.js")),
            ("/a/channels/", "/a", channel("")),
            ("/a/channels/%61%2Fb%20%ff", "/a", channel("a/b \u{fffd}")),
            ("/a/token", "/a", Resource::Token),
            ("/a/events", "/a", Resource::Events),
            ("/a/sessions/s/events", "/a", Resource::SessionEvents("s".to_owned())),
        ] {
            assert_eq!(
                Address::parse(path),
                Some(Address::Resource(vhost.parse().unwrap(), resource)),
                "{path}"
            );
        }
        assert_eq!(Address::parse("/a/b/webrocket.js"), Some(Address::Script(Some("/a/b".parse().unwrap()))));
        assert_eq!(Address::parse("/webrocket.js"), Some(Address::Script(None)));
    }

    #[test]
    fn everything_else_is_nothing() {
        for path in [
            "",
            "*",
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/channels/x",
            "/token",
            "//token",
            "/a//token",
            "/a/channels",
            "/a/channels/x/",
            "/a/channels/x/event",
            "/a/channels/x/events/",
            "/a/channels/x/events/y",
            "/a/token/",
            "/a/token/x",
            "/events",
            "/a/events/",
            "/a/events/x",
            "/a/sessions/s",
            "/a/sessions/s/channels",
            "/a/webrocket.js/",
            "/a/webrocket.js/token",
            "/a%2Fb/token",
            "/%61/token",
            "/a/%74oken",
            "/a/../token",
        ] {
            assert_eq!(Address::parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_paths_never_panic(path in "(/|é|%2f|\\PC|a|channels|events|token|sessions|webrocket.js){0,9}") {
            fuzz::a_path_means_what_it_names(&path);
        }
    }
}
