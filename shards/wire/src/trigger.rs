//! Triggers as backends receive them: encoded once, for every transport.
//!
//! `{"<event>":{<members of data>,"sid":…,"uid":…,"channel":…}}` on one line, where the members are
//! the sender's own bytes. Members of `data` called `sid`, `uid` or `channel`, however escaped, are
//! left out in favour of the server's; data that is no object becomes the member `data`.
//!
//! Source: docs/protocol.md, "Triggers".

use uuid::Uuid;

use crate::{event::Data, json::Json, members, name::ChannelName, presence::quoted};

/// The members that only the server sets.
const RESERVED: [&str; 3] = ["sid", "uid", "channel"];

/// What the server's members take, names and identifier, but for a `uid` and a long channel.
const SERVER_BYTES: usize = 128;

/// Where a trigger comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The session.
    pub sid: Uuid,
    /// Who it is, if it is anybody.
    pub uid: Option<&'a str>,
    /// The channel of the broadcast that it came with.
    pub channel: Option<&'a ChannelName>,
}

/// A trigger on its way to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    event: Box<str>,
    payload: Box<str>,
    /// Where the object begins that is the event's value.
    object: usize,
}

impl Trigger {
    /// Encodes a trigger. `event` is a JSON string that was checked to be an event name.
    #[must_use]
    pub fn new(event: Json<'_>, data: Option<Data<'_>>, origin: Origin<'_>) -> Self {
        let name = event.string().expect("an event name was checked to be text");
        let members = data.map_or(0, |data| data.text().len()) + origin.uid.map_or(0, str::len);
        let mut payload = String::with_capacity(event.text().len() + members + SERVER_BYTES);
        payload.push('{');
        payload.push_str(event.text());
        payload.push(':');
        let object = payload.len();
        payload.push('{');
        push_data(&mut payload, data);
        payload.push_str("\"sid\":\"");
        let mut sid = [0; uuid::fmt::Hyphenated::LENGTH];
        payload.push_str(origin.sid.hyphenated().encode_lower(&mut sid));
        payload.push('"');
        if let Some(uid) = origin.uid {
            payload.push_str(",\"uid\":");
            payload.push_str(&quoted(uid));
        }
        if let Some(channel) = origin.channel {
            payload.push_str(",\"channel\":\"");
            payload.push_str(channel.as_str());
            payload.push('"');
        }
        payload.push_str("}}");
        Self { event: name.into(), payload: payload.into(), object }
    }

    /// The event's name.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The whole payload, one line.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// The object that is the event's value.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.payload[self.object..self.payload.len() - 1]
    }

    /// What it counts for in a queue, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.event.len() + self.payload.len()
    }
}

/// Appends the members of `data`, each followed by a comma, on one line.
fn push_data(payload: &mut String, data: Option<Data<'_>>) {
    let Some(data) = data.map(Data::text) else { return };
    if data.starts_with('{') {
        for member in members::kept(data, &RESERVED) {
            push_line(payload, member);
            payload.push(',');
        }
    } else {
        payload.push_str("\"data\":");
        push_line(payload, data);
        payload.push(',');
    }
}

/// Appends JSON on one line: line breaks stand only between tokens, where a space says the same.
fn push_line(payload: &mut String, json: &str) {
    for (index, part) in json.split(['\n', '\r']).enumerate() {
        if index > 0 {
            payload.push(' ');
        }
        payload.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    const SID: &str = "6d5f2f8e-5b8f-4c59-9b8f-3b1d5a0f6f4e";

    fn trigger(event: &str, data: Option<&str>, uid: Option<&str>, channel: Option<&str>) -> Trigger {
        let data = data.map(|data| Data::parse(data).unwrap());
        let channel = channel.map(|name| name.parse::<ChannelName>().unwrap());
        let origin = Origin { sid: SID.parse().unwrap(), uid, channel: channel.as_ref() };
        Trigger::new(Json::parse(event).unwrap(), data, origin)
    }

    #[test]
    fn a_trigger_says_where_it_comes_from() {
        let plain = trigger(r#""job""#, None, None, None);
        assert_eq!(plain.payload(), format!(r#"{{"job":{{"sid":"{SID}"}}}}"#));
        let full = trigger(r#""j\u006fb""#, Some("{\"a\": 1,\r\n\"sid\":2}"), Some("a\"b"), Some("news"));
        let object = format!(r#"{{"a": 1,"sid":"{SID}","uid":"a\"b","channel":"news"}}"#);
        assert_eq!((full.event(), full.object()), ("job", object.as_str()));
        assert_eq!(full.payload(), format!(r#"{{"j\u006fb":{object}}}"#));
        let value = trigger(r#""job""#, Some("[1,\n2]"), None, None);
        assert_eq!(value.object(), format!(r#"{{"data":[1, 2],"sid":"{SID}"}}"#));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<i32>().prop_map(Value::from), "[a-z\n\"\\\\]{0,8}".prop_map(Value::from)];
        leaf.prop_recursive(2, 12, 4, |inner| {
            let key = prop_oneof![
                Just("sid".to_owned()),
                Just("channel".to_owned()),
                "[a-c]{1,2}".prop_map(String::from)
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::hash_map(key, inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_trigger_is_one_line_of_json_with_the_servers_members(data in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&data) } else { serde_json::to_string(&data) };
            let made = trigger(r#""e""#, Some(&text.unwrap()), Some("joe"), None);
            prop_assert!(!made.payload().contains(['\n', '\r']));
            let mut expected = match data {
                Value::Object(members) => members,
                other => Map::from_iter([("data".to_owned(), other)]),
            };
            expected.remove("channel");
            expected.insert("sid".to_owned(), SID.into());
            expected.insert("uid".to_owned(), "joe".into());
            let read: Value = serde_json::from_str(made.payload()).unwrap();
            prop_assert_eq!(&read["e"], &Value::Object(expected));
            prop_assert_eq!(serde_json::from_str::<Value>(made.object()).unwrap(), read["e"].clone());
        }
    }
}
