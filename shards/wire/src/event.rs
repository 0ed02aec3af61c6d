//! What a sender says along with an event.

use std::ops::Range;

use crate::json::{Json, Key, NotJson, Scanner};

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
                is_forged |= is_reserved(key);
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

    /// Whether it has members that only the server sets.
    pub(crate) fn is_forged(self) -> bool {
        self.is_forged
    }

    /// Where in its text the members stand that only the server sets, from key to value, in order.
    pub(crate) fn reserved(self) -> Vec<Range<u32>> {
        let mut ranges = Vec::new();
        let offset = |at: usize| u32::try_from(at).expect("messages are bounded");
        let text = self.text();
        let scanned = Scanner::new(text).object(|scanner, key| {
            scanner.skip()?;
            if is_reserved(key) {
                let start = key.start();
                ranges.push(offset(start)..offset(start + scanner.since(key).len()));
            }
            Ok(())
        });
        scanned.expect("it was checked to be a JSON object");
        ranges
    }
}

fn is_reserved(key: Key<'_>) -> bool {
    key.name().is_some_and(|name| RESERVED.contains(&&*name))
}
