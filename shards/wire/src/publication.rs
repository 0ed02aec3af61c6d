//! A broadcast between the parts of the server: a value, which its receivers turn into bytes for their subscribers.
//!
//! Nothing here is parsed or checked again: the sender's bytes are copied as they stand. A direct message to one
//! session is the same without channel and sender.
//!
//! The JSON of both dialects is `{"<event>":{<members of data>,"channel":"<channel>","sid":"<sender's sid>"}}`.
//! Members of the data called `channel` or `sid`, however escaped, are left out in favour of the server's, and from
//! a direct message too, so that it cannot pass for a broadcast.
//!
//! Source: docs/protocol.md, "What subscribers receive".

use std::{ops::Range, sync::Arc};

use smallvec::SmallVec;
use uuid::Uuid;

use crate::{
    event::Data,
    frame::{self, Opcode},
    json::Json,
    name::ChannelName,
};

/// Where a broadcast stands among those of its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Drawn anew for each life of the channel.
    pub epoch: u64,
    /// Counts the broadcasts of the epoch, from 1, without gaps.
    pub offset: u64,
}

/// A broadcast or direct message whose parts are borrowed.
#[derive(Debug, Clone)]
pub struct Publication<'a> {
    /// A raw JSON string.
    event: &'a [u8],
    /// JSON as the sender wrote it; empty without data.
    data: &'a [u8],
    /// Where in the data the members stand that only the server sets, in order.
    reserved: Vec<Range<u32>>,
    /// Empty in a direct message.
    channel: &'a [u8],
    sid: Option<Uuid>,
    uid: Option<&'a [u8]>,
    left_out: Option<Uuid>,
}

/// A [`Publication`] that many may hold, in one allocation: a header, then the event, the data, the channel, the
/// sender's `uid`, and the ranges of the reserved members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPublication(Arc<[u8]>);

/// What stands before the parts of a [`SharedPublication`], all numbers little-endian.
#[derive(Debug, Clone, Copy)]
struct Header {
    /// Where each part ends, in bytes behind the header: event, data, channel, `uid`.
    ends: [u32; 4],
    /// Whether the sender has a `sid`; a backend has none.
    has_sid: bool,
    has_uid: bool,
    has_left_out: bool,
    sid: Uuid,
    left_out: Uuid,
}

impl Header {
    const BYTES: usize = 4 * 4 + 3 + 2 * 16;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (place, end) in bytes.chunks_exact_mut(4).zip(self.ends) {
            place.copy_from_slice(&end.to_le_bytes());
        }
        bytes[16] = self.has_sid.into();
        bytes[17] = self.has_uid.into();
        bytes[18] = self.has_left_out.into();
        bytes[19..35].copy_from_slice(self.sid.as_bytes());
        bytes[35..].copy_from_slice(self.left_out.as_bytes());
        bytes
    }
}

impl<'a> Publication<'a> {
    /// A broadcast. `event` is a JSON string that was checked to be an event name; a backend has no `sid`.
    #[must_use]
    pub fn new(event: Json<'a>, data: Option<Data<'a>>, channel: &'a ChannelName, sid: Option<Uuid>) -> Self {
        Self::of(event, data, channel.as_str(), sid)
    }

    /// The same of a sender whom others know by `uid`.
    #[must_use]
    pub fn by(mut self, uid: Option<&'a str>) -> Self {
        self.uid = uid.map(str::as_bytes);
        self
    }

    /// The same for all subscribers but the session of this `sid`.
    #[must_use]
    pub fn leaving_out(mut self, sid: Uuid) -> Self {
        self.left_out = Some(sid);
        self
    }

    /// A direct message. `event` as in [`Publication::new`].
    #[must_use]
    pub fn direct(event: Json<'a>, data: Option<Data<'a>>) -> Self {
        Self::of(event, data, "", None)
    }

    #[inline]
    fn of(event: Json<'a>, data: Option<Data<'a>>, channel: &'a str, sid: Option<Uuid>) -> Self {
        let (event, channel) = (event.text().as_bytes(), channel.as_bytes());
        let (data, reserved) = match data {
            None => (&b""[..], Vec::new()),
            Some(data) if data.is_forged() => (data.text().as_bytes(), data.reserved()),
            Some(data) => (data.text().as_bytes(), Vec::new()),
        };
        Self { event, data, reserved, channel, sid, uid: None, left_out: None }
    }

