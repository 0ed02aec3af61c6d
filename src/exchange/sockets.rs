//! The exchange's sockets, bound and with all their options.

use std::{fmt, io, net::SocketAddr};

use webrocket_wire::SecretKey;
use zmq::{Context, Socket, SocketType};

use super::{entrance::Entrance, monitor::Monitor};

/// Messages of one peer that may wait to be read.
const RECEIVE_MESSAGES_MAX: i32 = 1_000;

/// Messages that may wait for one peer. libzmq hears only of each half of them that they have left, so it
/// is twice what surely finds room: a whole window or the answers to all open requests, and heartbeats.
const SEND_MESSAGES_MAX: i32 = 2_200;

/// Subscriptions of one stream that may wait to be read.
const SUBSCRIPTIONS_MAX: i32 = 64;

/// Memory in the kernel for what one stream sends: subscriptions are short.
const SUBSCRIPTION_BUFFER_BYTES: i32 = 64 * 1024;

/// The longest message of a stream: a topic, or the handshake with its credentials.
const SUBSCRIPTION_BYTES_MAX: i64 = 1_024;

/// How long a peer's handshake may take, in milliseconds.
const HANDSHAKE_MS: i32 = 10_000;

/// How often a silent peer is asked for a sign of life, and how long it has for it, in milliseconds.
const PING_EVERY_MS: i32 = 5_000;
const PING_TIMEOUT_MS: i32 = 10_000;

/// How long what was said last may take to leave at the end, in milliseconds.
const LINGER_MS: i32 = 500;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// How the exchange's sockets ask whom to let in; libzmq fixes the address.
const ZAP: &str = "inproc://zeromq.zap.01";

/// How to run an exchange.
#[derive(Debug, Clone)]
pub struct ExchangeOptions {
    /// Where clients and workers connect. Port 0 lets the system choose.
    pub exchange_addr: SocketAddr,
    /// Where streams connect. Port 0 lets the system choose.
    pub stream_addr: SocketAddr,
    /// The length of one frame, in bytes. A peer that sends a longer one is cut off.
    pub message_bytes_max: u32,
    /// Bytes that a peer may have sent without their being read. A peer over it is cut off.
    pub unread_bytes_max: u32,
    /// The server's secret key. With one, peers speak CURVE and nothing else, without one PLAIN.
    pub secret_key: Option<SecretKey>,
    /// The CPU that the thread stays on, if any.
    pub cpu: Option<usize>,
}

/// The exchange cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Somebody listens there already.
    #[error("cannot listen on {address}: it is in use; stop what listens there or choose another {option}")]
    AddressInUse {
        /// Where.
        address: SocketAddr,
        /// What chooses it.
        option: &'static str,
    },
    /// The system does not let us listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What libzmq says.
        source: zmq::Error,
    },
    /// libzmq has no socket for us, or refuses one of its options.
    #[error("the exchange's sockets cannot be made: {0}")]
    Sockets(#[from] zmq::Error),
    /// The system gives no thread.
    #[error("the exchange's thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// What connections speak until they are let in, and how their frames travel then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// Credentials and frames in the clear.
    Plain,
    /// Each frame in a box of its own.
    Curve,
}

impl Mechanism {
    /// What a frame takes besides its own bytes and its head. A box has a name and a nonce of 8 bytes each,
    /// a seal of 16, and the frame's flags again.
    const fn overhead(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Curve => 8 + 8 + 16 + 1,
        }
    }

    /// The length of a frame on its connection, in bytes.
    pub(super) fn bytes_on_the_wire(self, frame: &[u8]) -> u64 {
        let body = frame.len() as u64 + u64::from(self.overhead());
        let head = if body > u64::from(u8::MAX) { 9 } else { 2 };
        body + head
    }
}

/// The exchange's sockets, listening. Backends' handshakes wait until the thread answers for them.
pub struct Sockets {
    /// Clients and workers.
    pub(super) router: Socket,
    /// Streams.
    pub(super) publisher: Socket,
    /// Where libzmq asks whom to let in.
    pub(super) zap: Socket,
    /// Connections of `router`.
    pub(super) router_monitor: Monitor,
    /// Connections of `publisher`.
    pub(super) publisher_monitor: Monitor,
    pub(super) mechanism: Mechanism,
    exchange_addr: SocketAddr,
    stream_addr: SocketAddr,
}

