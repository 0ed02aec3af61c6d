//! Where the server is: a `ws://` address, parsed once.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use anyhow::{Context, bail};

/// A server's WebSocket address, `ws://host[:port]/vhost`, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    address: SocketAddr,
    authority: String,
    path: String,
}

impl Target {
    /// The vhost at `path` (with its leading slash) of the server at `address`.
    pub(crate) fn new(address: SocketAddr, path: &str) -> Self {
        Self { address, authority: address.to_string(), path: path.to_owned() }
    }

    /// The same vhost, spoken to in WWFP.
    pub(crate) fn in_wwfp(&self) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        Self { path: format!("{}{separator}protocol=wwfp", self.path), ..self.clone() }
    }

    /// Another address of the same server as it is reached from here: one that listens everywhere has none of its own.
    pub(crate) fn reach(&self, address: SocketAddr) -> SocketAddr {
        let ip = if address.ip().is_unspecified() { self.address.ip() } else { address.ip() };
        SocketAddr::new(ip, address.port())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Path and query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ws://{}{}", self.authority, self.path)
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("ws://") else {
            bail!("{url:?} does not begin with ws:// (TLS is not spoken by the load test)");
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            bail!("the path of {url:?} holds blanks or control characters");
        }
        let port_given = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let host_and_port =
            if port_given { authority.to_owned() } else { format!("{authority}:{DEFAULT_PORT}") };
        let address = host_and_port
            .to_socket_addrs()
            .with_context(|| format!("{host_and_port:?} is no address"))?
            .next()
            .with_context(|| format!("{host_and_port:?} has no address"))?;
        Ok(Self { address, authority: host_and_port, path: path.to_owned() })
    }
}

/// WebRocket's own port, taken when the address names none.
const DEFAULT_PORT: u16 = 9772;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let target: Target = "ws://127.0.0.1:9000/demo?protocol=webrocket".parse().expect("valid");
        assert_eq!(target.address(), SocketAddr::from(([127, 0, 0, 1], 9000)));
        assert_eq!(target.authority(), "127.0.0.1:9000");
        assert_eq!(target.path(), "/demo?protocol=webrocket");
        assert_eq!(target.to_string(), "ws://127.0.0.1:9000/demo?protocol=webrocket");
    }

    #[test]
    fn the_dialect_is_asked_for_in_the_query() {
        let path = |url: &str| url.parse::<Target>().expect("valid").in_wwfp().path().to_owned();
        assert_eq!(path("ws://127.0.0.1/a"), "/a?protocol=wwfp");
        assert_eq!(path("ws://127.0.0.1/a?x=1"), "/a?x=1&protocol=wwfp");
    }

    #[test]
    fn port_and_path_have_defaults() {
        let target: Target = "ws://127.0.0.1".parse().expect("valid");
        assert_eq!((target.address().port(), target.path()), (9772, "/"));
        let target: Target = "ws://[::1]/demo".parse().expect("valid");
        assert_eq!((target.address().port(), target.path()), (9772, "/demo"));
    }

    #[test]
    fn who_listens_everywhere_is_where_the_server_is() {
        let target: Target = "ws://127.0.0.7:9772/demo".parse().expect("valid");
        let reached = |address: &str| target.reach(address.parse().expect("valid")).to_string();
        assert_eq!(reached("0.0.0.0:9774"), "127.0.0.7:9774");
        assert_eq!(reached("127.0.0.1:9774"), "127.0.0.1:9774");
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in
            ["wss://127.0.0.1/demo", "127.0.0.1:9772", "ws://", "ws://127.0.0.1:x/", "ws://127.0.0.1/a b"]
        {
            assert!(url.parse::<Target>().is_err(), "{url}");
        }
    }
}
