//! What holds of any text of a client: `serde_json` says the same of it.

use std::collections::BTreeMap;

use super::*;
use crate::json::fuzz::{members_by_serde_json, read_by_serde_json};

/// `input` is a client's message.
pub fn message(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        serde_json_says_the_same(text);
    }
}

/// Whether `text` is a message, and what it consists of.
pub(crate) fn serde_json_says_the_same(text: &str) {
    let said = seen(text);
    assert_eq!(said, seen_by_serde_json(text));
    if said.is_some() {
        let (_, payload) = members_by_serde_json(text).expect("a message is an object")[0];
        assert_eq!(payload_text(text), payload.starts_with('{').then_some(payload));
    }
}

/// The event of a message, whether its payload is `true`, and the members of it that some request knows.
type Seen = (String, bool, Option<BTreeMap<&'static str, String>>);

fn seen(text: &str) -> Option<Seen> {
    let ClientMessage { event, payload } = ClientMessage::parse(text).ok()?;
    let members = match &payload {
        Payload::Object(fields) => {
            let Fields { channel, event, data, user, secret, token, hidden, trigger, reference } = *fields;
            let values = [channel, event, user, secret, token, hidden, trigger, reference]
                .map(|json| json.map(Json::text));
            let names = ["channel", "event", "user", "secret", "token", "hidden", "trigger", "ref"];
            let known = names.into_iter().zip(values).chain([("data", data.map(Data::text))]);
            Some(known.filter_map(|(name, value)| Some((name, value?.to_owned()))).collect())
        }
        Payload::True | Payload::Other => None,
    };
    Some((event.into_owned(), matches!(payload, Payload::True), members))
}

/// The same, as `serde_json` reads messages.
fn seen_by_serde_json(text: &str) -> Option<Seen> {
    let string = |text: &str| serde_json::from_str::<String>(text).ok();
    read_by_serde_json(text).ok()?;
    let (event, payload) = *members_by_serde_json(text)?.first()?;
    let members = members_by_serde_json(payload).map(|members| {
        let known = ["channel", "event", "data", "user", "secret", "token", "hidden", "trigger", "ref"];
        let member = |(key, value): (&str, &str)| {
            let name = string(key)?;
            Some((*known.iter().find(|known| **known == name)?, value.to_owned()))
        };
        members.into_iter().filter_map(member).collect()
    });
    Some((string(event)?, payload == "true", members))
}
