//! The members of a JSON object as slices of its text, never re-serialised.

use std::borrow::Cow;

use crate::json::{Json, Key, Scanner};

/// One member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    key: Key<'a>,
    pub(crate) value: Json<'a>,
    /// From its key to the end of its value.
    pub(crate) text: &'a str,
}

impl<'a> Member<'a> {
    /// Its key as it was written, quotes included.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn quoted_key(&self) -> &'a str {
        self.key.quoted()
    }

    /// Its key unescaped, or as it stands where that is no Unicode text.
    pub(crate) fn key(&self) -> Cow<'a, str> {
        self.key.name().unwrap_or(Cow::Borrowed(self.key.quoted()))
    }
}

/// The members of `object`, the text of a JSON object that was checked to be one, in order.
pub(crate) fn of(object: &str) -> Vec<Member<'_>> {
    let mut members = Vec::new();
    let scanned = Scanner::new(object).object(|scanner, key| {
        let value = scanner.value()?;
        members.push(Member { key, value, text: scanner.since(key) });
        Ok(())
    });
    scanned.expect("it was checked to be a JSON object");
    members
}

/// The texts of an object's members except those whose key, however escaped, is one of `reserved`.
pub(crate) fn kept<'a>(object: &'a str, reserved: &[&str]) -> Vec<&'a str> {
    let mut members = of(object);
    members.retain(|member| !reserved.contains(&&*member.key()));
    members.into_iter().map(|member| member.text).collect()
}
