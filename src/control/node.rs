//! What a node says of itself to operators.

use std::net::SocketAddr;

use serde::Serialize;

/// What a node says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// The version of WebRocket that it runs.
    pub version: String,
    /// How many shards it has.
    pub shards: u16,
    /// How shards do their I/O, `uring` or `epoll`.
    pub io: String,
    /// Where it listens.
    pub addresses: Addresses,
    /// The public key by which ZeroMQ backends know it, in Z85, if they are to speak CURVE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curve_public_key: Option<String>,
}

/// Where a node listens.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    /// WebSocket, and HTTP for everybody.
    pub websocket: SocketAddr,
    /// The control API.
    pub control: SocketAddr,
    /// Clients and workers over ZeroMQ.
    pub exchange: SocketAddr,
    /// Streams over ZeroMQ.
    pub stream: SocketAddr,
}
