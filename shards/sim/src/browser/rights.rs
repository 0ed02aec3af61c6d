//! What the session may, as far as its browser can know.

use webrocket_wire::{ChannelKind, ChannelName, Rights, handshake::Dialect};

use super::{Browser, identity::Who};
use crate::{
    oracles::Ledger,
    request::Request,
    scenario::{OPENED, Scenario, USERS, VHOSTS},
};

/// Whether anybody may subscribe a channel of that name, given the right.
pub(super) fn is_open(channel: &str) -> bool {
    ChannelName::kind_of(channel) == ChannelKind::Open
}

impl Browser {
    /// Whether the session has a right, on a channel or at all; `None`: nobody can know.
    pub(super) fn may(
        &self,
        scenario: &Scenario,
        ledger: &Ledger,
        needed: Rights,
        channel: Option<&str>,
    ) -> Option<bool> {
        let anonymous = VHOSTS[self.vhost].1.rights(self.dialect, true);
        let on_open = if channel.is_none_or(is_open) { anonymous } else { Rights::NONE };
        match self.identity {
            Who::Nobody => Some(on_open.contains(needed)),
            Who::User(_) if scenario.users_change => None,
            Who::User(name) => {
                USERS.iter().find(|user| user.name == name).map(|user| user.rights.contains(needed))
            }
            Who::Token(number) => {
                let grant = &ledger.tokens[number].grant;
                let matches = channel.is_none_or(|channel| grant.channels.is_match(channel));
                let granted = if matches { Rights::READ_WRITE } else { Rights::NONE };
                Some(granted.union(on_open).contains(needed))
            }
        }
    }

    /// Whether the session has no right at all on a channel whose existence is then a secret.
    pub(super) fn is_secret(&self, scenario: &Scenario, ledger: &Ledger, channel: &str) -> Option<bool> {
        if is_open(channel) {
            return Some(false);
        }
        let all = [Rights::READ, Rights::WRITE, Rights::MANAGE];
        let any = all.map(|right| self.may(scenario, ledger, right, Some(channel)));
        if any.contains(&None) { None } else { Some(!any.contains(&Some(true))) }
    }

    /// Whether the channel certainly exists.
    pub(super) fn exists(&self, scenario: &Scenario, channel: &str) -> bool {
        !scenario.channels_change
            && !scenario.vhosts_change
            && (OPENED.contains(&channel) || !scenario.users_change && self.windows.contains_key(channel))
    }

    /// The `uid`s that its session may have, whatever was not read any more.
    pub fn possible_uids(&self, ledger: &Ledger) -> Vec<String> {
        let asked = self.pending.iter().filter_map(|pending| match pending.request {
            Request::Authenticate(name, _) => Some(Who::User(name)),
            Request::Token(number) => Some(Who::Token(number)),
            _ => None,
        });
        asked.chain([self.identity]).filter_map(|who| who.uid(ledger)).collect()
    }

    /// Whether it speaks WWFP.
    pub(super) fn is_wwfp(&self) -> bool {
        self.dialect == Dialect::Wwfp
    }
}
