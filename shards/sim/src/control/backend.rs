//! The application behind the broker: what it is at, and the tokens that it issues.

use std::sync::{Arc, LazyLock};

use regex::Regex;
use webrocket_state::identity::TokenGrant;
use webrocket_wire::SingleAccessToken;

use crate::{
    canary::Canary,
    chance::Chance,
    net::Net,
    oracles::{Ledger, SHY, Token},
    time::Micros,
};

/// So many tokens of each vhost there are from the beginning.
pub(super) const TOKENS_AT_FIRST: usize = 4;

/// On which channels tokens are good, anchored at both ends.
static PATTERNS: LazyLock<[Regex; 4]> = LazyLock::new(|| {
    [".*", "presence-.*", "alpha|private-a|presence-a", "presence-[ab]|beta"]
        .map(|pattern| Regex::new(&format!("^(?:{pattern})$")).expect("a valid pattern"))
});

/// What the backend is at.
#[derive(Debug, Default)]
pub(super) struct Backend {
    /// When it speaks next.
    pub(super) due: Micros,
    /// Broadcasts that are not acknowledged.
    pub(super) open: usize,
}

/// Issues a token.
pub(super) fn issue_token(chance: &mut Chance, ledger: &mut Ledger, vhost: usize) {
    let number = ledger.tokens.len();
    let (uid, is_solo) = match chance.between(0, 9) {
        0..4 => (format!("solo{number}"), true),
        4..7 => ("kay".to_owned(), false),
        7..9 => ("ann".to_owned(), false),
        _ => (SHY.to_owned(), false),
    };
    let is_shy = uid == SHY;
    let grant = TokenGrant { uid: uid.into(), channels: chance.pick(&*PATTERNS).clone().into() };
    let text = SingleAccessToken::from_bytes(chance.bytes()).reveal();
    ledger.tokens.push(Token::new(text, vhost, Arc::new(grant), is_solo, is_shy));
}

/// Gives a token away, once, and issues another one.
pub(super) fn consume_token(
    net: &mut Net,
    chance: &mut Chance,
    ledger: &mut Ledger,
    vhost: usize,
    token: &SingleAccessToken,
) -> Option<Arc<TokenGrant>> {
    let text = token.reveal();
    let token = ledger.tokens.iter_mut().find(|token| token.vhost == vhost && token.text == text)?;
    if token.is_spent {
        return net.misdirects(Canary::TokenTwice).then(|| Arc::clone(&token.grant));
    }
    token.is_spent = true;
    let grant = Arc::clone(&token.grant);
    issue_token(chance, ledger, vhost);
    Some(grant)
}

/// Drops the tokens of a vhost that goes, and issues those of the one that will come.
pub(super) fn void_tokens(chance: &mut Chance, ledger: &mut Ledger, vhost: usize) {
    for token in &mut ledger.tokens {
        token.is_spent |= token.vhost == vhost;
    }
    for _ in 0..TOKENS_AT_FIRST {
        issue_token(chance, ledger, vhost);
    }
}
