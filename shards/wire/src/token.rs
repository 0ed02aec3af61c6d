//! Credentials: the vhost access token and the single access token.
//!
//! Both compare in constant time and neither shows itself in `Debug` output, so that a token
//! cannot reach a log by accident.

use std::{fmt, str::FromStr};

use subtle::ConstantTimeEq;

/// A text that is no token of the wanted length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is {digits} lower-case hexadecimal digits")]
pub struct TokenError {
    digits: usize,
}

macro_rules! token_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// How many random bytes make such a token.
            pub const BYTES: usize = $bytes;

            /// Makes a token of random bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The token's bytes: a secret.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The token as hexadecimal digits: a secret.
            #[must_use]
            pub fn reveal(&self) -> String {
                let digits = b"0123456789abcdef";
                self.0
                    .iter()
                    .flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]])
                    .map(char::from)
                    .collect()
            }
        }

        impl FromStr for $name {
            type Err = TokenError;

            fn from_str(text: &str) -> Result<Self, TokenError> {
                let error = TokenError { digits: $bytes * 2 };
                if text.len() != $bytes * 2 {
                    return Err(error);
                }
                let mut bytes = [0; $bytes];
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                        return Err(error);
                    };
                    *byte = high << 4 | low;
                }
                Ok(Self(bytes))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

token_type!(
    /// A vhost's access token, 40 hexadecimal digits: the credential of its backends.
    AccessToken,
    20
);
token_type!(
    /// A single access token, 128 hexadecimal digits: authenticates one session once.
    SingleAccessToken,
    64
);

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_hidden() {
        let token = AccessToken::from_bytes(std::array::from_fn(|index| index as u8 * 13));
        let text = token.reveal();
        assert_eq!(text.len(), 40);
        assert_eq!(text.parse(), Ok(token));
        assert_eq!(format!("{token:?}"), "AccessToken(…)");
        assert!("0".repeat(39).parse::<AccessToken>().is_err());
        assert!("G".repeat(40).parse::<AccessToken>().is_err());
        assert!("é".repeat(20).parse::<AccessToken>().is_err());
        assert_eq!(SingleAccessToken::from_bytes([255; 64]).reveal(), "f".repeat(128));
    }
}
