//! JSON as slices of its own text: checked, not decoded.
//!
//! A [`Scanner`] reads a text once, from its beginning to its end, and checks the grammar and the depth, nothing
//! else: numbers may be out of any range, strings no Unicode, keys doubled. What it yields, [`Json`] values and
//! the keys before them, are slices of the text. Strings are unescaped by `serde_json`, where somebody needs them.
//!
//! Source: RFC 8259.

use std::borrow::Cow;

/// How deep a text may be nested.
pub const DEPTH_MAX: usize = 128;

/// Why a text is no [`Json`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// The text breaks the grammar.
    #[error("the text is no JSON")]
    Malformed,
    /// Arrays and objects are nested deeper than [`DEPTH_MAX`].
    #[error("the text is nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

/// A JSON value as it was written, without space around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// The one value that a text consists of.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &'a str) -> Result<Self, NotJson> {
        let mut scanner = Scanner::new(text);
        let value = scanner.value()?;
        scanner.end()?;
        Ok(value)
    }

    /// The value as it was written.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.0
    }

    /// The text of a string; `None` for any other value and for a string that is no Unicode text (a lone
    /// surrogate).
    #[must_use]
    pub fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') { unescaped(self.0) } else { Some(inner.into()) }
    }

    /// The elements of an array, in order; `None` for any other value.
    #[must_use]
    pub fn elements(self) -> Option<Vec<Self>> {
        if !self.0.starts_with('[') {
            return None;
        }
        let mut elements = Vec::new();
        let scanned = Scanner::new(self.0).array(|scanner| {
            elements.push(scanner.value()?);
            Ok(())
        });
        scanned.expect("it was checked to be JSON");
        Some(elements)
    }
}

/// A member's key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    quoted: &'a str,
    /// Where it begins in its text.
    start: usize,
    is_escaped: bool,
}

impl<'a> Key<'a> {
    /// Where it begins in its text.
    pub(crate) fn start(self) -> usize {
        self.start
    }

    /// The key as it was written, quotes included.
    pub(crate) fn quoted(self) -> &'a str {
        self.quoted
    }

    /// The key's text; `None` if it is no Unicode text.
    pub(crate) fn name(self) -> Option<Cow<'a, str>> {
        if self.is_escaped {
            unescaped(self.quoted)
        } else {
            Some(self.quoted[1..self.quoted.len() - 1].into())
        }
    }
}

fn unescaped(quoted: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str(quoted).ok().map(Cow::Owned)
}

