//! A single access token.

use std::sync::Arc;

use webrocket_state::identity::TokenGrant;

/// A single access token as everybody knows it.
#[derive(Debug)]
pub struct Token {
    /// Its digits.
    pub text: String,
    /// Of which vhost.
    pub vhost: usize,
    /// What it grants.
    pub grant: Arc<TokenGrant>,
    /// Whether no other session ever has its `uid`.
    pub is_solo: bool,
    /// Whether those who hold it show themselves to nobody.
    pub is_shy: bool,
    /// Whether the control thread has given it away, or dropped it with its vhost.
    pub is_spent: bool,
    pub(super) holders: Vec<usize>,
}

impl Token {
    /// A token that nobody has tried.
    #[must_use]
    pub fn new(text: String, vhost: usize, grant: Arc<TokenGrant>, is_solo: bool, is_shy: bool) -> Self {
        Self { text, vhost, grant, is_solo, is_shy, is_spent: false, holders: Vec::new() }
    }

    /// Whether it certainly authenticates nobody in a vhost any more.
    #[must_use]
    pub fn is_spent_for(&self, vhost: usize) -> bool {
        self.is_spent || self.vhost != vhost
    }
}
