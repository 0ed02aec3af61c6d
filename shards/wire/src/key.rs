//! CURVE keys: the public ones that backends are known by, and the server's secret one.
//!
//! Both are 32 bytes, written as 40 characters of Z85, the alphabet of ZeroMQ. Whether a key is a point of
//! the curve at all is libzmq's business.
//!
//! Source: ZeroMQ RFC 32 (Z85) and 26 (CURVE).

use std::{fmt, str::FromStr};

/// The digits of Z85, by their value.
const DIGITS: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// How many digits make four bytes.
const GROUP: usize = 5;

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 40 characters of Z85, which are 32 bytes")]
pub struct KeyError;

/// The public key that a backend is known by. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey([u8; 32]);

impl BackendKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for BackendKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

/// A secret key. Not shown in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes: a secret.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key in Z85: a secret.
    #[must_use]
    pub fn reveal(&self) -> String {
        encode(&self.0)
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

fn encode(key: &[u8; 32]) -> String {
    let (words, _) = key.as_chunks::<4>();
    let digits = words.iter().flat_map(|word| {
        let word = u32::from_be_bytes(*word);
        (0..GROUP as u32).rev().map(move |place| word / 85_u32.pow(place) % 85)
    });
    digits.map(|digit| char::from(DIGITS[digit as usize])).collect()
}

fn decode(text: &str) -> Result<[u8; 32], KeyError> {
    let mut key = [0; 32];
    let (words, _) = key.as_chunks_mut::<4>();
    if text.len() != words.len() * GROUP {
        return Err(KeyError);
    }
    for (word, group) in words.iter_mut().zip(text.as_bytes().chunks_exact(GROUP)) {
        let value = group.iter().try_fold(0, |value: u32, character| {
            let digit = DIGITS.iter().position(|digit| digit == character)?;
            value.checked_mul(85)?.checked_add(u32::try_from(digit).ok()?)
        });
        *word = value.ok_or(KeyError)?.to_be_bytes();
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The public key that ZeroMQ's own manual makes its examples with.
    #[test]
    fn a_key_is_read_as_others_write_it() {
        let text = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
        let bytes = [
            0x54, 0xfc, 0xba, 0x24, 0xe9, 0x32, 0x49, 0x96, 0x93, 0x16, 0xfb, 0x61, 0x7c, 0x87, 0x2b, 0xb0,
            0xc1, 0xd1, 0xff, 0x14, 0x80, 0x04, 0x27, 0xc5, 0x94, 0xcb, 0xfa, 0xcf, 0x1b, 0xc2, 0xd6, 0x52,
        ];
        assert_eq!(text.parse(), Ok(BackendKey::from_bytes(bytes)));
        assert_eq!(BackendKey::from_bytes(bytes).to_string(), text);
        assert_eq!(text.parse(), Ok(SecretKey::from_bytes(bytes)));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let group_over_the_top = format!("{}#####", "0".repeat(35));
        let least_over_the_top = format!("{}%nSc1", "0".repeat(35));
        for text in [
            "",
            &"0".repeat(39),
            &"0".repeat(41),
            &" ".repeat(40),
            &"é".repeat(20),
            &"~".repeat(40),
            &group_over_the_top,
            &least_over_the_top,
        ] {
            assert_eq!(text.parse::<BackendKey>(), Err(KeyError), "{text}");
        }
        assert_eq!("%nSc0".repeat(8).parse(), Ok(BackendKey::from_bytes([255; 32])));
        assert_eq!("0".repeat(40).parse(), Ok(BackendKey::from_bytes([0; 32])));
    }

    #[test]
    fn a_secret_key_does_not_show() {
        assert_eq!(format!("{:?}", SecretKey::from_bytes([7; 32])), "SecretKey(…)");
    }

    proptest! {
        #[test]
        fn keys_are_read_back(bytes: [u8; 32]) {
            let text = BackendKey::from_bytes(bytes).to_string();
            prop_assert_eq!(text.len(), 40);
            prop_assert_eq!(text.parse(), Ok(BackendKey::from_bytes(bytes)));
            prop_assert_eq!(SecretKey::from_bytes(bytes).reveal(), text);
        }

        #[test]
        fn any_text_is_a_key_or_none(text in ".{0,60}|[ -~]{40}") {
            if let Ok(key) = text.parse::<BackendKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
