//! The opening handshake: from the bytes of a request head to what to do with the connection.
//!
//! A shard reads the head itself. An upgrade becomes a session; any other HTTP request goes to
//! the HTTP server as it is; a faulty upgrade is refused with a short response.
//!
//! Source: RFC 6455, section 4; docs/protocol.md, "Front: WebSocket".

use tungstenite::handshake::derive_accept_key;

/// The longest request head, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The most headers of a request.
const HEADERS_MAX: usize = 100;

/// How the client wants to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The dialect of the manual page `webrocket(7)`.
    Classic,
    /// The WebRocket WebSockets Frontend Protocol.
    Wwfp,
}

impl Dialect {
    /// The subprotocol, and value of the query's `protocol`, that selects the dialect.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "webrocket",
            Self::Wwfp => "wwfp",
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        [Self::Classic, Self::Wwfp].into_iter().find(|dialect| dialect.name().as_bytes() == name)
    }
}

/// The head of a request that asks for an upgrade, with the key of RFC 6455, section 1.3; `more` is further header
/// lines, each with its end. Of no use but in tests and benchmarks, here and in other crates.
#[doc(hidden)]
#[must_use]
pub fn example_head(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {EXAMPLE_KEY}\r\n{more}\r\n"
    )
}

/// See [`example_head`].
#[doc(hidden)]
pub const EXAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a request head says.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// It is not whole yet.
    Partial,
    /// A WebSocket handshake; `bytes` of the input are the head.
    Upgrade {
        /// The length of the head.
        bytes: usize,
        /// What is asked.
        upgrade: Upgrade,
    },
    /// Another HTTP request: the HTTP server's.
    Http,
    /// To be refused.
    Refused(Refusal),
}

/// A valid WebSocket handshake.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The path of the request target, without the query.
    pub path: String,
    /// The query of the request target, without the question mark; empty if there is none.
    pub query: String,
    /// The dialect that the client chose.
    pub dialect: Dialect,
    /// Whether the answer names the subprotocol.
    subprotocol: bool,
    accept_key: String,
}

/// Why a request is refused before the upgrade, with its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 400: not HTTP, or a faulty handshake.
    BadRequest,
    /// 404: there is no such vhost.
    VhostNotFound,
    /// 426: another version than 13.
    Version,
    /// 429: too many connections from this address.
    TooManyConnections,
    /// 431: the head is too long.
    HeadTooLong,
    /// 503: the server shuts down.
    ShuttingDown,
}

impl Refusal {
    /// The status line's code and phrase, an extra header, and the body's sentence.
    fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::BadRequest => ("400 Bad Request", "", "This is not a valid WebSocket handshake."),
            Self::VhostNotFound => ("404 Not Found", "", "There is no such vhost."),
            Self::Version => (
                "426 Upgrade Required",
                "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
                "Only version 13 of the WebSocket protocol is spoken here.",
            ),
            Self::TooManyConnections => {
                ("429 Too Many Requests", "", "There are too many connections from this address.")
            }
            Self::HeadTooLong => {
                ("431 Request Header Fields Too Large", "", "The request's head is too long.")
            }
            Self::ShuttingDown => ("503 Service Unavailable", "", "The server is shutting down."),
        }
    }

    /// The whole response; the connection is closed after it.
    #[must_use]
    pub fn response(self) -> Vec<u8> {
        let (status, header, sentence) = self.parts();
        let connection = if matches!(self, Self::Version) { "upgrade, close" } else { "close" };
        format!(
            "HTTP/1.1 {status}\r\n{header}Connection: {connection}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n{sentence}\n",
            sentence.len() + 1
        )
        .into_bytes()
    }
}

impl Upgrade {
    /// The response that completes the handshake.
    #[must_use]
    pub fn response(&self) -> Vec<u8> {
        let subprotocol = if self.subprotocol {
            format!("Sec-WebSocket-Protocol: {}\r\n", self.dialect.name())
        } else {
            String::new()
        };
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{subprotocol}\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            self.accept_key
        )
        .into_bytes()
    }
}