    /// Copies the parts.
    ///
    /// # Panics
    /// They are longer than 4 GiB.
    #[must_use]
    pub fn share(&self) -> SharedPublication {
        let parts = [self.event, self.data, self.channel, self.uid.unwrap_or_default()];
        let mut end = 0;
        let ends = parts.map(|part| {
            end += part.len();
            u32::try_from(end).expect("messages are bounded")
        });
        let header = Header {
            ends,
            has_sid: self.sid.is_some(),
            has_uid: self.uid.is_some(),
            has_left_out: self.left_out.is_some(),
            sid: self.sid.unwrap_or_default(),
            left_out: self.left_out.unwrap_or_default(),
        };
        let header = header.to_bytes();
        let ranges = self.reserved.iter().flat_map(|range| [range.start, range.end]).map(u32::to_le_bytes);
        // One allocation: the length of a repetition is known.
        let length = header.len() + end + 8 * self.reserved.len();
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        let mut rest = Arc::get_mut(&mut bytes).expect("nobody else has it yet");
        let mut push = |part: &[u8]| {
            let (here, behind) = std::mem::take(&mut rest).split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        };
        push(&header);
        parts.into_iter().for_each(&mut push);
        ranges.for_each(|number| push(&number));
        SharedPublication(bytes)
    }

    /// The event's name, a raw JSON string.
    #[must_use]
    pub fn event(&self) -> &'a [u8] {
        self.event
    }

    /// The data as the sender wrote it, JSON; empty if there is none.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The channel's name; empty in a direct message.
    #[must_use]
    pub fn channel(&self) -> &'a [u8] {
        self.channel
    }

    /// By what others know the sender.
    #[must_use]
    pub fn uid(&self) -> Option<&'a [u8]> {
        self.uid
    }

    /// The subscriber that does not receive it.
    #[must_use]
    pub fn left_out(&self) -> Option<Uuid> {
        self.left_out
    }

    /// Appends the frame of both dialects, header included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
        let sid = self.sid.map(|sid| sid.hyphenated().encode_lower(&mut buffer).as_bytes());
        let members = self.members();
        let mut length = 0;
        self.pieces(&members, sid, |piece| length += piece.len());
        out.reserve(length + 10);
        frame::encode_header(out, Opcode::Text, length);
        let start = out.len();
        self.pieces(&members, sid, |piece| out.extend_from_slice(piece));
        debug_assert_eq!(out.len() - start, length);
    }

    fn pieces(&self, members: &Members<'_>, sid: Option<&[u8]>, mut piece: impl FnMut(&[u8])) {
        piece(b"{");
        piece(self.event);
        piece(b":{");
        let channel_follows: &[u8] = match members {
            Members::None => b"\"channel\":\"",
            Members::All(members) => {
                piece(members);
                b",\"channel\":\""
            }
            Members::Some(pieces) => {
                for (index, members) in pieces.iter().enumerate() {
                    piece(if index == 0 { b"" } else { b"," });
                    piece(members);
                }
                b",\"channel\":\""
            }
            Members::Value(value) => {
                piece(b"\"data\":");
                piece(value);
                b",\"channel\":\""
            }
        };
        if self.channel.is_empty() {
            return piece(b"}}");
        }
        piece(channel_follows);
        piece(self.channel);
        if let Some(sid) = sid {
            piece(b"\",\"sid\":\"");
            piece(sid);
        }
        piece(b"\"}}");
    }

    fn members(&self) -> Members<'a> {
        match self.data {
            [] => Members::None,
            [b'{', ..] if !self.reserved.is_empty() => self.kept(),
            [b'{', inner @ .., b'}'] => match inner.trim_ascii() {
                [] => Members::None,
                inner => Members::All(inner),
            },
            value => Members::Value(value),
        }
    }

    /// An object's members without the reserved ones.
    fn kept(&self) -> Members<'a> {
        let starts = std::iter::once(1).chain(self.reserved.iter().map(|member| member.end as usize));
        let last = self.data.len() - 1;
        let ends = self.reserved.iter().map(|member| member.start as usize).chain([last]);
        // Between members stand a comma and space, and neither begins or ends a member.
        let between = starts.zip(ends).map(|(start, end)| trim(&self.data[start..end]));
        let pieces: SmallVec<_> = between.filter(|piece| !piece.is_empty()).collect();
        if pieces.is_empty() { Members::None } else { Members::Some(pieces) }
    }
}

