//! Where a vhost is and what lets a backend in: `wr://TOKEN@host:port/vhost`.

use std::{fmt, str::FromStr};

use crate::Error;

/// Where the exchange listens unless the URL says otherwise.
const PORT: u16 = 9774;

/// A vhost of a server. The token is kept out of `Debug`, and so out of logs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Host and port, as they stand in the URL.
    pub(crate) authority: String,
    pub(crate) vhost: String,
    pub(crate) token: String,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let rest = url.strip_prefix("wr://").ok_or(Error::Url("it does not begin with wr://"))?;
        let no_token = Error::Url("the vhost's access token must stand before the @");
        let (token, rest) = rest.split_once('@').ok_or(no_token)?;
        if token.is_empty() || token.contains(['/', ':']) {
            return Err(Error::Url("the vhost's access token, and nothing else, must stand before the @"));
        }
        let no_vhost = Error::Url("the vhost's path, and nothing else, must follow the host");
        let Some(slash) = rest.find('/').filter(|slash| slash + 1 < rest.len()) else { return Err(no_vhost) };
        let (authority, vhost) = rest.split_at(slash);
        if vhost.contains(['?', '#']) {
            return Err(no_vhost);
        }
        Ok(Self { authority: with_port(authority)?, vhost: vhost.to_owned(), token: token.to_owned() })
    }
}

fn with_port(authority: &str) -> Result<String, Error> {
    // Colons inside of brackets belong to an IPv6 address.
    let host_end = authority.find(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority[host_end..].split_once(':') {
        Some((rest, port)) => (&authority[..host_end + rest.len()], port.parse()),
        None => (authority, Ok(PORT)),
    };
    match port {
        Ok(port) if !host.is_empty() && port != 0 => Ok(format!("{host}:{port}")),
        _ => Err(Error::Url("host or port cannot be read")),
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address(wr://…@{}{})", self.authority, self.vhost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_token_host_and_vhost() {
        let read = |url: &str| {
            let address: Address = url.parse().unwrap();
            (address.authority, address.vhost, address.token)
        };
        let expected =
            |authority: &str, vhost: &str| (authority.to_owned(), vhost.to_owned(), "abc".to_owned());
        assert_eq!(read("wr://abc@localhost/world"), expected("localhost:9774", "/world"));
        assert_eq!(read("wr://abc@10.0.0.1:99/a/b"), expected("10.0.0.1:99", "/a/b"));
        assert_eq!(read("wr://abc@[::1]/w"), expected("[::1]:9774", "/w"));
        assert_eq!(read("wr://abc@[::1]:1/w"), expected("[::1]:1", "/w"));
    }

    #[test]
    fn anything_else_is_refused_without_showing_the_token() {
        for url in [
            "",
            "http://secret@h/v",
            "wr://h/v",
            "wr://@h/v",
            "wr://secret:x@h/v",
            "wr://secret@h",
            "wr://secret@h/",
            "wr://secret@/v",
            "wr://secret@:1/v",
            "wr://secret@h:x/v",
            "wr://secret@h:0/v",
            "wr://secret@h:65536/v",
            "wr://secret@h/v?x",
            "wr://secret@h/v#x",
        ] {
            let error = url.parse::<Address>().unwrap_err();
            assert!(matches!(error, Error::Url(_)), "{url}");
            assert!(!error.to_string().contains("secret"), "{url}");
        }
        let address: Address = "wr://secret@h/v".parse().unwrap();
        assert_eq!(format!("{address:?}"), "Address(wr://…@h:9774/v)");
    }
}
