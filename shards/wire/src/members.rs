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
    value: &'a RawValue,
    /// From its key to the end of its value.
    pub(crate) text: &'a str,
}

impl<'a> Member<'a> {
    /// Its value's text.
    pub(crate) fn value(&self) -> &'a str {
        self.value.get()
    }

    /// Its key unescaped, or as it stands where that is no Unicode text.
    pub(crate) fn key(&self) -> Cow<'a, str> {
        message::string(self.key).unwrap_or(Cow::Borrowed(self.key.get()))
    }
}

/// The members of `object`, the text of a JSON object that was checked to be one, in order.
pub(crate) fn of(object: &str) -> Vec<Member<'_>> {
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

    serde_json::Deserializer::from_str(object)
        .deserialize_map(Members(object))
        .expect("a raw value was checked to be JSON")
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
