//! What holds of any text that may be JSON: `serde_json` says the same of it.

use std::fmt;

use serde::{
    Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::*;
use crate::{members, publication};

/// `input` is a text, which is also what an event says.
pub fn json(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    serde_json_finds_the_same(text);
    publication::fuzz::members_are_spliced_as_they_stand(text);
}

/// Whether `text` is JSON, its text if it is a string, and its elements or members.
pub(crate) fn serde_json_finds_the_same(text: &str) {
    let json = match Json::parse(text) {
        // The rest of the text was not read.
        Err(NotJson::TooDeep) => return assert!(is_deeper_than(text, DEPTH_MAX)),
        parsed => {
            assert_eq!(parsed.map(Json::text), read_by_serde_json(text));
            let Ok(json) = parsed else { return };
            json
        }
    };
    assert_eq!(json.string().as_deref(), serde_json::from_str::<String>(text).ok().as_deref());
    let elements = json.elements().map(|elements| elements.into_iter().map(Json::text).collect::<Vec<_>>());
    let raw = serde_json::from_str::<Vec<&RawValue>>(text).ok();
    assert_eq!(elements, raw.map(|raw| raw.into_iter().map(RawValue::get).collect()));
    if json.text().starts_with('{') {
        let members = members::of(json.text()).into_iter();
        let members = members.map(|member| (member.quoted_key(), member.value.text())).collect();
        assert_eq!(Some(members), members_by_serde_json(text));
    }
}

/// What `serde_json` finds to be one JSON value, as it was written.
pub(crate) fn read_by_serde_json(text: &str) -> Result<&str, NotJson> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) if is_deeper_than(text, DEPTH_MAX) => Err(NotJson::TooDeep),
        Ok(raw) => Ok(raw.get()),
        Err(_) => Err(NotJson::Malformed),
    }
}

/// The members that `serde_json` finds in an object, keys and values as they were written.
pub(crate) fn members_by_serde_json(text: &str) -> Option<Vec<(&str, &str)>> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(&'de str, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                members.push((key.get(), value.get()));
            }
            Ok(members)
        }
    }

    serde_json::Deserializer::from_str(text).deserialize_map(Members).ok()
}

/// Whether the arrays and objects of a JSON text are nested deeper than `max`.
fn is_deeper_than(text: &str, max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    text.bytes().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        depth > max
    })
}
