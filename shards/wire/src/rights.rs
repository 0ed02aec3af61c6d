//! What a session may do on the channels of its vhost.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of rights: `READ` = 1, `WRITE` = 2, `MANAGE` = 4.
///
/// Written as a comma-separated list in lower case, `read,write,manage`; the empty set is `none`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights(u8);

/// A word that names no right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no right; use a comma-separated list of read, write, manage, or none")]
pub struct RightsError {
    word: String,
}

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// Subscribe and receive.
    pub const READ: Self = Self(1);
    /// Broadcast and trigger.
    pub const WRITE: Self = Self(2);
    /// Open and close channels.
    pub const MANAGE: Self = Self(4);
    /// `READ` and `WRITE`.
    pub const READ_WRITE: Self = Self(3);
    /// All three.
    pub const ALL: Self = Self(7);

    /// The bits, 0 to 7.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set with these bits, if there is one.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= Self::ALL.0 { Some(Self(bits)) } else { None }
    }

    /// Whether every right of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The rights in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const WORDS: [(&str, Rights); 3] =
    [("read", Rights::READ), ("write", Rights::WRITE), ("manage", Rights::MANAGE)];

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let mut separator = "";
        for (word, right) in WORDS {
            if self.contains(right) {
                write!(f, "{separator}{word}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({self})")
    }
}

impl FromStr for Rights {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self, RightsError> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::NONE);
        }
        let mut rights = Self::NONE;
        for word in text.split(',').map(str::trim) {
            let Some((_, right)) = WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)) else {
                return Err(RightsError { word: word.to_owned() });
            };
            rights = rights.union(*right);
        }
        Ok(rights)
    }
}

impl Serialize for Rights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_written_and_read_back() {
        for bits in 0..8 {
            let rights = Rights::from_bits(bits).unwrap();
            assert_eq!(rights.to_string().parse(), Ok(rights));
        }
        assert_eq!(Rights::from_bits(8), None);
        assert_eq!("READ, write".parse(), Ok(Rights::READ_WRITE));
        assert!("".parse::<Rights>().is_err());
        assert!("read,fly".parse::<Rights>().is_err());
    }
}