impl Sockets {
    /// Makes the sockets and binds them.
    ///
    /// # Errors
    /// An address is in use, or libzmq refuses a socket.
    pub fn bind(options: &ExchangeOptions) -> Result<Self, ExchangeError> {
        // One thread for input and output, libzmq's default: `connections` relies on the order of
        // what such a thread reports.
        let context = Context::new();
        let secret_key = options.secret_key.as_ref();
        let mechanism = if secret_key.is_some() { Mechanism::Curve } else { Mechanism::Plain };
        let zap = context.socket(SocketType::REP)?;
        zap.set_linger(0)?;
        zap.bind(ZAP)?;

        let router = context.socket(SocketType::ROUTER)?;
        admit(&router, Entrance::Exchange, secret_key)?;
        router.set_router_mandatory(true)?;
        router.set_rcvhwm(RECEIVE_MESSAGES_MAX)?;
        router.set_sndhwm(SEND_MESSAGES_MAX)?;
        router.set_maxmsgsize(i64::from(options.message_bytes_max) + i64::from(mechanism.overhead()))?;
        router.set_linger(LINGER_MS)?;

        let mut publisher = context.socket(SocketType::XPUB)?;
        admit(&publisher, Entrance::Stream, secret_key)?;
        set(&mut publisher, zmq_sys::ZMQ_XPUB_MANUAL, 1)?;
        set(&mut publisher, zmq_sys::ZMQ_XPUB_NODROP, 1)?;
        publisher.set_rcvhwm(SUBSCRIPTIONS_MAX)?;
        publisher.set_rcvbuf(SUBSCRIPTION_BUFFER_BYTES)?;
        publisher.set_sndhwm(SEND_MESSAGES_MAX)?;
        publisher.set_maxmsgsize(SUBSCRIPTION_BYTES_MAX + i64::from(mechanism.overhead()))?;
        publisher.set_linger(0)?;

        // Monitors first: no connection escapes them.
        let router_monitor = Monitor::new(&context, &router, Entrance::Exchange)?;
        let publisher_monitor = Monitor::new(&context, &publisher, Entrance::Stream)?;
        let exchange_addr = bind(&router, options.exchange_addr, "--exchange-addr")?;
        let stream_addr = bind(&publisher, options.stream_addr, "--stream-addr")?;
        Ok(Self {
            router,
            publisher,
            zap,
            router_monitor,
            publisher_monitor,
            mechanism,
            exchange_addr,
            stream_addr,
        })
    }

    /// Where clients and workers connect.
    #[must_use]
    pub fn exchange_addr(&self) -> SocketAddr {
        self.exchange_addr
    }

    /// Where streams connect.
    #[must_use]
    pub fn stream_addr(&self) -> SocketAddr {
        self.stream_addr
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sockets({}, {})", self.exchange_addr, self.stream_addr)
    }
}

/// Lets libzmq ask about everybody who connects, with one mechanism and nothing else.
fn admit(socket: &Socket, entrance: Entrance, secret_key: Option<&SecretKey>) -> zmq::Result<()> {
    match secret_key {
        Some(key) => {
            socket.set_curve_server(true)?;
            socket.set_curve_secretkey(key.as_bytes())?;
        }
        None => socket.set_plain_server(true)?,
    }
    socket.set_zap_domain(entrance.domain())?;
    socket.set_backlog(BACKLOG)?;
    socket.set_handshake_ivl(HANDSHAKE_MS)?;
    socket.set_heartbeat_ivl(PING_EVERY_MS)?;
    socket.set_heartbeat_timeout(PING_TIMEOUT_MS)?;
    socket.set_tcp_keepalive(1)
}

fn bind(socket: &Socket, address: SocketAddr, option: &'static str) -> Result<SocketAddr, ExchangeError> {
    socket.set_ipv6(address.is_ipv6())?;
    socket.bind(&format!("tcp://{address}")).map_err(|source| match source {
        zmq::Error::EADDRINUSE => ExchangeError::AddressInUse { address, option },
        _ => ExchangeError::Listen { address, source },
    })?;
    let endpoint = socket.get_last_endpoint()?.unwrap_or_default();
    let bound = endpoint.strip_prefix("tcp://").and_then(|text| text.parse().ok());
    Ok(bound.unwrap_or(address))
}

/// Sets an option that the `zmq` crate has no name for.
pub(super) fn set(socket: &mut Socket, option: u32, value: i32) -> zmq::Result<()> {
    let option = i32::try_from(option).expect("options are small numbers");
    // SAFETY: the socket is open, the value is as long as said and copied before the call returns.
    let result = unsafe {
        zmq_sys::zmq_setsockopt(socket.as_mut_ptr(), option, (&raw const value).cast(), size_of_val(&value))
    };
    // SAFETY: takes nothing, reads a number of this thread.
    if result == 0 { Ok(()) } else { Err(zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_takes_room_and_a_long_frame_a_long_head() {
        for (mechanism, bytes, expected) in [
            (Mechanism::Plain, 0, 2),
            (Mechanism::Plain, 255, 2 + 255),
            (Mechanism::Plain, 256, 9 + 256),
            (Mechanism::Curve, 0, 2 + 33),
            (Mechanism::Curve, 222, 2 + 33 + 222),
            (Mechanism::Curve, 223, 9 + 33 + 223),
        ] {
            assert_eq!(mechanism.bytes_on_the_wire(&vec![0; bytes]), expected, "{mechanism:?} {bytes}");
        }
    }
}
