//! Who a session is, as far as its browser was told.

use crate::oracles::Ledger;

/// Who a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Nobody,
    User(&'static str),
    /// The holder of a token, by its number.
    Token(usize),
}

impl Who {
    /// By what others know it.
    pub(super) fn uid(self, ledger: &Ledger) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::User(name) => Some(name.to_owned()),
            Self::Token(number) => Some(ledger.tokens[number].grant.uid.to_string()),
        }
    }

    /// Whether no other session has its `uid`.
    pub(super) fn is_solo(self, ledger: &Ledger) -> bool {
        matches!(self, Self::Token(number) if ledger.tokens[number].is_solo)
    }
}
