//! The server's control API, as far as scenarios need it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::target::Target;

/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// For how long a shard served nobody else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestTurn {
    /// By the clock on the wall.
    pub(crate) wall: Duration,
    /// In processor time: without what else ran on the shard's processor.
    pub(crate) processor: Duration,
}

/// What a node tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) shards: Option<u64>,
    pub(crate) io: Option<String>,
    /// Where its exchange listens.
    pub(crate) exchange: Option<SocketAddr>,
}

/// A node's control API.
pub(crate) struct Control {
    agent: ureq::Agent,
    url: String,
    cookie: String,
}

impl Control {
    /// The control API at `url`, `http://host:port`, with the cookie that stands in `cookie_file`.
    pub(crate) fn new(url: &str, cookie_file: &Path) -> anyhow::Result<Self> {
        let cookie = std::fs::read_to_string(cookie_file);
        let cookie = cookie.with_context(|| format!("cannot read {}", cookie_file.display()))?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .build();
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.into(), url, cookie: cookie.trim().to_owned() })
    }

    /// The node itself.
    pub(crate) fn node(&self) -> anyhow::Result<Node> {
        let node = self.get("/node")?;
        Ok(Node {
            shards: node["shards"].as_u64(),
            io: node["io"].as_str().map(str::to_owned),
            exchange: node["addresses"]["exchange"].as_str().and_then(|address| address.parse().ok()),
        })
    }

    /// Makes sure that the target's vhost may have so many channels.
    pub(crate) fn allow_channels(&self, target: &Target, count: usize) -> anyhow::Result<()> {
        let path = format!("{}/settings", vhost(target));
        let most = self.get(&path)?["channels_max"].as_u64().context("a vhost has a limit of channels")?;
        if most >= count as u64 {
            return Ok(());
        }
        let url = format!("{}{path}", self.url);
        let request = self.agent.patch(&url).header("x-webrocket-cookie", &self.cookie);
        let response = request.send_json(json!({ "channels_max": count }));
        match response.with_context(|| format!("cannot ask {url}"))?.status().as_u16() {
            200..300 => Ok(()),
            status => bail!("{count} channels are not allowed: {status}"),
        }
    }

    /// Opens a channel of the target's vhost; whether it was not open already.
    pub(crate) fn open_channel(&self, target: &Target, name: &str) -> anyhow::Result<bool> {
        match self.post(&format!("{}/channels", vhost(target)), &json!({ "name": name }))? {
            (201, _) => Ok(true),
            (409, _) => Ok(false),
            (status, answer) => bail!("{name} could not be opened: {status} {answer}"),
        }
    }

    /// Closes a channel of the target's vhost; it may be closed already. Its name has only characters that need no
    /// escape.
    pub(crate) fn close_channel(&self, target: &Target, name: &str) -> anyhow::Result<()> {
        let url = format!("{}{}/channels/{name}", self.url, vhost(target));
        let request = self.agent.delete(&url).header("x-webrocket-cookie", &self.cookie);
        match request.call().with_context(|| format!("cannot ask {url}"))?.status().as_u16() {
            204 | 404 => Ok(()),
            status => bail!("{name} could not be closed: {status}"),
        }
    }

    /// A single access token for `uid` on the channels that `pattern` matches.
    pub(crate) fn token(
        &self,
        target: &Target,
        uid: &str,
        pattern: &str,
        ttl: Duration,
    ) -> anyhow::Result<String> {
        let body = json!({ "uid": uid, "channels": pattern, "ttl": ttl.as_secs() });
        let (status, answer) = self.post(&format!("{}/tokens", vhost(target)), &body)?;
        let token = answer["token"].as_str().map(str::to_owned);
        token.with_context(|| format!("no token was issued: {status} {answer}"))
    }

    /// The access token of the target's vhost.
    pub(crate) fn access_token(&self, target: &Target) -> anyhow::Result<String> {
        let answer = self.get(&vhost(target))?;
        let token = answer["token"].as_str().map(str::to_owned);
        token.context("a vhost has an access token")
    }

    /// How many workers of the target's vhost are ready.
    pub(crate) fn workers(&self, target: &Target) -> anyhow::Result<usize> {
        let answer = self.get(&format!("{}/workers", vhost(target)))?;
        Ok(answer["workers"].as_array().context("a list of workers was due")?.len())
    }

    /// For how long a shard served nobody else, at most, in the last 10 to 20 s.
    pub(crate) fn longest_turn(&self) -> anyhow::Result<LongestTurn> {
        let mut response = self.agent.get(format!("{}/metrics", self.url)).call()?;
        let text = response.body_mut().read_to_string()?;
        let longest =
            |name| longest(&text, name).with_context(|| format!("the server does not tell its {name}"));
        Ok(LongestTurn {
            wall: longest("longest_turn_microseconds")?,
            processor: longest("longest_turn_processor_microseconds")?,
        })
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.url);
        let request = self.agent.get(&url).header("x-webrocket-cookie", &self.cookie);
        let mut response = request.call().with_context(|| format!("cannot ask {url}"))?;
        let status = response.status();
        let answer: Value =
            response.body_mut().read_json().with_context(|| format!("{url} answers no JSON"))?;
        ensure!(status.is_success(), "{url} answers {status}: {answer}");
        Ok(answer)
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}{path}", self.url);
        let request = self.agent.post(&url).header("x-webrocket-cookie", &self.cookie);
        let mut response = request.send_json(body).with_context(|| format!("cannot ask {url}"))?;
        let answer = response.body_mut().read_json().with_context(|| format!("{url} answers no JSON"))?;
        Ok((response.status().as_u16(), answer))
    }
}

/// The resource of the target's vhost.
fn vhost(target: &Target) -> String {
    let path = target.path().split('?').next().unwrap_or_default();
    format!("/vhosts/{}", path.replace('/', "%2F"))
}

/// The greatest of a figure's series, one a shard, in microseconds.
fn longest(metrics: &str, name: &str) -> Option<Duration> {
    let series = |line: &str| {
        let labels = line.strip_prefix("webrocket_")?.strip_prefix(name)?;
        labels.strip_prefix('{')?.rsplit_once(' ')?.1.parse().ok()
    };
    metrics.lines().filter_map(series).max().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_that_of_any_shard() {
        let metrics = "# HELP webrocket_longest_turn_microseconds x\nwebrocket_longest_turn_microseconds{shard=\"0\"} 7\n\
            webrocket_longest_turn_microseconds{shard=\"1\"} 1900\nwebrocket_sessions{shard=\"0\"} 99999\n";
        assert_eq!(longest(metrics, "longest_turn_microseconds"), Some(Duration::from_micros(1900)));
        assert_eq!(longest(metrics, "longest_turn_processor_microseconds"), None);
    }

    #[test]
    fn a_vhost_is_one_segment() {
        let target: Target = "ws://127.0.0.1:1/a/b?protocol=wwfp".parse().expect("valid");
        assert_eq!(vhost(&target), "/vhosts/%2Fa%2Fb");
    }
}
