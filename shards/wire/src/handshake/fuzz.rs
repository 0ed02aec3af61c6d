//! What holds of any bytes that a connection begins with.

use super::*;

/// `input` begins with two bytes that say where it is cut; the rest is what a client sends.
pub fn handshake(input: &[u8]) {
    let Some((cut, bytes)) = input.split_first_chunk() else { return };
    let cut = usize::from(u16::from_le_bytes(*cut)) % (bytes.len() + 1);
    a_head_is_read_alike(bytes, cut);
}

/// Once the bytes before `cut` are decided upon, more of them change nothing. What is decided, `bytes` say.
pub(crate) fn a_head_is_read_alike(bytes: &[u8], cut: usize) {
    let head = parse(bytes);
    match parse(&bytes[..cut]) {
        Head::Partial => assert!(cut <= HEAD_BYTES_MAX),
        // Of a head that is too long, the rest may be faulty besides.
        _ if cut > HEAD_BYTES_MAX => {}
        early => assert_eq!(early, head, "cut at {cut}"),
    }
    match head {
        Head::Partial => assert!(bytes.len() <= HEAD_BYTES_MAX),
        Head::Http => assert!(!Lines::of(bytes).any("upgrade", b"websocket")),
        Head::Upgrade { bytes: length, upgrade } => {
            assert!(length <= HEAD_BYTES_MAX);
            let response = String::from_utf8(upgrade.response()).expect("a response is text");
            assert_eq!((&*upgrade.path, response), Lines::of(&bytes[..length]).answer());
        }
        Head::Refused(_) => {}
    }
}

/// A request head in its lines, read without any check.
struct Lines<'a> {
    request: &'a [u8],
    headers: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Lines<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut lines = lines.skip_while(|line| line.is_empty());
        let request = lines.next().unwrap_or_default();
        let headers = lines.take_while(|line| !line.is_empty()).map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a header has a colon");
            (&line[..colon], line[colon + 1..].trim_ascii())
        });
        Self { request, headers: headers.collect() }
    }

    fn values(&self, name: &str) -> Vec<&'a [u8]> {
        let of_name = self.headers.iter().filter(|header| header.0.eq_ignore_ascii_case(name.as_bytes()));
        of_name.map(|header| header.1).collect()
    }

    fn any(&self, name: &str, token: &[u8]) -> bool {
        let values = self.values(name).join(&b',');
        values.split(|byte| *byte == b',').any(|value| value.trim_ascii().eq_ignore_ascii_case(token))
    }

    /// The path of a valid handshake and the answer to it.
    fn answer(&self) -> (&'a str, String) {
        let request = std::str::from_utf8(self.request).expect("a request line is text");
        let target = request.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        let target = target.expect("GET and HTTP/1.1 stand around the target");
        let [key] = self.values("sec-websocket-key")[..] else { panic!("one key") };
        assert_eq!(key.len(), 24, "{key:?} is the base64 form of 16 bytes");
        assert_eq!(self.values("sec-websocket-version"), [b"13"]);
        assert_eq!(self.values("host").len(), 1);
        assert!(self.any("upgrade", b"websocket") && self.any("connection", b"upgrade"));
        let offers = self.values("sec-websocket-protocol").join(&b',');
        let mut offers = offers.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let chosen = offers.find(|offer| *offer == b"webrocket" || *offer == b"wwfp");
        let confirmed = chosen.map_or_else(String::new, |name| {
            format!("Sec-WebSocket-Protocol: {}\r\n", std::str::from_utf8(name).expect("one of two names"))
        });
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{confirmed}\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key)
        );
        (target.split('?').next().unwrap_or_default(), answer)
    }
}