/// Reads a request head from the front of `input`.
#[must_use]
pub fn parse(input: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(input) {
        Ok(httparse::Status::Partial) if input.len() <= HEAD_BYTES_MAX => Head::Partial,
        Ok(httparse::Status::Complete(bytes)) if bytes <= HEAD_BYTES_MAX => judge(&request, bytes),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Head::Refused(Refusal::HeadTooLong),
        Err(_) => Head::Refused(Refusal::BadRequest),
    }
}

fn judge(request: &httparse::Request<'_, '_>, bytes: usize) -> Head {
    if !names_token(request, "upgrade", "websocket") {
        return Head::Http;
    }
    match upgrade(request) {
        Ok(upgrade) => Head::Upgrade { bytes, upgrade },
        Err(refusal) => Head::Refused(refusal),
    }
}

fn upgrade(request: &httparse::Request<'_, '_>) -> Result<Upgrade, Refusal> {
    if request.method != Some("GET")
        || request.version != Some(1)
        || !names_token(request, "connection", "upgrade")
        || values(request, "host").count() != 1
    {
        return Err(Refusal::BadRequest);
    }
    if single(request, "sec-websocket-version")? != b"13" {
        return Err(Refusal::Version);
    }
    let key = single(request, "sec-websocket-key")?;
    if !is_key(key) {
        return Err(Refusal::BadRequest);
    }
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // What the client lists first it likes best; a listed dialect is confirmed by name.
    let offered = tokens(request, "sec-websocket-protocol").find_map(Dialect::named);
    let asked = || {
        let mut values = query.split('&').filter_map(|pair| pair.strip_prefix("protocol="));
        values.find_map(|name| Dialect::named(name.as_bytes()))
    };
    let dialect = offered.or_else(asked).unwrap_or(Dialect::Classic);
    let accept_key = derive_accept_key(key);
    let (path, query) = (path.to_owned(), query.to_owned());
    Ok(Upgrade { path, query, dialect, subprotocol: offered.is_some(), accept_key })
}

fn values<'a>(request: &'a httparse::Request<'_, '_>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    request
        .headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

/// The header's value where it stands exactly once.
fn single<'a>(request: &'a httparse::Request<'_, '_>, name: &'static str) -> Result<&'a [u8], Refusal> {
    let mut values = values(request, name);
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.trim_ascii()),
        (None | Some(_), _) => Err(Refusal::BadRequest),
    }
}

/// The elements of a comma-separated header, all its lines together.
fn tokens<'a>(request: &'a httparse::Request<'_, '_>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    values(request, name).flat_map(|value| value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}

