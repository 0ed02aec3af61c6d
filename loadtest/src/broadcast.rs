//! The broadcasts of the load test: what a publisher sends, and what every subscriber must receive for it.
//!
//! Members of `data` are spliced verbatim and in front, so a delivery is known by fixed positions, without a JSON
//! parser. `data` is `{"publisher":P,"number":N,"sent_ns":T,"padding":"…"}`; what stands around it is the
//! [`Dialect`]'s.
//!
//! Source: docs/protocol.md, "What subscribers receive".

use std::io::Write;

use crate::dialect::Dialect;

/// What tells one broadcast from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) publisher: u32,
    /// Counts the publisher's broadcasts on one channel, from 0 without gaps.
    pub(crate) number: u32,
    /// `CLOCK_MONOTONIC` when it was sent, or was to be sent where there is a rate.
    pub(crate) sent_ns: u64,
}

/// How broadcasts are written: in which dialect, and how long their `data` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) dialect: Dialect,
    /// The length of `data` in bytes, where the stamp leaves room for padding; never shorter than the stamp.
    pub(crate) payload_bytes: usize,
}

impl Format {
    /// Appends the request to broadcast `stamp` on `channel`.
    pub(crate) fn write_request(self, out: &mut Vec<u8>, channel: &str, stamp: Stamp) {
        let start = out.len();
        self.write_members(out, stamp);
        out.push(b'}');
        let data_bytes = out.len() - start;
        self.dialect.open_broadcast(out, channel, data_bytes);
        // What opens a broadcast may tell the length of its data, so data is written first.
        out[start..].rotate_left(data_bytes);
        self.dialect.close_broadcast(out);
    }

    /// Whether a message is a delivery, a right one or not.
    pub(crate) fn is_delivery(self, message: &[u8]) -> bool {
        self.dialect.data_and_rest(message).is_some_and(|rest| rest.starts_with(STAMP_PREFIX))
    }

    /// Reads the stamp that a delivery begins with; the rest of the message is not looked at.
    pub(crate) fn read_stamp(self, message: &[u8]) -> Option<Stamp> {
        let rest = self.dialect.data_and_rest(message)?;
        let (publisher, rest) = read_number(rest.strip_prefix(STAMP_PREFIX)?)?;
        let (number, rest) = read_number(rest.strip_prefix(b",\"number\":")?)?;
        let (sent_ns, rest) = read_number(rest.strip_prefix(b",\"sent_ns\":")?)?;
        if !rest.starts_with(b",") && !rest.starts_with(b"}") {
            return None;
        }
        Some(Stamp {
            publisher: u32::try_from(publisher).ok()?,
            number: u32::try_from(number).ok()?,
            sent_ns,
        })
    }

    /// Reads the stamp of a delivery on `channel` and checks every byte of it, except those of the sender's `sid`.
    /// `scratch` is room to work in.
    pub(crate) fn read_delivery(self, scratch: &mut Vec<u8>, channel: &str, message: &[u8]) -> Option<Stamp> {
        let stamp = self.read_stamp(message)?;
        scratch.clear();
        self.write_members(scratch, stamp);
        let data_and_rest = self.dialect.data_and_rest(message)?;
        let end = data_and_rest.strip_prefix(scratch.as_slice())?;
        let head = &message[..message.len() - data_and_rest.len()];
        let data_bytes = scratch.len() + "}".len();
        self.dialect.surrounds_delivery(head, data_bytes, end, channel).then_some(stamp)
    }

    /// Appends `data` without its closing brace.
    fn write_members(self, out: &mut Vec<u8>, Stamp { publisher, number, sent_ns }: Stamp) {
        const PADDING_OPENS: &[u8] = b",\"padding\":\"";
        let start = out.len();
        write!(out, r#"{{"publisher":{publisher},"number":{number},"sent_ns":{sent_ns}"#).expect(INFALLIBLE);
        let bare = out.len() - start + PADDING_OPENS.len() + "\"}".len();
        if let Some(padding) = self.payload_bytes.checked_sub(bare) {
            out.extend_from_slice(PADDING_OPENS);
            out.resize(out.len() + padding, b'x');
            out.push(b'"');
        }
    }
}

/// What `data` begins with.
const STAMP_PREFIX: &[u8] = b"{\"publisher\":";
const INFALLIBLE: &str = "writing into a Vec succeeds";

/// Reads a number as JSON writes it: decimal digits without a leading zero.
fn read_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(digits);
    if digits.is_empty() || (digits.len() > 1 && digits[0] == b'0') {
        return None;
    }
    let value = digits
        .iter()
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    Some((value, rest))
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::ValueEnum;

