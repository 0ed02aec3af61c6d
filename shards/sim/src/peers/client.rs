//! A client over ZeroMQ: asks without waiting, and knows what it may be answered.

use std::collections::VecDeque;

use super::Surroundings;
use crate::{
    oracles::{FIRST_CLIENT, Fate, Guarantee},
    scenario::{CHANNELS, CLIENT_OPEN_MAX, OPENED},
    time::Micros,
    workload,
};

/// What it asked.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// By its number.
    Broadcast(usize),
    OpenChannel,
    /// Whether it may exist.
    CloseChannel(bool),
    /// The token that it must be.
    Token(String),
    /// To a session that nobody has.
    Message,
    /// Of a channel on which nobody can be present.
    Present,
    Nonsense,
}

/// What it waits for.
#[derive(Debug, Default)]
pub(super) struct Client {
    asked: VecDeque<Asked>,
    /// It was told that its access is over.
    is_locked_out: bool,
}

/// The token that the control thread issues for this `uid`.
#[must_use]
pub fn token_for(uid: &str) -> [u8; 64] {
    let number: u64 = uid.parse().unwrap_or(0);
    std::array::from_fn(|index| (number >> (index % 8 * 8)) as u8)
}

impl Client {
    pub(super) fn is_quiet(&self) -> bool {
        self.asked.is_empty()
    }

    /// One turn: whether it stays connected, and when it wants the next.
    pub(super) fn turn(
        &mut self,
        around: &mut Surroundings<'_>,
        wire: usize,
        vhost: usize,
    ) -> (bool, Micros) {
        let now = around.net.now;
        while let Some(reply) = around.hear(wire) {
            self.hear(around, wire, &reply);
        }
        if !around.is_loading {
            return (true, now + 500_000);
        }
        let is_over = self.is_locked_out && self.asked.is_empty();
        if is_over || around.chance.permille(10) {
            return (false, now + around.chance.between(1, 50_000));
        }
        let burst = around.chance.small(12);
        for _ in 0..burst {
            if self.asked.len() < CLIENT_OPEN_MAX {
                self.ask(around, wire, vhost);
            }
        }
        (true, now + around.chance.between(100, 30_000))
    }

    fn ask(&mut self, around: &mut Surroundings<'_>, wire: usize, vhost: usize) {
        let asked = match around.chance.between(0, 19) {
            0..13 => {
                let channel = *around.chance.pick(&CHANNELS);
                let content = workload::content(around.chance, around.scenario);
                let place = (vhost, channel);
                let number = around.ledger.compose(around.net.now, FIRST_CLIENT + wire, place, content);
                let (_, data) = around.ledger.content(number);
                around.say(wire, &["BC", channel, "ev", &data]);
                Asked::Broadcast(number)
            }
            13 | 14 => {
                let channel = *around.chance.pick(&OPENED);
                around.say(wire, &["OC", channel]);
                Asked::OpenChannel
            }
            15 => {
                let exists = around.scenario.channels_change;
                let channel = if exists { *around.chance.pick(&CHANNELS) } else { "never" };
                around.say(wire, &["CC", channel]);
                Asked::CloseChannel(exists)
            }
            16 => {
                let uid = around.chance.between(0, 1 << 40).to_string();
                around.say(wire, &["AT", &uid, ".*"]);
                let digits = token_for(&uid).map(|byte| format!("{byte:02x}"));
                Asked::Token(digits.concat())
            }
            17 => {
                around.say(wire, &["DM", "00000000-0000-4000-8000-000000000000", "dm", "{}"]);
                Asked::Message
            }
            18 => {
                around.say(wire, &["PR", "alpha"]);
                Asked::Present
            }
            _ => {
                around.say(wire, &["BC", "alpha", "ev", "{"]);
                Asked::Nonsense
            }
        };
        self.asked.push_back(asked);
    }

    fn hear(&mut self, around: &mut Surroundings<'_>, wire: usize, reply: &[String]) {
        let now = around.net.now;
        let words: Vec<&str> = reply.iter().map(String::as_str).collect();
        if words == ["QT"] {
            return;
        }
        let asked = self.asked.pop_front();
        let changes = around.scenario.takes_away();
        let fits = match (&asked, &words[..]) {
            (Some(_), ["ER", "402", _]) => {
                self.is_locked_out = true;
                true
            }
            (Some(Asked::Broadcast(_) | Asked::OpenChannel), ["OK"])
            | (Some(Asked::OpenChannel), ["ER", "403", _])
            | (Some(Asked::CloseChannel(_)), ["ER", "454", _])
            | (Some(Asked::Message), ["ER", "404", _])
            | (Some(Asked::Present), ["PR", "[]"])
            | (Some(Asked::Nonsense), ["ER", "400", _]) => true,
            (Some(Asked::Broadcast(number)), ["ER", "454", _]) => {
                let (_, channel) = around.ledger.broadcasts[*number].place;
                changes || !OPENED.contains(&channel)
            }
            (Some(Asked::CloseChannel(exists)), ["OK"]) => *exists,
            (Some(Asked::Token(digits)), ["AT", token]) => token == digits,
            (Some(Asked::Present), ["ER", "454", _]) => changes,
            _ => false,
        };
        around.ledger.check(now, Guarantee::AClientsAnswersAreInOrder, || {
            (!fits).then(|| format!("client on wire {wire}: {words:?} to {asked:?}"))
        });
        around.ledger.client_answers += 1;
        if let Some(Asked::Broadcast(number)) = asked {
            around.ledger.broadcasts[number].fate =
                if words == ["OK"] { Fate::Acknowledged(now) } else { Fate::Refused };
        }
    }
}
