//! A DEALER socket to the exchange, and what happens to its connection.

use std::{
    net::ToSocketAddrs,
    os::fd::{AsRawFd, RawFd},
};

use zmq::{Context, DEALER, DONTWAIT, PAIR, POLLIN, PollItem, SocketEvent};

use crate::{Error, address::Address};

/// ZAP's word for wrong credentials; 300 and 500 are troubles that pass.
const REFUSED: u32 = 400;
/// Where libzmq begins and ends with its own attempts to connect, in milliseconds.
const RECONNECT_MS: (i32, i32) = (100, 1000);

/// One socket for one connection: when that is over, a new socket takes its place.
///
/// A message is a list of frames without the delimiter.
pub(crate) struct Socket {
    // Dropped in this order: the monitor's events must have somewhere to go while it lives.
    dealer: zmq::Socket,
    monitor: zmq::Socket,
}

impl Socket {
    /// Begins to connect. Of messages that arrive at most `receive_max` wait to be received.
    pub(crate) fn connect(context: &Context, address: &Address, receive_max: i32) -> Result<Self, Error> {
        let dealer = context.socket(DEALER)?;
        dealer.set_linger(0)?;
        dealer.set_ipv6(needs_ipv6(address))?;
        dealer.set_rcvhwm(receive_max)?;
        dealer.set_reconnect_ivl(RECONNECT_MS.0)?;
        dealer.set_reconnect_ivl_max(RECONNECT_MS.1)?;
        dealer.set_plain_username(Some(&address.vhost))?;
        dealer.set_plain_password(Some(&address.token))?;
        // The dealer's descriptor makes the name one of its own in this context.
        let endpoint = format!("inproc://monitor-{}", dealer.as_raw_fd());
        let events = SocketEvent::DISCONNECTED.to_raw() | SocketEvent::HANDSHAKE_FAILED_AUTH.to_raw();
        dealer.monitor(&endpoint, events.into())?;
        let monitor = context.socket(PAIR)?;
        monitor.set_linger(0)?;
        monitor.connect(&endpoint)?;
        dealer.connect(&format!("tcp://{}", address.authority))?;
        Ok(Self { dealer, monitor })
    }

    /// Queues a message.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`] if the queue is full: nothing has been taken for long.
    pub(crate) fn send(&self, frames: &[&[u8]]) -> Result<(), Error> {
        let message = std::iter::once(&b""[..]).chain(frames.iter().copied());
        match self.dealer.send_multipart(message, DONTWAIT) {
            Err(zmq::Error::EAGAIN) => Err(Error::ConnectionLost("the server takes nothing")),
            sent => Ok(sent?),
        }
    }

    /// The next message, `None` if there is none now.
    pub(crate) fn receive(&self) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let mut frames = match self.dealer.recv_multipart(DONTWAIT) {
            Err(zmq::Error::EAGAIN) => return Ok(None),
            received => received?,
        };
        if frames.len() < 2 || !frames[0].is_empty() {
            return Err(Error::ConnectionLost("the server does not speak WBP"));
        }
        frames.remove(0);
        Ok(Some(frames))
    }

    /// Looks at what has happened to the connection.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`] if it broke, [`Error::Refused`] with 402 if it was not let in.
    pub(crate) fn check(&self) -> Result<(), Error> {
        loop {
            let frames = match self.monitor.recv_multipart(DONTWAIT) {
                Err(zmq::Error::EAGAIN) => return Ok(()),
                received => received?,
            };
            // Two bytes say what happened, four more what about it.
            let Some([a, b, value @ ..]) = frames.first().map(Vec::as_slice) else { continue };
            let value = value.try_into().map_or(0, u32::from_ne_bytes);
            match SocketEvent::from_raw(u16::from_ne_bytes([*a, *b])) {
                SocketEvent::DISCONNECTED => return Err(Error::ConnectionLost("the server has closed it")),
                SocketEvent::HANDSHAKE_FAILED_AUTH if value == REFUSED => return Err(Error::unauthorized()),
                _ => {}
            }
        }
    }

    /// Waits for a message if `is_receiving`, news of the connection, or `other` to be readable, at most `timeout_ms`.
    pub(crate) fn wait(
        &self,
        is_receiving: bool,
        other: Option<RawFd>,
        timeout_ms: i64,
    ) -> Result<(), Error> {
        let mut items = vec![self.monitor.as_poll_item(POLLIN)];
        items.extend(is_receiving.then(|| self.dealer.as_poll_item(POLLIN)));
        items.extend(other.map(|fd| PollItem::from_fd(fd, POLLIN)));
        match zmq::poll(&mut items, timeout_ms) {
            Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets what is queued still go out for so long once this is dropped, while its context lives.
    pub(crate) fn linger(&self, milliseconds: i32) -> Result<(), Error> {
        Ok(self.dealer.set_linger(milliseconds)?)
    }
}

/// Whether the host has no IPv4 address. libzmq tries one address only, and of `localhost` it would be `::1`, where
/// servers rarely listen.
fn needs_ipv6(address: &Address) -> bool {
    // What cannot be found now, libzmq will ask for again.
    address.authority.to_socket_addrs().is_ok_and(|mut found| found.all(|found| found.is_ipv6()))
}

/// The error in an `ER` code status.
pub(crate) fn refusal(frames: &[Vec<u8>]) -> Error {
    let text = |index: usize| frames.get(index).map(|frame| String::from_utf8_lossy(frame).into_owned());
    let code = text(1).and_then(|code| code.parse().ok()).unwrap_or(597);
    Error::Refused { code, status: text(2).unwrap_or_default() }
}