fn names_token(request: &httparse::Request<'_, '_>, name: &'static str, token: &str) -> bool {
    tokens(request, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether `key` is the base64 form of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    let Some(digits) = key.strip_suffix(b"==") else {
        return false;
    };
    digits.len() == 22
        && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str, changes: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut headers = vec![
            ("Host", "localhost"),
            ("Upgrade", "websocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", EXAMPLE_KEY),
        ];
        for (name, value) in changes {
            headers.retain(|(known, _)| known != name);
            headers.extend(value.map(|value| (*name, value)));
        }
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{line}\r\n{headers}\r\n").into_bytes()
    }

    fn accepted(bytes: &[u8]) -> Upgrade {
        match parse(bytes) {
            Head::Upgrade { upgrade, bytes: length } => {
                assert_eq!(length, bytes.len());
                upgrade
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        let upgrade = accepted(&request("GET /chat?x=1 HTTP/1.1", &[]));
        assert_eq!((upgrade.path.as_str(), upgrade.query.as_str()), ("/chat", "x=1"));
        assert_eq!(upgrade.dialect, Dialect::Classic);
        let response = String::from_utf8(upgrade.response()).unwrap();
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
        assert!(!response.contains("Sec-WebSocket-Protocol"), "{response}");
    }

    #[test]
    fn subprotocols_and_queries() {
        let offer = |value| request("GET /a HTTP/1.1", &[("Sec-WebSocket-Protocol", Some(value))]);
        let query = |query: &str| request(&format!("GET /a?{query} HTTP/1.1"), &[]);
        let both = request("GET /a?protocol=wwfp HTTP/1.1", &[("Sec-WebSocket-Protocol", Some("webrocket"))]);
        for (bytes, dialect, confirmed) in [
            (offer("webrocket"), Dialect::Classic, true),
            (offer("mqtt, webrocket"), Dialect::Classic, true),
            (offer("mqtt"), Dialect::Classic, false),
            (offer("wwfp"), Dialect::Wwfp, true),
            (offer("mqtt, wwfp, webrocket"), Dialect::Wwfp, true),
            (offer("webrocket, wwfp"), Dialect::Classic, true),
            (offer("WWFP"), Dialect::Classic, false),
            (query("protocol=webrocket"), Dialect::Classic, false),
            (query("protocol=mqtt"), Dialect::Classic, false),
            (query("x=1&protocol=wwfp"), Dialect::Wwfp, false),
            (both, Dialect::Classic, true),
        ] {
            let upgrade = accepted(&bytes);
            let response = String::from_utf8(upgrade.response()).unwrap();
            let header = format!("Sec-WebSocket-Protocol: {}\r\n", dialect.name());
            assert_eq!((upgrade.dialect, response.contains(&header)), (dialect, confirmed));
            assert_eq!(response.contains("Sec-WebSocket-Protocol"), confirmed, "{response}");
        }
    }

    #[test]
    fn any_prefix_is_partial() {
        let bytes = request("GET /chat HTTP/1.1", &[]);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Head::Partial, "{end}");
        }
    }

    #[test]
    fn faulty_handshakes_are_refused() {
        let refused = |line: &str, changes: &[(&str, Option<&str>)]| match parse(&request(line, changes)) {
            Head::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        };
        let get = "GET /a HTTP/1.1";
        assert_eq!(refused(get, &[("Sec-WebSocket-Version", Some("8"))]), Refusal::Version);
        assert_eq!(refused(get, &[("Sec-WebSocket-Version", None)]), Refusal::BadRequest);
        assert_eq!(refused(get, &[("Sec-WebSocket-Key", None)]), Refusal::BadRequest);
        assert_eq!(refused(get, &[("Sec-WebSocket-Key", Some("c2hvcnQ="))]), Refusal::BadRequest);
        assert_eq!(refused(get, &[("Connection", Some("close"))]), Refusal::BadRequest);
        assert_eq!(refused(get, &[("Host", None)]), Refusal::BadRequest);
        assert_eq!(refused("POST /a HTTP/1.1", &[]), Refusal::BadRequest);
        assert_eq!(refused("GET /a HTTP/1.0", &[]), Refusal::BadRequest);
        assert_eq!(parse(b"\x16\x03\x01 not http\r\n\r\n"), Head::Refused(Refusal::BadRequest));
    }

    #[test]
    fn a_head_that_does_not_end_is_refused() {
        let filler = format!("X-Filler: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
        for long in [
            format!("GET /{}", "x".repeat(HEAD_BYTES_MAX)),
            format!("GET / HTTP/1.1\r\n{filler}"),
            format!("GET / HTTP/1.1\r\n{filler}\r\n"),
            // Empty lines before a request are skipped, and count.
            format!("\r\n\r\nGET / HTTP/1.1\r\n{filler}"),
            "\r\n".repeat(HEAD_BYTES_MAX),
        ] {
            assert_eq!(parse(long.as_bytes()), Head::Refused(Refusal::HeadTooLong), "{}", &long[..20]);
        }
    }

    #[test]
    fn other_requests_are_the_http_servers() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Head::Http);
        assert_eq!(parse(b"POST /a/channels/b HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"), Head::Http);
        assert_eq!(parse(&request("GET /a HTTP/1.1", &[("Upgrade", Some("h2c"))])), Head::Http);
    }

    #[test]
    fn refusals_are_whole_responses() {
        for refusal in [Refusal::BadRequest, Refusal::Version, Refusal::VhostNotFound] {
            let response = String::from_utf8(refusal.response()).unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{response}");
        }
    }
}
