//! What a sender says along with an event.

use std::{ops::Range, sync::Arc};

use crate::{
    json::{Json, NotJson, Scanner},
    members,
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

    /// Where in its text the members stand that only the server sets, from key to value, in order.
    pub(crate) fn reserved(self) -> Option<Arc<[Range<u32>]>> {
        if !self.is_forged {
            return None;
        }
        let offset = |at: usize| u32::try_from(at).expect("messages are bounded");
        let mut members = members::of(self.text());
        members.retain(|member| RESERVED.contains(&&*member.key()));
        let ranges = members.iter().map(members::Member::range);
        Some(ranges.map(|range| offset(range.start)..offset(range.end)).collect())
    }
}