    use super::*;

    /// The delivery that a right server makes of `stamp`.
    pub(crate) fn delivery(format: Format, channel: &str, stamp: Stamp) -> Vec<u8> {
        let mut members = Vec::new();
        format.write_members(&mut members, stamp);
        let members = String::from_utf8(members).expect("text");
        match format.dialect {
            Dialect::Bare => format!("{members}}}"),
            Dialect::Classic | Dialect::Wwfp => format!(
                r#"{{"load":{members},"channel":"{channel}","sid":"01234567-89ab-cdef-0123-456789abcdef"}}}}"#
            ),
            Dialect::SocketIo => format!(r#"42["load",{members}}}]"#),
            Dialect::Nats => format!("MSG {channel} 1 {}\r\n{members}}}\r\n", members.len() + 1),
        }
        .into_bytes()
    }

    const STAMP: Stamp = Stamp { publisher: 7, number: 1234, sent_ns: 987_654_321_012 };

    fn format(payload_bytes: usize) -> Format {
        Format { dialect: Dialect::Classic, payload_bytes }
    }

    #[test]
    fn a_request_is_json_and_its_data_has_the_length_asked_for() {
        for payload_bytes in [0, 60, 69, 70, 71, 128, 5000] {
            let mut request = Vec::new();
            format(payload_bytes).write_request(&mut request, "load-0", STAMP);
            let value: serde_json::Value = serde_json::from_slice(&request).expect("JSON");
            let broadcast = &value["broadcast"];
            assert_eq!(broadcast["event"], "load");
            assert_eq!(broadcast["channel"], "load-0");
            assert_eq!(broadcast["data"]["publisher"], 7);
            assert_eq!(broadcast["data"]["number"], 1234);
            assert_eq!(broadcast["data"]["sent_ns"], 987_654_321_012_u64);
            let data = broadcast["data"].to_string().len();
            let stamp_alone = r#"{"publisher":7,"number":1234,"sent_ns":987654321012}"#.len();
            let padded = stamp_alone + r#","padding":"""#.len();
            assert_eq!(data, if payload_bytes < padded { stamp_alone } else { payload_bytes });
        }
    }

    #[test]
    fn a_delivery_is_read_back() {
        let every = Dialect::value_variants().iter();
        for (&dialect, payload_bytes) in every.flat_map(|dialect| [(dialect, 0), (dialect, 128)]) {
            let format = Format { dialect, payload_bytes };
            let message = delivery(format, "load-3", STAMP);
            assert!(format.is_delivery(&message));
            assert_eq!(format.read_stamp(&message), Some(STAMP));
            assert_eq!(format.read_delivery(&mut Vec::new(), "load-3", &message), Some(STAMP));
            let tells_channel = !matches!(dialect, Dialect::Bare | Dialect::SocketIo);
            let elsewhere = format.read_delivery(&mut Vec::new(), "load-4", &message);
            assert_eq!(elsewhere.is_none(), tells_channel, "{dialect:?} on another channel");
        }
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        const SID_BYTES: usize = 36;
        for &dialect in Dialect::value_variants() {
            let format = Format { dialect, payload_bytes: 128 };
            let message = delivery(format, "load-0", STAMP);
            let has_sid = matches!(dialect, Dialect::Classic | Dialect::Wwfp);
            let end = message.len() - 3;
            let sid = if has_sid { end - SID_BYTES..end } else { 0..0 };
            for position in (0..message.len()).filter(|position| !sid.contains(position)) {
                let mut damaged = message.clone();
                damaged[position] ^= 1;
                let read = format.read_delivery(&mut Vec::new(), "load-0", &damaged);
                assert_ne!(read, Some(STAMP), "{dialect:?}: byte {position}");
                assert_eq!(format.read_delivery(&mut Vec::new(), "load-0", &message[..position]), None);
            }
        }
    }

    #[test]
    fn numbers_are_read_strictly() {
        assert_eq!(read_number(b"0,"), Some((0, &b","[..])));
        assert_eq!(read_number(b"18446744073709551615"), Some((u64::MAX, &b""[..])));
        for bytes in [&b""[..], b"-1", b" 1", b"01", b"18446744073709551616", b"x"] {
            assert_eq!(read_number(bytes), None);
        }
    }
}
