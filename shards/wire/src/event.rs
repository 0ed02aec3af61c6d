//! What subscribers receive: one frame per broadcast, encoded once for everybody.
//!
//! `{"<event>":{<members of data>,"channel":"<channel>","sid":"<sender's sid>"}}`, where the
//! members are the sender's own bytes, never re-serialised. Members of `data` called `channel`
//! or `sid`, however escaped, are left out in favour of the server's.
//!
//! A direct message to one session is `{"<event>":{<members of data>}}`, without these two, so that
//! it cannot pass for a broadcast.
//!
//! Source: docs/protocol.md, "What subscribers receive".

use uuid::Uuid;

use crate::{
    frame::{self, Opcode},
    json::{Json, NotJson, Scanner},
    members,
    name::ChannelName,
};

/// The members that only the server sets.
const RESERVED: [&str; 2] = ["channel", "sid"];

/// What a sender says along with an event: any JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    json: Json<'a>,
    /// Whether it is an object with a member that only the server sets.
    is_forged: bool,
}

impl<'a> Data<'a> {
    /// The one value that a text consists of.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &'a str) -> Result<Self, NotJson> {
        let mut scanner = Scanner::new(text);
        let data = Self::scan(&mut scanner)?;
        scanner.end()?;
        Ok(data)
    }

    /// Reads a value.
    pub(crate) fn scan(scanner: &mut Scanner<'a>) -> Result<Self, NotJson> {
        let mut is_forged = false;
        let json = scanner.value_by(|scanner| {
            if scanner.token() != b'{' {
                return scanner.skip();
            }
            scanner.object(|scanner, key| {
                is_forged |= key.name().is_some_and(|name| RESERVED.contains(&&*name));
                scanner.skip()
            })
        })?;
        Ok(Self { json, is_forged })
    }

    /// The value as it was written.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.json.text()
    }
}

/// A broadcast, or a direct message, on its way to the wire.
#[derive(Debug)]
pub struct Delivery<'a> {
    event: &'a str,
    members: Members<'a>,
    /// `None` in a direct message, which has no `sid` either.
    channel: Option<&'a ChannelName>,
    sid: Option<Uuid>,
}

/// The members that `data` contributes, as slices of the sender's text.
#[derive(Debug)]
enum Members<'a> {
    None,
    /// All members of an object, as they stand.
    All(&'a str),
    /// The members that are left.
    Some(Vec<&'a str>),
    /// A value that is no object becomes the member `data`.
    Value(&'a str),
}

impl<'a> Delivery<'a> {
    /// Prepares a broadcast. `event` is a JSON string that was checked to be an event name; a backend
    /// has no `sid`.
    #[must_use]
    pub fn new(event: Json<'a>, data: Option<Data<'a>>, channel: &'a ChannelName, sid: Option<Uuid>) -> Self {
        let members = data.map_or(Members::None, contributed);
        Self { event: event.text(), members, channel: Some(channel), sid }
    }

    /// Prepares a direct message to one session. `event` as in [`Delivery::new`].
    #[must_use]
    pub fn direct(event: Json<'a>, data: Option<Data<'a>>) -> Self {
        let members = data.map_or(Members::None, contributed);
        Self { event: event.text(), members, channel: None, sid: None }
    }

    /// Appends the frame, header included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
        let sid = self.sid.map(|sid| &*sid.hyphenated().encode_lower(&mut buffer));
        let mut length = 0;
        self.pieces(sid, |piece| length += piece.len());
        out.reserve(length + 10);
        frame::encode_header(out, Opcode::Text, length);
        let start = out.len();
        self.pieces(sid, |piece| out.extend_from_slice(piece.as_bytes()));
        debug_assert_eq!(out.len() - start, length);
    }

    fn pieces(&self, sid: Option<&str>, mut piece: impl FnMut(&str)) {
        piece("{");
        piece(self.event);
        piece(":{");
        let channel_follows = match &self.members {
            Members::None => "\"channel\":\"",
            Members::All(members) => {
                piece(members);
                ",\"channel\":\""
            }
            Members::Some(members) => {
                for (index, member) in members.iter().enumerate() {
                    piece(if index == 0 { "" } else { "," });
                    piece(member);
                }
                ",\"channel\":\""
            }
            Members::Value(value) => {
                piece("\"data\":");
                piece(value);
                ",\"channel\":\""
            }
        };
        let Some(channel) = self.channel else { return piece("}}") };
        piece(channel_follows);
        piece(channel.as_str());
        if let Some(sid) = sid {
            piece("\",\"sid\":\"");
            piece(sid);
        }
        piece("\"}}");
    }
}

fn contributed(data: Data<'_>) -> Members<'_> {
    let Some(inner) = data.text().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return Members::Value(data.text());
    };
    if data.is_forged {
        return match members::kept(data.text(), &RESERVED) {
            kept if kept.is_empty() => Members::None,
            kept => Members::Some(kept),
        };
    }
    match inner.trim_ascii() {
        "" => Members::None,
        inner => Members::All(inner),
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    const SID: &str = "6d5f2f8e-5b8f-4c59-9b8f-3b1d5a0f6f4e";

    fn encode(event: &str, data: Option<&str>, sid: Option<&str>) -> String {
        let channel = "world".parse().unwrap();
        let event = serde_json::to_string(event).unwrap();
        let event = Json::parse(&event).unwrap();
        let data = data.map(|data| Data::parse(data).unwrap());
        let mut out = Vec::new();
        Delivery::new(event, data, &channel, sid.map(|sid| sid.parse().unwrap())).encode(&mut out);
        let length = frame::encoded_length(&out);
        assert_eq!(length, out.len());
        let header = if out[1] < 126 {
            2
        } else if out[1] == 126 {
            4
        } else {
            10
        };
        String::from_utf8(out.split_off(header)).unwrap()
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
    fn a_direct_message_is_its_data_alone() {
        let direct = |data: Option<&str>| {
            let event = Json::parse("\"hello\"").unwrap();
            let mut out = Vec::new();
            Delivery::direct(event, data.map(|data| Data::parse(data).unwrap())).encode(&mut out);
            assert_eq!(frame::encoded_length(&out), out.len());
            String::from_utf8(out.split_off(2)).unwrap()
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
