//! Single access tokens: issued, used at most once, or dead in time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use webrocket_state::{
    VhostId,
    identity::TokenGrant,
    pattern::{PATTERN_BYTES_MAX, PatternError, Patterns},
};
use webrocket_wire::SingleAccessToken;

use super::random;

/// Tokens that wait for their use, over all vhosts.
pub(super) const TOKENS_MAX: usize = 100_000;
/// How long a token lives unused if its issuer does not say.
pub(super) const TTL_DEFAULT: Duration = Duration::from_secs(60);
/// How long a token may live unused.
pub(super) const TTL_MAX: Duration = Duration::from_secs(86_400);
/// Length of a `uid`, in bytes.
const UID_BYTES_MAX: usize = 128;
/// What a backend asks a token for. Made only by [`TokenRequest::new`], so it is valid.
#[derive(Debug)]
pub(super) struct TokenRequest {
    uid: Arc<str>,
    pattern: Arc<str>,
    ttl: Duration,
}

/// Why no token is issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    /// The `uid` is empty, too long, or has control characters.
    #[error("the uid must be 1 to {UID_BYTES_MAX} bytes of UTF-8 without control characters")]
    Uid,
    /// The lifetime is out of its range.
    #[error("the ttl must be from 1 to {} seconds", TTL_MAX.as_secs())]
    Ttl,
    /// The pattern is none.
    #[error("the channel pattern {0}")]
    Pattern(#[from] PatternError),
    /// There are as many tokens as there may be.
    #[error("{0} tokens wait for their use already; try again when some are used or expired")]
    Full(usize),
}

impl TokenRequest {
    /// Checks what can be checked without compiling the pattern.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn new(uid: &str, pattern: &str, ttl_seconds: Option<u64>) -> Result<Self, TokenError> {
        if uid.is_empty() || uid.len() > UID_BYTES_MAX || uid.chars().any(char::is_control) {
            return Err(TokenError::Uid);
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong.into());
        }
        let ttl = ttl_seconds.map_or(TTL_DEFAULT, Duration::from_secs);
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(TokenError::Ttl);
        }
        Ok(Self { uid: uid.into(), pattern: pattern.into(), ttl })
    }
}

/// All tokens that nobody has used yet.
///
/// Holds hashes only: who reads this memory learns no token. The vhost is part of what is
/// hashed, so a token means nothing to any other vhost. One task owns the table, and a token is
/// taken out of it in the act of using it: no race makes it valid twice.
pub(super) struct TokenTable {
    key: [u8; 32],
    most: usize,
    entries: HashMap<TokenKey, Entry>,
    by_expiry: BTreeSet<(Instant, TokenKey)>,
    /// A token keeps its pattern's text only: 100,000 compiled ones would take gigabytes.
    patterns: Patterns,
}

/// A token and its vhost, hashed under the table's key: looking it up tells nothing by its time.
type TokenKey = [u8; 32];

struct Entry {
    vhost: VhostId,
    uid: Arc<str>,
    pattern: Arc<str>,
    expires: Instant,
}

impl TokenTable {
    /// A table for at most `most` tokens.
    pub(super) fn new(most: usize) -> Self {
        Self {
            key: random::bytes(),
            most,
            entries: HashMap::new(),
            by_expiry: BTreeSet::new(),
            patterns: Patterns::default(),
        }
    }

    /// Issues a token.
    ///
    /// # Errors
    /// The pattern does not compile, or the table is full.
    pub(super) fn issue(
        &mut self,
        now: Instant,
        vhost: VhostId,
        request: TokenRequest,
    ) -> Result<SingleAccessToken, TokenError> {
        self.forget_expired(now);
        self.patterns.compiled(&request.pattern)?;
        if self.entries.len() >= self.most {
            return Err(TokenError::Full(self.most));
        }
        let token = random::single_access_token();
        let key = self.key(vhost, &token);
        let expires = now + request.ttl;
        self.by_expiry.insert((expires, key));
        self.entries.insert(key, Entry { vhost, uid: request.uid, pattern: request.pattern, expires });
        Ok(token)
    }

    /// Uses a token: what it grants, if it is valid. It is not, ever again.
    pub(super) fn consume(
        &mut self,
        now: Instant,
        vhost: VhostId,
        token: &SingleAccessToken,
    ) -> Option<Arc<TokenGrant>> {
        self.forget_expired(now);
        let key = self.key(vhost, token);
        let entry = self.entries.remove(&key)?;
        self.by_expiry.remove(&(entry.expires, key));
        let channels = self.patterns.compiled(&entry.pattern).expect("it compiled when the token was issued");
        Some(Arc::new(TokenGrant { uid: entry.uid, channels }))
    }