/// Where the reading of a text has come to.
///
/// After an error it must not be used.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// What has been read since `key`, that included.
    pub(crate) fn since(&self, key: Key<'a>) -> &'a str {
        &self.text[key.start..self.at]
    }

    /// The byte that comes next. At the end it is NUL, which begins nothing.
    #[inline]
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// The first byte of the token that comes next, behind any space.
    #[inline]
    pub(crate) fn token(&mut self) -> u8 {
        loop {
            match self.peek() {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return byte,
            }
        }
    }

    /// Reads a token of one byte.
    #[inline]
    fn expect(&mut self, token: u8) -> Result<(), NotJson> {
        if self.token() != token {
            return Err(NotJson::Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// The text ends here.
    pub(crate) fn end(&mut self) -> Result<(), NotJson> {
        self.token();
        if self.at == self.text.len() { Ok(()) } else { Err(NotJson::Malformed) }
    }

    /// Reads a value.
    pub(crate) fn value(&mut self) -> Result<Json<'a>, NotJson> {
        self.value_by(Self::skip)
    }

    /// Reads a value as `read` does, which reads exactly one.
    pub(crate) fn value_by(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), NotJson>,
    ) -> Result<Json<'a>, NotJson> {
        self.token();
        let start = self.at;
        read(self)?;
        Ok(Json(&self.text[start..self.at]))
    }

    /// Reads a value that nobody needs to know.
    pub(crate) fn skip(&mut self) -> Result<(), NotJson> {
        match self.token() {
            b'"' => self.string().map(drop),
            b'{' => self.object(|scanner, _| scanner.skip()),
            b'[' => self.array(Self::skip),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => Err(NotJson::Malformed),
        }
    }

    /// Reads an object; `member` reads the value behind each key.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Key<'a>) -> Result<(), NotJson>,
    ) -> Result<(), NotJson> {
        self.expect(b'{')?;
        self.descend()?;
        if self.token() != b'}' {
            loop {
                let key = self.key()?;
                self.expect(b':')?;
                member(self, key)?;
                if self.token() != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        self.depth -= 1;
        self.expect(b'}')
    }

    /// Reads an array; `element` reads each of its elements.
    pub(crate) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), NotJson>,
    ) -> Result<(), NotJson> {
        self.expect(b'[')?;
        self.descend()?;
        if self.token() != b']' {
            loop {
                element(self)?;
                if self.token() != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        self.depth -= 1;
        self.expect(b']')
    }

    fn descend(&mut self) -> Result<(), NotJson> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(NotJson::TooDeep) } else { Ok(()) }
    }

    #[inline]
    fn key(&mut self) -> Result<Key<'a>, NotJson> {
        if self.token() != b'"' {
            return Err(NotJson::Malformed);
        }
        let start = self.at;
        let is_escaped = self.string()?;
        Ok(Key { quoted: &self.text[start..self.at], start, is_escaped })
    }

    /// Reads a string from its opening quote on: whether there are escapes in it.
    fn string(&mut self) -> Result<bool, NotJson> {
        self.at += 1;
        self.skip_plain();
        if self.peek() == b'"' {
            self.at += 1;
            return Ok(false);
        }
        self.escaped_string().map(|()| true)
    }

    /// Reads a string from an escape on.
    #[cold]
    fn escaped_string(&mut self) -> Result<(), NotJson> {
        while self.peek() != b'"' {
            self.escape()?;
            self.skip_plain();
        }
        self.at += 1;
        Ok(())
    }

    /// Reads on to what ends the plain part of a string, or to the end of the text.
    #[inline]
    fn skip_plain(&mut self) {
        let (words, _) = self.text.as_bytes()[self.at..].as_chunks();
        for word in words {
            let plain = plain_bytes(*word);
            self.at += plain;
            if plain < WORD_BYTES {
                return;
            }
        }
        while !matches!(self.peek(), b'"' | b'\\' | 0..b' ') {
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        let length = match &self.text.as_bytes()[self.at..] {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'\\', b'u', digits @ ..]
                if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) =>
            {
                6
            }
            _ => return Err(NotJson::Malformed),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        match self.peek() {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if let b'e' | b'E' = self.peek() {
            self.at += 1;
            if let b'+' | b'-' = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads at least one digit.
    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start { Err(NotJson::Malformed) } else { Ok(()) }
    }

    fn literal(&mut self, literal: &str) -> Result<(), NotJson> {
        if !self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            return Err(NotJson::Malformed);
        }
        self.at += literal.len();
        Ok(())
    }
}

/// How many bytes of a string are looked at in one go.
const WORD_BYTES: usize = 8;

/// How many bytes stand in front of the first that ends the plain part of a string: a quote, a backslash, or a
/// control character, which a string must not hold.
#[inline]
fn plain_bytes(word: [u8; WORD_BYTES]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; WORD_BYTES]);
    const HIGHEST: u64 = ONES * 0x80;
    let word = u64::from_le_bytes(word);
    // Subtracting sets a byte's highest bit where it is below. It may do so in bytes behind such a one too, but only
    // the first counts; and not beyond ASCII, where nothing ends.
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound));
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let ends = (below(word, b' ') | equal(b'"') | equal(b'\\')) & !word & HIGHEST;
    ends.trailing_zeros() as usize / 8
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
pub(crate) mod tests;
