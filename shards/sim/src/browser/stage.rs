//! How far a browser has come, and the ways in which it leaves.

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Open,
    Leaving(Ending),
    /// The server has closed; what is left is to read to the end.
    Closed,
    Ended,
}

/// How a browser leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a close frame; `None`: without a code.
    Orderly(Option<u16>),
    /// With the request `disconnect` or `close`.
    Asked,
    /// The connection is reset.
    Reset,
    /// Without a word: the cable is cut.
    Silent,
    /// It sends no more, but goes on reading.
    HalfClosed,
    /// It breaks the protocol, and is to be closed with this code.
    Offence(u16),
}

/// All ways to leave.
pub(super) const ENDINGS: [Ending; 10] = [
    Ending::Orderly(Some(1000)),
    Ending::Orderly(None),
    Ending::Asked,
    Ending::Reset,
    Ending::Silent,
    Ending::HalfClosed,
    Ending::Offence(1002),
    Ending::Offence(1003),
    Ending::Offence(1007),
    Ending::Offence(1009),
];
