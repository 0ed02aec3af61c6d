//! Asking a node.

use std::{env, fs, path::PathBuf, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::{Agent, http};

use super::{arguments::Node, error::CtlError};

const URL_DEFAULT: &str = "http://127.0.0.1:9773";
/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Length of an answer, in bytes: a vhost may have many channels.
const ANSWER_BYTES_MAX: u64 = 4 << 30;
/// Everything that is not unreserved in a URL's path is encoded, the slash above all.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A node's control API.
pub(super) struct Client {
    agent: Agent,
    url: String,
    cookie: String,
}

impl Client {
    /// Finds out where the node is, and its cookie.
    pub(super) fn new(node: &Node) -> Result<Self, CtlError> {
        let url = node.control_url.clone().or_else(|| variable("WEBROCKET_CONTROL_URL"));
        let url = url.unwrap_or_else(|| URL_DEFAULT.to_owned());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_global(Some(TIMEOUT))
            .build();
        Ok(Self { agent: config.into(), url: url.trim_end_matches('/').to_owned(), cookie: cookie(node)? })
    }

    /// Asks, and returns what the node says; nothing if it has nothing to say.
    pub(super) fn ask(
        &self,
        method: http::Method,
        segments: &[&str],
        body: Option<&Value>,
    ) -> Result<Value, CtlError> {
        let path: String =
            segments.iter().map(|segment| format!("/{}", utf8_percent_encode(segment, SEGMENT))).collect();
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("x-webrocket-cookie", &self.cookie)
            .header("content-type", "application/json")
            .body(body)
            .map_err(|_| CtlError::Url(self.url.clone()))?;
        let mut response = self.agent.run(request).map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| self.unreachable(error))?;
        if status == http::StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let answer: Value =
            serde_json::from_str(&text).map_err(|_| CtlError::NoNode { url: self.url.clone() })?;
        match answer["error"].as_str() {
            Some(error) if !status.is_success() => Err(CtlError::Refused(error.to_owned())),
            None if !status.is_success() => Err(CtlError::NoNode { url: self.url.clone() }),
            _ => Ok(answer),
        }
    }

    fn unreachable(&self, error: ureq::Error) -> CtlError {
        let reason = match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => return CtlError::Url(self.url.clone()),
            ureq::Error::Protocol(_) => return CtlError::NoNode { url: self.url.clone() },
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        CtlError::Unreachable { url: self.url.clone(), reason }
    }
}

/// The cookie, from the first place that is given.
fn cookie(node: &Node) -> Result<String, CtlError> {
    if let Some(cookie) = &node.cookie {
        return Ok(cookie.0.clone());
    }
    let file = match &node.cookie_file {
        Some(file) => file.clone(),
        None => match (variable("WEBROCKET_COOKIE"), variable("WEBROCKET_COOKIE_FILE")) {
            (Some(cookie), _) => return Ok(cookie),
            (None, Some(file)) => file.into(),
            (None, None) => default_file(),
        },
    };
    let text = fs::read_to_string(&file)
        .map_err(|source| CtlError::CookieFile { file: file.display().to_string(), source })?;
    Ok(text.trim().to_owned())
}

/// Where a node of this host keeps its cookie if it was not told otherwise.
fn default_file() -> PathBuf {
    let host = hostname::get().unwrap_or_default();
    PathBuf::from("webrocket-data").join(format!("{}.cookie", host.to_string_lossy()))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
