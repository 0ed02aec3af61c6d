//! Patterns: the regular expressions by which backends choose channels and events.
//!
//! A pattern must match a whole name, in linear time, and is bounded in length and in memory.
//! Those with the same text share what they were compiled to, which is many times their text.
//!
//! Source: docs/protocol.md, "Names, rights, tokens".

use std::{collections::HashMap, fmt, sync::Arc};

use regex::{Regex, RegexBuilder};

/// Length of a pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1_024;
/// Memory of a compiled pattern, in bytes. `\w` alone takes some 100 KiB: it knows all of Unicode.
const COMPILED_BYTES_MAX: usize = 512 << 10;
/// Memory of a pattern's cache while it is matched, in bytes. Over it, matching is slower, never wrong.
const CACHE_BYTES_MAX: usize = 256 << 10;
/// Compiled patterns that are kept for the next one who has the same.
const KEPT_MAX: usize = 256;

/// Why a text is no pattern, as a sentence's end: its subject says whose pattern it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// The text is too long.
    TooLong,
    /// The text is no regular expression, and why.
    Syntax(String),
    /// The compiled pattern takes too much memory.
    TooBig,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "is longer than {PATTERN_BYTES_MAX} bytes"),
            Self::Syntax(why) => write!(f, "is no regular expression: {why}"),
            Self::TooBig => write!(f, "compiles to more than {} KiB", COMPILED_BYTES_MAX >> 10),
        }
    }
}

impl std::error::Error for PatternError {}

/// Compiles a pattern, anchored at both ends.
///
/// # Errors
/// What is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, PatternError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(PatternError::TooLong);
    }
    // Alone first: `a)(?:b` would be valid between the anchors and escape them.
    build(pattern)?;
    match build(&format!(r"\A(?:{pattern})\z")) {
        // A comment at the end, in mode x, hid the closing parenthesis.
        Err(PatternError::Syntax(_)) => build(&format!("\\A(?:{pattern}\n)\\z")),
        other => other,
    }
}

fn build(text: &str) -> Result<Regex, PatternError> {
    let built =
        RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(CACHE_BYTES_MAX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::TooBig,
        other => PatternError::Syntax(reason(&other)),
    })
}

/// The last line of a syntax error says what is wrong; the others draw where.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Compiled patterns by their text, because backends use the same ones again and again. Bounded:
/// it begins anew when it is full, and who has a pattern keeps it.
#[derive(Debug, Default)]
pub struct Patterns {
    compiled: HashMap<Arc<str>, Arc<Regex>>,
}

impl Patterns {
    /// Compiles a pattern, unless it is known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compiled(&mut self, pattern: &str) -> Result<Arc<Regex>, PatternError> {
        if let Some(regex) = self.compiled.get(pattern) {
            return Ok(Arc::clone(regex));
        }
        let regex = Arc::new(compile(pattern)?);
        if self.compiled.len() >= KEPT_MAX {
            self.compiled.clear();
        }
        self.compiled.insert(pattern.into(), Arc::clone(&regex));
        Ok(regex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored() {
        let pattern = |text: &str| compile(text).unwrap();
        assert!(!pattern("a|b").is_match("ab"));
        assert!(pattern("a|b").is_match("b"));
        assert!(!pattern("(?m)^a$").is_match("a\nb"));
        assert!(pattern("").is_match(""));
        assert!(!pattern("").is_match("a"));
        assert!(pattern("(?x) a # any").is_match("a"));
        for escape in ["a)|(?:.*", "a)(?:b", "(", "[", r"\"] {
            assert!(matches!(compile(escape), Err(PatternError::Syntax(_))), "{escape}");
        }
    }

    #[test]
    fn patterns_are_bounded() {
        for usual in [r"\w+", r"private-[\w.-]+", r"(presence|private)-\d{1,9}", r"[^.]*\.news"] {
            compile(usual).unwrap();
        }
        assert!(compile(&"x".repeat(PATTERN_BYTES_MAX)).is_ok());
        assert_eq!(compile(&"x".repeat(PATTERN_BYTES_MAX + 1)).unwrap_err(), PatternError::TooLong);
        assert_eq!(compile(r"\w{100}{100}").unwrap_err(), PatternError::TooBig);
        assert_eq!(compile("(").unwrap_err().to_string(), "is no regular expression: unclosed group");
    }

    #[test]
    fn the_same_text_is_compiled_once() {
        let mut patterns = Patterns::default();
        let first = patterns.compiled("a.*").unwrap();
        assert!(Arc::ptr_eq(&first, &patterns.compiled("a.*").unwrap()));
        for number in 0..KEPT_MAX * 2 {
            patterns.compiled(&number.to_string()).unwrap();
            assert!(patterns.compiled.len() <= KEPT_MAX);
        }
        assert!(patterns.compiled("(").is_err());
        assert!(first.is_match("abc"), "who has it keeps it");
    }
}
