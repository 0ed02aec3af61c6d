//! What a browser asks, whatever its dialect.

use webrocket_wire::Rights;

/// A request. Numbers are the ledger's, which knows what they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Who, and with which secret.
    Authenticate(&'static str, Option<&'static str>),
    /// With a token that was issued.
    Token(usize),
    /// With a token that nobody issued.
    WrongToken,
    /// To a channel.
    Subscribe {
        /// Which one.
        channel: &'static str,
        /// What the session shows of itself, in WWFP.
        tab: Option<usize>,
        /// Whether nobody is to know, in WWFP.
        hidden: bool,
    },
    /// From a channel.
    Unsubscribe {
        /// Which one.
        channel: &'static str,
        /// What is shown of its leaving, in WWFP.
        farewell: Option<usize>,
    },
    /// The broadcast's number.
    Broadcast(usize),
    /// A broadcast that triggers too, by both numbers. WWFP only.
    TriggeringBroadcast {
        /// What is broadcast.
        broadcast: usize,
        /// What is triggered with the same data.
        trigger: usize,
    },
    /// The trigger's number.
    Trigger(usize),
    /// Opens a channel.
    Open(&'static str),
    /// Closes a channel.
    Close(&'static str),
    /// Back to anonymous. Classic only.
    Logout,
    /// An unknown event, whose answer shows where in the order of answers we are.
    Mark(u64),
    /// No message at all.
    Malformed(&'static str),
    /// A request that fails because of what it names.
    Faulty(&'static Fault),
    /// Please close.
    Leave {
        /// What is shown of its leaving, in WWFP.
        farewell: Option<usize>,
    },
}

/// A request that fails because of what it names.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// The message. In WWFP, `@` stands where a `ref` may.
    pub text: &'static str,
    /// The right without which it fails for that reason.
    pub right: Rights,
    /// The error, as the dialect names it.
    pub error: &'static str,
    /// The limit that it hits.
    pub reason: Option<&'static str>,
}

/// What no dialect takes for a message.
pub const MALFORMED: [&str; 7] =
    ["{}", "[]", "", "nonsense", "{\"subscribe\":", "\"subscribe\"", "{\"a\":1}}"];