    /// Voids all tokens of a vhost.
    pub(super) fn remove_vhost(&mut self, vhost: VhostId) {
        self.entries.retain(|_, entry| entry.vhost != vhost);
        self.by_expiry.retain(|(_, key)| self.entries.contains_key(key));
    }

    /// The number of tokens that wait for their use.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// When the next token dies.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first().map(|&(expires, _)| expires)
    }

    /// Forgets the tokens whose time is over.
    pub(super) fn forget_expired(&mut self, now: Instant) {
        while let Some(&(expires, key)) = self.by_expiry.first() {
            if now < expires {
                break;
            }
            self.by_expiry.pop_first();
            self.entries.remove(&key);
        }
    }

    fn key(&self, vhost: VhostId, token: &SingleAccessToken) -> TokenKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&vhost.0.to_le_bytes());
        hasher.update(token.as_bytes());
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VHOST: VhostId = VhostId(1);

    fn request(pattern: &str, ttl: Option<u64>) -> TokenRequest {
        TokenRequest::new("joe", pattern, ttl).unwrap()
    }

    #[test]
    fn a_token_is_consumed_once() {
        let mut table = TokenTable::new(10);
        let now = Instant::now();
        let token = table.issue(now, VHOST, request("private-.*", None)).unwrap();
        let grant = table.consume(now, VHOST, &token).unwrap();
        assert_eq!(&*grant.uid, "joe");
        assert!(grant.channels.is_match("private-x"));
        assert!(table.consume(now, VHOST, &token).is_none());
        assert_eq!((table.len(), table.next_expiry()), (0, None));
    }

    #[test]
    fn a_token_is_bound_to_its_vhost() {
        let mut table = TokenTable::new(10);
        let now = Instant::now();
        let token = table.issue(now, VHOST, request(".*", None)).unwrap();
        assert!(table.consume(now, VhostId(2), &token).is_none());
        assert!(table.consume(now, VHOST, &token).is_some(), "another vhost's attempt spends nothing");
        let token = table.issue(now, VHOST, request(".*", None)).unwrap();
        let other = table.issue(now, VhostId(2), request(".*", None)).unwrap();
        table.remove_vhost(VHOST);
        assert!(table.consume(now, VHOST, &token).is_none());
        assert_eq!(table.by_expiry.len(), 1);
        assert!(table.consume(now, VhostId(2), &other).is_some());
    }

    #[test]
    fn a_token_dies_unused() {
        let mut table = TokenTable::new(10);
        let start = Instant::now();
        let short = table.issue(start, VHOST, request(".*", Some(1))).unwrap();
        let default = table.issue(start, VHOST, request(".*", None)).unwrap();
        assert_eq!(table.next_expiry(), Some(start + Duration::from_secs(1)));
        assert!(table.consume(start + Duration::from_secs(1), VHOST, &short).is_none());
        assert_eq!(table.len(), 1);
        assert!(table.consume(start + Duration::from_millis(59_999), VHOST, &default).is_some());
    }

    #[test]
    fn a_full_table_refuses_until_tokens_die() {
        let mut table = TokenTable::new(2);
        let start = Instant::now();
        for _ in 0..2 {
            table.issue(start, VHOST, request(".*", Some(5))).unwrap();
        }
        assert_eq!(table.issue(start, VHOST, request(".*", None)).unwrap_err(), TokenError::Full(2));
        assert!(table.issue(start + Duration::from_secs(5), VHOST, request(".*", None)).is_ok());
    }

    #[test]
    fn requests_are_checked() {
        let error = |uid: &str, pattern: &str, ttl| TokenRequest::new(uid, pattern, ttl).unwrap_err();
        assert_eq!(error("", "a", None), TokenError::Uid);
        assert_eq!(error("a\nb", "a", None), TokenError::Uid);
        assert_eq!(error(&"x".repeat(129), "a", None), TokenError::Uid);
        assert_eq!(error("joe", &"x".repeat(1_025), None), PatternError::TooLong.into());
        assert_eq!(error("joe", "a", Some(0)), TokenError::Ttl);
        assert_eq!(error("joe", "a", Some(86_401)), TokenError::Ttl);
        assert!(TokenRequest::new("Jürgen Müller", &"x".repeat(1_024), Some(86_400)).is_ok());
    }
}
