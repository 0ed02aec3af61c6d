//! WebRocket: a broker between browsers and the applications behind them.
//!
//! This is the library that `webrocket-server` is made of. A program embeds a node by making a
//! [`Config`](config::Config) and starting a [`Server`](server::Server):
//!
//! ```no_run
//! use webrocket::{config::Config, server::Server};
//!
//! # fn main() -> Result<(), webrocket::server::ServerError> {
//! let server = Server::start(&Config { dev: true, ..Config::default() })?;
//! println!("open http://{}/ in two browser tabs", server.websocket_addr());
//! // … until it is time to go: sessions are closed with 1012.
//! server.stop();
//! server.join()
//! # }
//! ```
//!
//! A node starts threads of its own: one for each shard, one and libzmq's for backends over ZeroMQ, one for
//! everything else. It installs no
//! signal handler, no logger (it speaks to [`tracing`]) and no allocator; the binaries use mimalloc.
//!
//! What shards decide lives apart, in `webrocket_state`, and what stands on the wire in
//! `webrocket_wire`. [`driver`] runs any [`Machine`](webrocket_state::Machine): the example `echo`
//! is a WebSocket server of another kind on the same connections.

pub mod config;
pub mod control;
pub mod ctl;
pub mod driver;
pub mod exchange;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod metrics;
pub mod sentence;
pub mod server;
pub mod store;
