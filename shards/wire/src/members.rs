//! The members of a JSON object as slices of its text, never re-serialised.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::message;

/// One member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    key: &'a RawValue,
    pub(crate) value: &'a RawValue,
    /// From its key to the end of its value.
    pub(crate) text: &'a str,
}

impl<'a> Member<'a> {
    /// Its key unescaped, if that is Unicode text.
    pub(crate) fn name(&self) -> Option<Cow<'a, str>> {
        message::string(self.key)
    }

    /// Its key unescaped, or as it stands where that is no Unicode text.
    pub(crate) fn key(&self) -> Cow<'a, str> {
        self.name().unwrap_or(Cow::Borrowed(self.key.get()))
    }
}

/// The members of `object`, the text of a JSON object that was checked to be one, in order.
pub(crate) fn of(object: &str) -> Vec<Member<'_>> {
    parse(object).expect("a raw value was checked to be JSON")
}

/// The members of `text`, if that is a JSON object and nothing else, in order. Keys and values are
/// checked as JSON, but not decoded: numbers may be out of any range, texts no Unicode.
pub(crate) fn parse(text: &str) -> serde_json::Result<Vec<Member<'_>>> {
    struct Members<'a>(&'a str);

    impl<'de> Visitor<'de> for Members<'de> {
        type Value = Vec<Member<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                let start = offset_in(self.0, key.get());
                let end = offset_in(self.0, value.get()) + value.get().len();
                members.push(Member { key, value, text: &self.0[start..end] });
            }
            Ok(members)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_map(Members(text))?;
    deserializer.end()?;
    Ok(members)
}

/// The texts of an object's members except those whose key, however escaped, is one of `reserved`.
pub(crate) fn kept<'a>(object: &'a str, reserved: &[&str]) -> Vec<&'a str> {
    let mut members = of(object);
    members.retain(|member| !reserved.contains(&&*member.key()));
    members.into_iter().map(|member| member.text).collect()
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &str, part: &str) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}