impl SharedPublication {
    /// What it counts for where bytes are bounded: all that it holds, its header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: an event has a name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> Publication<'_> {
        let [event_end, data_end, channel_end, uid_end] = [0, 4, 8, 12].map(|at| self.number(at));
        let (header, parts) = self.0.split_at(Header::BYTES);
        let uuid = |flag: usize, at: usize| {
            (header[flag] != 0).then(|| Uuid::from_slice(&header[at..at + 16]).expect("16 bytes"))
        };
        Publication {
            event: &parts[..event_end],
            data: &parts[event_end..data_end],
            reserved: ranges(&parts[uid_end..]),
            channel: &parts[data_end..channel_end],
            sid: uuid(16, 19),
            left_out: uuid(18, 35),
            uid: (header[17] != 0).then(|| &parts[channel_end..uid_end]),
        }
    }

    /// The number that stands at `at` in the header.
    fn number(&self, at: usize) -> usize {
        number(&self.0[at..at + 4]) as usize
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn ranges(bytes: &[u8]) -> Vec<Range<u32>> {
    bytes.chunks_exact(8).map(|range| number(&range[..4])..number(&range[4..])).collect()
}

/// The members that the data contributes.
enum Members<'a> {
    None,
    /// All members of an object, as they stand.
    All(&'a [u8]),
    /// What is left of them, in pieces between which a comma is missing.
    Some(SmallVec<[&'a [u8]; 3]>),
    /// A value that is no object becomes the member `data`.
    Value(&'a [u8]),
}

/// Takes commas and space off both ends.
fn trim(mut piece: &[u8]) -> &[u8] {
    let is_between = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
    while let [first, rest @ ..] = piece
        && is_between(first)
    {
        piece = rest;
    }
    while let [rest @ .., last] = piece
        && is_between(last)
    {
        piece = rest;
    }
    piece
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    const SID: &str = "6d5f2f8e-5b8f-4c59-9b8f-3b1d5a0f6f4e";

    /// The frame of it, borrowed or shared.
    fn encoded(publication: &Publication<'_>) -> Vec<u8> {
        let (mut out, mut shared) = (Vec::new(), Vec::new());
        publication.encode(&mut out);
        publication.share().parts().encode(&mut shared);
        assert_eq!(shared, out);
        out
    }

    fn encode(event: &str, data: Option<&str>, sid: Option<&str>) -> String {
        let channel = "world".parse().unwrap();
        let event = serde_json::to_string(event).unwrap();
        let event = Json::parse(&event).unwrap();
        let data = data.map(|data| Data::parse(data).unwrap());
        let sid = sid.map(|sid| sid.parse().unwrap());
        let out = encoded(&Publication::new(event, data, &channel, sid));
        let length = frame::encoded_length(&out);
        assert_eq!(length, out.len());
        let header = if out[1] < 126 {
            2
        } else if out[1] == 126 {
            4
        } else {
            10
        };
        String::from_utf8(out[header..].to_vec()).unwrap()
    }

    #[test]
    fn members_are_spliced_as_they_stand() {
        assert_eq!(
            encode("hello", Some(r#"{"x": 1.50, "y":[ {"sid":1} ]}"#), Some(SID)),
            format!(r#"{{"hello":{{"x": 1.50, "y":[ {{"sid":1}} ],"channel":"world","sid":"{SID}"}}}}"#)
        );
        assert_eq!(
            encode("hello", Some(r#"{ "x": 1.50, "y": 2 }"#), None),
            r#"{"hello":{"x": 1.50, "y": 2,"channel":"world"}}"#
        );
    }

    #[test]
    fn scalars_become_data_and_nothing_adds_nothing() {
        for scalar in ["1", "null", "\"s\"", "[1,2]", "true"] {
            let expected = format!(r#"{{"e":{{"data":{scalar},"channel":"world"}}}}"#);
            assert_eq!(encode("e", Some(scalar), None), expected);
        }
        assert_eq!(encode("e", None, None), r#"{"e":{"channel":"world"}}"#);
        assert_eq!(encode("e", Some("{ }"), None), r#"{"e":{"channel":"world"}}"#);
    }

    #[test]
    fn forged_members_are_dropped() {
        for forged in [
            r#"{"channel":"x"}"#,
            r#"{"sid":1}"#,
            r#"{"s\u0069d":1,"ch\u0061nnel":{}}"#,
            r#"{"sid":1,"sid":2,"channel":3}"#,
        ] {
            assert_eq!(encode("e", Some(forged), None), r#"{"e":{"channel":"world"}}"#, "{forged}");
        }
        assert_eq!(
            encode("e", Some(r#"{"a":"channel","sid":2,"\ud800":1}"#), None),
            r#"{"e":{"a":"channel","\ud800":1,"channel":"world"}}"#
        );
    }

    #[test]
    fn what_is_kept_stands_as_it_stood() {
        for (data, kept) in [
            (r#"{"sid":1, "a": 1 ,  "b":[2, 3] }"#, r#""a": 1 ,  "b":[2, 3]"#),
            (r#"{ "a":",", "sid":1 , "channel":2,"b":{"sid":3} }"#, r#""a":",","b":{"sid":3}"#),
        ] {
            assert_eq!(encode("e", Some(data), None), format!(r#"{{"e":{{{kept},"channel":"world"}}}}"#));
        }
    }

    #[test]
    fn what_is_shared_is_told_apart() {
        let (event, data) = (Json::parse("\"e\"").unwrap(), Data::parse("[1]").unwrap());
        let (channel, sid) = ("world".parse().unwrap(), SID.parse().unwrap());
        let shared = Publication::new(event, Some(data), &channel, Some(sid)).by(Some("joe")).share();
        let parts = shared.parts();
        assert_eq!((parts.event(), parts.data()), (&b"\"e\""[..], &b"[1]"[..]));
        assert_eq!((parts.channel(), parts.uid(), parts.sid), (&b"world"[..], Some(&b"joe"[..]), Some(sid)));
        assert_eq!(shared.len(), Header::BYTES + 3 + 3 + 5 + 3);
        assert_eq!(parts.left_out(), None);
        let other = Uuid::from_u128(7);
        let shared = Publication::new(event, None, &channel, None).leaving_out(other).share();
        assert_eq!((shared.parts().sid, shared.parts().left_out()), (None, Some(other)));
        let bare = Publication::direct(event, None).share();
        let parts = bare.parts();
        assert_eq!(
            (parts.data(), parts.channel(), parts.uid(), bare.len()),
            (&b""[..], &b""[..], None, Header::BYTES + 3)
        );
    }

    #[test]
    fn a_direct_message_is_its_data_alone() {
        let direct = |data: Option<&str>| {
            let event = Json::parse("\"hello\"").unwrap();
            let out = encoded(&Publication::direct(event, data.map(|data| Data::parse(data).unwrap())));
            assert_eq!(frame::encoded_length(&out), out.len());
            String::from_utf8(out[2..].to_vec()).unwrap()
        };
        assert_eq!(direct(None), r#"{"hello":{}}"#);
        assert_eq!(direct(Some("{ }")), r#"{"hello":{}}"#);
        assert_eq!(direct(Some("null")), r#"{"hello":{"data":null}}"#);
        assert_eq!(direct(Some(r#"{ "a":1, "b" : 2}"#)), r#"{"hello":{"a":1, "b" : 2}}"#);
        // It must not pass for a broadcast.
        let forged = r#"{"sid":1,"a":2,"channel":"x", "s\u0069d":2}"#;
        assert_eq!(direct(Some(forged)), r#"{"hello":{"a":2}}"#);
    }

    fn value_strategy() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        let key = prop_oneof!["\\PC{0,6}", Just("sid".to_owned()), Just("channel".to_owned())];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(key.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn splicing_means_what_serde_json_says(
            data in value_strategy(), event in "[a-z\"\\\\é]{1,8}", pretty in any::<bool>(), escape in any::<bool>(),
        ) {
            let mut text = if pretty { serde_json::to_string_pretty(&data) } else { serde_json::to_string(&data) }.unwrap();
            if escape {
                text = text.replace("\"sid\"", "\"s\\u0069d\"");
            }
            let mut members = match data {
                Value::Object(members) => members,
                other => Map::from_iter([("data".to_owned(), other)]),
            };
            members.insert("channel".to_owned(), json!("world"));
            members.insert("sid".to_owned(), json!(SID));
            let delivered: Value = serde_json::from_str(&encode(&event, Some(&text), Some(SID))).unwrap();
            prop_assert_eq!(delivered, json!({ event: members }));
        }
    }
}
