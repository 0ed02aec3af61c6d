//! The browser's side of RFC 6455, written apart from the server's: masked frames out, and a
//! strict decoder of what a server may send.

use crate::chance::Chance;

/// The key of every simulated handshake, and the answer that the RFC's example gives to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const CONTINUE: u8 = 0;
const TEXT: u8 = 1;

/// A binary message.
pub const BINARY: u8 = 2;
/// A close frame.
pub const CLOSE: u8 = 8;
/// A ping.
pub const PING: u8 = 9;
/// A pong.
pub const PONG: u8 = 10;

/// Appends the opening handshake for `path`.
pub fn handshake(out: &mut Vec<u8>, path: &str) {
    handshake_offering(out, path, "");
}

/// Appends the opening handshake for `path` that offers these subprotocols, a list with commas; none if empty.
pub fn handshake_offering(out: &mut Vec<u8>, path: &str, subprotocols: &str) {
    let offer = match subprotocols {
        "" => String::new(),
        list => format!("Sec-WebSocket-Protocol: {list}\r\n"),
    };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{offer}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
}

/// Appends a text message, now and then in fragments with pings between them; returns how many pings.
pub fn message(out: &mut Vec<u8>, chance: &mut Chance, text: &[u8]) -> u64 {
    if !chance.percent(4) {
        frame(out, chance, TEXT, true, text);
        return 0;
    }
    let (mut rest, mut opcode, mut pings) = (text, TEXT, 0);
    loop {
        let (piece, behind) = rest.split_at(chance.below(rest.len() + 1));
        let is_final = behind.is_empty();
        frame(out, chance, opcode, is_final, piece);
        if is_final {
            return pings;
        }
        if chance.percent(20) {
            frame(out, chance, PING, true, b"between");
            pings += 1;
        }
        (rest, opcode) = (behind, CONTINUE);
    }
}

/// Appends one masked frame.
pub fn frame(out: &mut Vec<u8>, chance: &mut Chance, opcode: u8, is_final: bool, payload: &[u8]) {
    out.push(opcode | if is_final { 0x80 } else { 0 });
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    // A mask of zeros is as good as any, and quick.
    let mask: [u8; 4] = if chance.percent(70) { [0; 4] } else { chance.bytes() };
    out.extend_from_slice(&mask);
    if mask == [0; 4] {
        return out.extend_from_slice(payload);
    }
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Something whole that a server sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// The handshake is complete; the subprotocol that was chosen.
    Upgraded(Option<String>),
    /// The handshake was refused with this HTTP status.
    Refused(u16),
    /// A text message.
    Text(String),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame; 1005 where it holds no code.
    Close(u16),
}

/// What a server sent, as far as it is not taken apart yet.
#[derive(Debug, Default)]
pub struct ServerStream {
    bytes: Vec<u8>,
    at: usize,
    is_upgraded: bool,
    is_over: bool,
}

impl ServerStream {
    /// More bytes of the server.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.at > 0 && self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether bytes stand here that make nothing whole.
    #[must_use]
    pub fn holds_part(&self) -> bool {
        self.at < self.bytes.len()
    }

    /// The next whole thing.
    ///
    /// # Errors
    /// What the server did that no server may do.
    pub fn next_item(&mut self) -> Result<Option<Item>, String> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        if self.is_over {
            return Err(format!("{} bytes behind the last that a server may send", rest.len()));
        }
        if !self.is_upgraded {
            return self.next_head();
        }
        let [first, second, ..] = *rest else { return Ok(None) };
        if first & 0x80 == 0 || first & 0x70 != 0 || second & 0x80 != 0 {
            return Err(format!("a frame that begins with {first:02x} {second:02x}"));
        }
        let (header, length) = match second {
            126 if rest.len() < 4 => return Ok(None),
            126 => (4, u64::from(u16::from_be_bytes([rest[2], rest[3]]))),
            127 if rest.len() < 10 => return Ok(None),
            127 => (10, u64::from_be_bytes(rest[2..10].try_into().expect("8 bytes"))),
            short => (2, u64::from(short)),
        };
        let least = [(2, 0), (4, 126), (10, 0x1_0000)].into_iter().find(|(size, _)| *size == header);
        if least.is_some_and(|(_, least)| length < least) || length > 1 << 24 {
            return Err(format!("a length of {length} in a header of {header} bytes"));
        }
        let end = header + usize::try_from(length).expect("just bounded");
        if rest.len() < end {
            return Ok(None);
        }
        let payload = rest[header..end].to_vec();
        self.at += end;
        self.item(first & 0x0f, payload).map(Some)
    }

    fn item(&mut self, opcode: u8, payload: Vec<u8>) -> Result<Item, String> {
        if opcode >= CLOSE && payload.len() > 125 {
            return Err(format!("a control frame of {} bytes", payload.len()));
        }
        match opcode {
            TEXT => String::from_utf8(payload).map(Item::Text).map_err(|_| "text is no UTF-8".to_owned()),
            PING => Ok(Item::Ping(payload)),
            PONG => Ok(Item::Pong(payload)),
            CLOSE => {
                self.is_over = true;
                match payload[..] {
                    [] => Ok(Item::Close(1005)),
                    [_] => Err("a close frame of one byte".to_owned()),
                    [high, low, ..] => Ok(Item::Close(u16::from_be_bytes([high, low]))),
                }
            }
            other => Err(format!("a frame with opcode {other}")),
        }
    }

    fn next_head(&mut self) -> Result<Option<Item>, String> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        if status != 101 {
            let length = head.split("Content-Length: ").nth(1).and_then(|text| text.lines().next());
            let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
            if rest.len() < end + 4 + length {
                return Ok(None);
            }
            self.at += end + 4 + length;
            self.is_over = true;
            return Ok(Some(Item::Refused(status)));
        }
        if !head.contains(ACCEPT) {
            return Err(format!("a handshake that does not prove itself: {head}"));
        }
        self.at += end + 4;
        self.is_upgraded = true;
        let subprotocol = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        Ok(Some(Item::Upgraded(subprotocol.map(str::to_owned))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_of_the_bytes_reads_alike() {
        let mut bytes = format!("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(&[0x81, 1, b'a', 0x89, 0, 0x88, 2, 3, 232]);
        for size in 1..bytes.len() {
            let mut stream = ServerStream::default();
            let mut items = Vec::new();
            for chunk in bytes.chunks(size) {
                stream.extend(chunk);
                while let Some(item) = stream.next_item().unwrap() {
                    items.push(item);
                }
            }
            let wanted =
                [Item::Upgraded(None), Item::Text("a".to_owned()), Item::Ping(Vec::new()), Item::Close(1000)];
            assert_eq!(items, wanted);
        }
    }

    #[test]
    fn what_no_server_may_send_is_seen() {
        for bad in [&[0x81, 0x80][..], &[0x01, 0], &[0xc1, 0], &[0x83, 0], &[0x81, 126, 0, 3], &[0x88, 1, 0]]
        {
            let mut stream = ServerStream { is_upgraded: true, ..ServerStream::default() };
            stream.extend(bad);
            assert!(stream.next_item().is_err(), "{bad:?}");
        }
    }
}
