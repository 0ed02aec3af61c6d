//! Users' secrets, kept only as hashes that are costly to try out.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash,
};
use webrocket_state::identity::Secret;

/// Memory of one hashing, in KiB.
const MEMORY_KIB: u32 = 19_456;
/// Passes over that memory.
const PASSES: u32 = 2;
/// Lanes; one, because shards need the other cores.
const LANES: u32 = 1;

/// An argon2id hash of a user's secret. Not shown in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash(PasswordHash);

/// A text that is no argon2id hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an argon2id hash")]
pub struct NoSecretHash;

impl SecretHash {
    /// Hashes `secret` under a new random salt. Takes some 20 ms and 19 MiB: not for a runtime's thread.
    ///
    /// # Panics
    /// If the system has no random bytes.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        Self::with(&argon2id(MEMORY_KIB), secret)
    }

    /// Hashes a secret that everybody knows: quickly, for there is nothing to guess.
    ///
    /// # Panics
    /// If the system has no random bytes.
    #[must_use]
    pub fn of_public(secret: &Secret) -> Self {
        Self::with(&argon2id(Params::MIN_M_COST), secret)
    }

    fn with(argon2id: &Argon2<'_>, secret: &Secret) -> Self {
        let hash = argon2id.hash_password(secret.reveal());
        Self(hash.expect("the parameters are valid and the system has random bytes"))
    }

    /// Whether `secret` is the one. Compares in constant time; costs as much as the hashing did.
    #[must_use]
    pub fn matches(&self, secret: &Secret) -> bool {
        argon2id(MEMORY_KIB).verify_password(secret.reveal(), &self.0).is_ok()
    }

    /// Reads what [`SecretHash::phc`] wrote.
    ///
    /// # Errors
    /// `text` is no argon2id hash.
    pub fn from_phc(text: &str) -> Result<Self, NoSecretHash> {
        let hash = PasswordHash::new(text).map_err(|_| NoSecretHash)?;
        if hash.algorithm != argon2::ARGON2ID_IDENT || hash.hash.is_none() {
            Err(NoSecretHash)
        } else {
            Ok(Self(hash))
        }
    }

    /// The hash with its salt and parameters, as the store keeps it.
    #[must_use]
    pub fn phc(&self) -> String {
        self.0.to_string()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

fn argon2id(memory_kib: u32) -> Argon2<'static> {
    let params = Params::new(memory_kib, PASSES, LANES, None).expect("the parameters are valid");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_secret_only() {
        let hash = SecretHash::of(&Secret::new("s3cr3t"));
        assert!(hash.phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.phc());
        let read_back = SecretHash::from_phc(&hash.phc()).unwrap();
        assert_eq!(read_back, hash);
        assert!(read_back.matches(&Secret::new("s3cr3t")));
        assert!(!read_back.matches(&Secret::new("s3cr3")));
        assert!(!read_back.matches(&Secret::new("")));
        assert_eq!(format!("{hash:?}"), "SecretHash(…)");
    }

    #[test]
    fn a_public_secrets_hash_is_cheap() {
        let hash = SecretHash::of_public(&Secret::new("demo"));
        assert!(hash.phc().starts_with("$argon2id$v=19$m=8,t=2,p=1$"), "{}", hash.phc());
        assert!(hash.matches(&Secret::new("demo")) && !hash.matches(&Secret::new("Demo")));
    }

    #[test]
    fn what_is_no_argon2id_hash_is_refused() {
        for text in [
            "",
            "s3cr3t",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(SecretHash::from_phc(text), Err(NoSecretHash), "{text}");
        }
    }
}
