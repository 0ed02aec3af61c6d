//! A client's message: one JSON object whose first key is the event.
//!
//! The text is scanned once. Values stay raw slices of it: names are unescaped where they are
//! used, `data` never is. Further keys beside the first are checked as JSON and ignored; of a
//! key that stands twice in a payload the last counts, as in JavaScript.
//!
//! Source: docs/protocol.md, "Messages".

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::members;

/// How deep a message may be nested.
pub const DEPTH_MAX: usize = 128;

/// A client's message, taken apart as far as both dialects need it.
#[derive(Debug)]
pub struct ClientMessage<'a> {
    /// The first key.
    pub event: Cow<'a, str>,
    /// Its value.
    pub payload: Payload<'a>,
}

/// The value of a message's first key.
#[derive(Debug)]
pub enum Payload<'a> {
    /// An object: the members that some request knows.
    Object(Fields<'a>),
    /// `true`.
    True,
    /// Anything else.
    Other,
}

/// The members of a payload, raw.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fields<'a> {
    /// `channel`
    pub channel: Option<&'a RawValue>,
    /// `event`
    pub event: Option<&'a RawValue>,
    /// `data`
    pub data: Option<&'a RawValue>,
    /// `user`
    pub user: Option<&'a RawValue>,
    /// `secret`
    pub secret: Option<&'a RawValue>,
    /// `token`
    pub token: Option<&'a RawValue>,
    /// `hidden`
    pub hidden: Option<&'a RawValue>,
    /// `trigger`
    pub trigger: Option<&'a RawValue>,
    /// `ref`
    pub reference: Option<&'a RawValue>,
}

/// The text is no message: not JSON, no object, no key, or nested too deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedMessage;

impl<'a> ClientMessage<'a> {
    /// Takes a message apart.
    ///
    /// # Errors
    /// [`MalformedMessage`]
    pub fn parse(text: &'a str) -> Result<Self, MalformedMessage> {
        if is_deeper_than(text, DEPTH_MAX) {
            return Err(MalformedMessage);
        }
        serde_json::from_str(text).or_else(|_| Self::parse_undecoded(text))
    }

    /// Takes apart a message that could not be decoded: it may still be one, with a number out of
    /// range or a text that is no Unicode where nobody needs to know it.
    fn parse_undecoded(text: &'a str) -> Result<Self, MalformedMessage> {
        let first = members::parse(text).ok().and_then(|members| members.into_iter().next());
        let first = first.ok_or(MalformedMessage)?;
        let event = first.name().ok_or(MalformedMessage)?;
        let payload = match first.value.get() {
            "true" => Payload::True,
            object if object.starts_with('{') => {
                let mut fields = Fields::default();
                for member in members::of(object) {
                    if let Some(field) = member.name().and_then(|name| fields.named(&name)) {
                        *field = Some(member.value);
                    }
                }
                Payload::Object(fields)
            }
            _ => Payload::Other,
        };
        Ok(Self { event, payload })
    }
}

impl<'a> Fields<'a> {
    /// The place of the member with this name, if some request knows it.
    fn named(&mut self, name: &str) -> Option<&mut Option<&'a RawValue>> {
        Some(match name {
            "channel" => &mut self.channel,
            "event" => &mut self.event,
            "data" => &mut self.data,
            "user" => &mut self.user,
            "secret" => &mut self.secret,
            "token" => &mut self.token,
            "hidden" => &mut self.hidden,
            "trigger" => &mut self.trigger,
            "ref" => &mut self.reference,
            _ => return None,
        })
    }
}

/// The text of a raw JSON string; `None` for any other value and for a string that is no
/// Unicode text (a lone surrogate).
#[must_use]
pub fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The text of a message's payload: the value of its first key, if that is an object.
#[must_use]
pub fn payload_text(text: &str) -> Option<&str> {
    let member = members::of(text).into_iter().next()?;
    let payload = member.value.get();
    payload.starts_with('{').then_some(payload)
}

/// Whether arrays and objects in `text`, which may be anything, are nested deeper than `max`. Cheap where there are not
/// that many brackets at all.
#[must_use]
pub fn is_deeper_than(text: &str, max: usize) -> bool {
    if memchr::memchr2_iter(b'{', b'[', text.as_bytes()).count() <= max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

impl<'de> Deserialize<'de> for ClientMessage<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MessageVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = ClientMessage<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some(Text(event)) = map.next_key()? else {
            return Err(de::Error::custom("the object is empty"));
        };
        let payload = map.next_value()?;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(ClientMessage { event, payload })
    }
}

