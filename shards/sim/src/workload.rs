//! What browsers and the backend want next.

use crate::{
    chance::Chance,
    request::{MALFORMED, Request},
    scenario::{CHANNELS, Scenario, USERS},
    theme::Theme,
};

/// The shape of a broadcast's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An object.
    Object,
    /// An object that claims to be from somebody else.
    Forged,
    /// A number.
    Scalar,
}

/// What a browser wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A request.
    Ask(Request),
    /// To authenticate with some token.
    Token,
    /// To subscribe a channel.
    Subscribe(&'static str),
    /// To unsubscribe a channel.
    Unsubscribe(&'static str),
    /// A request that fails because of what it names.
    Fail,
    /// A broadcast to a channel.
    Broadcast(&'static str, (Shape, usize)),
    /// A trigger.
    Trigger,
    /// A ping.
    Ping,
}

/// A browser's next wish. `own`: the channels that it subscribes. `settled`: it has asked for
/// what it needs already. `resident`: that is enough for it.
#[must_use]
pub fn wish(
    chance: &mut Chance,
    scenario: &Scenario,
    anonymous: bool,
    own: &[&'static str],
    settled: bool,
    resident: bool,
) -> Wish {
    if anonymous && chance.percent(50) {
        return authenticate(chance);
    }
    if chance.percent(scenario.trigger_percent) {
        return Wish::Trigger;
    }
    let favourites: &[&'static str] = match scenario.theme {
        Theme::Churn => &["presence-a", "presence-b"],
        Theme::Storm => &["alpha", "beta", "gamma", "presence-a"],
        Theme::Calm | Theme::Chaos | Theme::Crowd | Theme::Work => &CHANNELS,
    };
    let channel =
        if scenario.theme == Theme::Crowd && chance.percent(70) { "alpha" } else { *chance.pick(favourites) };
    // A request that must wait for the answers before it would end every burst.
    if settled && (resident || chance.permille(scenario.steady_permille)) {
        let channel = *chance.pick(if own.is_empty() { favourites } else { own });
        return broadcast(chance, scenario, channel);
    }
    // Broadcast, subscribe, unsubscribe, authenticate, log out, the rest.
    let weights = match scenario.theme {
        _ if !settled => [10, 70, 0, 15, 0, 5],
        Theme::Calm | Theme::Storm | Theme::Work => [80, 8, 2, 1, 0, 9],
        Theme::Chaos => [56, 14, 8, 2, 1, 19],
        Theme::Churn => [8, 40, 40, 2, 0, 10],
        Theme::Crowd => [5, 60, 3, 3, 2, 27],
    };
    let mut lot = chance.between(0, 99);
    let kind = weights.iter().position(|weight| {
        let hit = lot < *weight;
        lot = lot.saturating_sub(*weight);
        hit
    });
    match kind {
        Some(0) if !own.is_empty() && chance.percent(75) => {
            let channel = *chance.pick(own);
            broadcast(chance, scenario, channel)
        }
        Some(0) => broadcast(chance, scenario, channel),
        Some(1) => Wish::Subscribe(channel),
        Some(2) => Wish::Unsubscribe(channel),
        Some(3) => authenticate(chance),
        Some(4) => Wish::Ask(Request::Logout),
        _ => odd(chance, scenario, channel),
    }
}

/// A broadcast to a channel.
fn broadcast(chance: &mut Chance, scenario: &Scenario, channel: &'static str) -> Wish {
    Wish::Broadcast(channel, content(chance, scenario))
}

/// The shape of a broadcast's data, and by how many bytes they are padded.
pub fn content(chance: &mut Chance, scenario: &Scenario) -> (Shape, usize) {
    let shape = *chance.pick(&[Shape::Object, Shape::Object, Shape::Object, Shape::Forged, Shape::Scalar]);
    (shape, usize::try_from(chance.small(scenario.pad_max)).expect("small"))
}

fn authenticate(chance: &mut Chance) -> Wish {
    Wish::Ask(match chance.between(0, 25) {
        0 => Request::Authenticate("ghost", None),
        1 => Request::Authenticate("boss", Some("wrong")),
        2 => Request::Authenticate("boss", None),
        3 => Request::Authenticate("no name", None),
        4 => Request::WrongToken,
        5..9 => Request::Authenticate("boss", Some("b-secret")),
        9..17 => return Wish::Token,
        _ => {
            let user = chance.pick(&USERS);
            Request::Authenticate(user.name, user.secret)
        }
    })
}

fn odd(chance: &mut Chance, scenario: &Scenario, channel: &'static str) -> Wish {
    match chance.between(0, 9) {
        0 => Wish::Trigger,
        1 => Wish::Ask(Request::Open(channel)),
        2 if scenario.channels_change => Wish::Ask(Request::Close(channel)),
        2 => Wish::Ask(Request::Close("never")),
        3 | 4 => Wish::Ask(Request::Malformed(chance.pick::<&'static str>(&MALFORMED))),
        5 => Wish::Fail,
        6 => Wish::Ping,
        _ => Wish::Ask(Request::Mark(chance.between(0, 1 << 40))),
    }
}
