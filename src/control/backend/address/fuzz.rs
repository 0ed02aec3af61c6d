//! What holds of any path of a request.

use axum::http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::*;

/// Methods that there are, and one that there is not.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "BREW"];

/// `input` is a path.
pub fn address(input: &[u8]) {
    if let Ok(path) = std::str::from_utf8(input) {
        a_path_means_what_it_names(path);
    }
}

/// What a path means, written down again, means the same and has the same segments; and whichever methods are said
/// to be possible are.
pub(crate) fn a_path_means_what_it_names(path: &str) {
    let Some(address) = Address::parse(path) else { return };
    let written = written(&address);
    assert_eq!(Address::parse(&written), Some(address), "{written}");
    let decoded = |path: &str| path.split('/').map(decoded).collect::<Vec<_>>();
    assert_eq!(decoded(&written), decoded(path), "{written}");
    let operation = |method: &str| {
        let Some(Address::Resource(vhost, resource)) = Address::parse(path) else { return None };
        assert!(!vhost.as_str().split('/').any(|segment| FIRST_WORDS.contains(&segment)), "{vhost}");
        Some(resource.operation(&Method::from_bytes(method.as_bytes()).expect("a method")))
    };
    for method in METHODS {
        if let Some(Err(allowed)) = operation(method) {
            for method_allowed in allowed.split(',') {
                assert_ne!(method_allowed, method);
                assert!(matches!(operation(method_allowed), Some(Ok(_))), "{method_allowed}");
            }
        }
    }
}

fn written(address: &Address) -> String {
    let encoded = |name: &str| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
    match address {
        Address::Script(None) => "/webrocket.js".to_owned(),
        Address::Script(Some(vhost)) => format!("{vhost}/webrocket.js"),
        Address::Resource(vhost, resource) => match resource {
            Resource::Channel(name) => format!("{vhost}/channels/{}", encoded(name)),
            Resource::ChannelEvents(name) => format!("{vhost}/channels/{}/events", encoded(name)),
            Resource::SessionEvents(sid) => format!("{vhost}/sessions/{}/events", encoded(sid)),
            Resource::Events => format!("{vhost}/events"),
            Resource::Token => format!("{vhost}/token"),
        },
    }
}