/// A key, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Payload<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PayloadVisitor)
    }
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = Payload<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(Text(key)) = map.next_key()? {
            match fields.named(&key) {
                Some(field) => *field = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Payload::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Payload::Other)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(if value { Payload::True } else { Payload::Other })
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Payload::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Payload::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Payload::Other)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Payload::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Payload::Other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str) -> Fields<'_> {
        match ClientMessage::parse(text).unwrap().payload {
            Payload::Object(fields) => fields,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_key_is_the_event() {
        let message =
            ClientMessage::parse(r#" {"broadcast":{"event":"e","x":[1],"data":{"a":1}},"more":null} "#);
        let message = message.unwrap();
        assert_eq!(message.event, "broadcast");
        let Payload::Object(fields) = message.payload else { panic!() };
        assert_eq!(fields.event.map(RawValue::get), Some(r#""e""#));
        assert_eq!(fields.data.map(RawValue::get), Some(r#"{"a":1}"#));
        assert!(fields.channel.is_none());
        assert_eq!(ClientMessage::parse(r#"{"subscr\u0069be":{}}"#).unwrap().event, "subscribe");
    }

    #[test]
    fn payloads_of_every_type() {
        let payload = |text: &'static str| ClientMessage::parse(text).unwrap().payload;
        assert!(matches!(payload(r#"{"e":true}"#), Payload::True));
        for other in [
            r#"{"e":false}"#,
            r#"{"e":null}"#,
            r#"{"e":-1}"#,
            r#"{"e":1.5}"#,
            r#"{"e":"x"}"#,
            r#"{"e":[{}]}"#,
        ] {
            assert!(matches!(payload(other), Payload::Other), "{other}");
        }
    }

    #[test]
    fn malformed_messages() {
        for bad in [
            "",
            "{}",
            "[]",
            "1",
            "\"x\"",
            "nul",
            "{\"a\":}",
            "{\"a\":1}x",
            "{\"a\":1,}",
            "{'a':1}",
            "{\"a\":\u{1}}",
        ] {
            assert_eq!(ClientMessage::parse(bad).unwrap_err(), MalformedMessage, "{bad}");
        }
    }

    #[test]
    fn what_nobody_needs_to_know_may_be_anything() {
        for text in [
            r#"{"e":1e999}"#,
            r#"{"e":"\ud800"}"#,
            r#"{"e":[1e999,"\ud800"]}"#,
            r#" {"e":{"\ud800":1,"data":[1e999],"\udfff":{"\ud800":2}},"\ud800":"\ud800"} "#,
            r#"{"e":1,"x":1e999}"#,
        ] {
            assert_eq!(ClientMessage::parse(text).unwrap().event, "e", "{text}");
        }
        let data = fields(r#"{"e":{"\ud800":1,"d\u0061ta":[1e999]}}"#).data;
        assert_eq!(data.map(RawValue::get), Some("[1e999]"));
        for text in [r#"{"\ud800":1}"#, r#"{"e":1e}"#, r#"{"e":"\ud80"}"#, r#"{"e":1e999}x"#] {
            assert_eq!(ClientMessage::parse(text).unwrap_err(), MalformedMessage, "{text}");
        }
    }

    #[test]
    fn of_a_doubled_key_the_last_counts() {
        assert_eq!(
            fields(r#"{"e":{"channel":"a","channel":"b"}}"#).channel.map(RawValue::get),
            Some(r#""b""#)
        );
    }

    #[test]
    fn strings_are_unescaped_where_needed() {
        let channel = |text| fields(text).channel.and_then(string).map(Cow::into_owned);
        assert_eq!(channel(r#"{"e":{"channel":"a"}}"#).as_deref(), Some("a"));
        assert_eq!(channel(r#"{"e":{"channel":"\u0061"}}"#).as_deref(), Some("a"));
        assert_eq!(channel(r#"{"e":{"channel":"\ud800"}}"#), None);
        assert_eq!(channel(r#"{"e":{"channel":["a"]}}"#), None);
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(ClientMessage::parse(&nested(DEPTH_MAX)).is_ok());
        assert!(ClientMessage::parse(&nested(DEPTH_MAX + 1)).is_err());
        let arrays = format!("{{\"e\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(ClientMessage::parse(&arrays).is_err());
        let flat = format!("{{\"e\":[{}{{}}]}}", "{},".repeat(500));
        assert!(ClientMessage::parse(&flat).is_ok());
        let in_text = format!("{{\"e\":\"\\\"{}\"}}", "[".repeat(500));
        assert!(ClientMessage::parse(&in_text).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,80}|[\\[\\]{}\":,a1\\\\]{0,60}") {
            let ours = ClientMessage::parse(&text).is_ok();
            if ours {
                prop_assert!(serde_json::from_str::<&RawValue>(text.trim()).is_ok());
            }
        }
    }
}
