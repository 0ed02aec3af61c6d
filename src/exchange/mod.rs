//! The exchange's thread: everything that backends send and receive over ZeroMQ.
//!
//! One thread owns all ZeroMQ sockets: a ROUTER for clients and workers, an XPUB for streams, the socket
//! that libzmq asks whom to let in, and a monitor of each of the first two. It runs an
//! [`Exchange`](webrocket_state::Exchange), which decides everything; this module receives, sends, and
//! tells it who is gone.
//!
//! | module | owns |
//! | --- | --- |
//! | `start` | the thread, and what it is given |
//! | `thread` | a turn: what happens between two sleeps, and the bounds on it |
//! | `entrance` | which of the two sockets a connection is for |
//! | `sockets` | the sockets, bound, with all their options |
//! | `zap` | who is let in |
//! | `curve` | the server's key pair |
//! | `monitor`, `connections` | which connections stand, each known by its descriptor and its number |
//! | `peers` | clients and workers: which connection a name belongs to, what it sends and is sent |
//! | `streams` | who subscribes what, and copies for them |
//! | `tcp` | what the kernel tells of a connection, and how one is cut |
//!
//! Invariants: a turn never blocks. Whom a message comes from is what its connection was let in as
//! (`User-Id`), never what a frame or a routing id claims. A descriptor that libzmq names is used only
//! once the monitor has been drained, so that it is never another connection's.
//!
//! What libzmq cannot bound, the thread does: bytes of messages that are not complete, bytes that wait
//! for a peer, topics of one stream, and connections where descriptors run short.

mod connections;
mod curve;
mod entrance;
mod monitor;
mod peers;
mod sockets;
mod start;
mod streams;
mod tcp;
mod thread;
mod zap;

pub use curve::{KeyPair, KeyPairError};
pub use sockets::{ExchangeError, ExchangeOptions, Sockets};
pub use start::{Started, start};
