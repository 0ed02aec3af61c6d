//! The Client: asks the server for something and waits for its answer.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zmq::Context;

use crate::{
    Error,
    address::Address,
    socket::{Socket, refusal},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const RECEIVE_MAX: i32 = 10;

/// Who is in a presence channel.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Member {
    /// Who.
    pub uid: String,
    /// The data of the join.
    #[serde(flatten)]
    pub data: Map<String, Value>,
}

/// Asks one vhost of a server, one request at a time. Each thread has a client of its own.
///
/// Every request fails with [`Error::Refused`] if the server refuses it, [`Error::Timeout`] if no answer comes in time,
/// and [`Error::ConnectionLost`] if the connection breaks meanwhile. Of the latter two it is unknown whether the request
/// was or will be carried out; it is never repeated by itself. The next request makes a new connection, so a late answer
/// is never taken for another's.
pub struct Client {
    address: Address,
    timeout: Duration,
    // Before its context, which waits for it.
    socket: Option<Socket>,
    context: Context,
}

impl Client {
    /// A client of the vhost at `wr://TOKEN@host:port/vhost`; the port is 9774 by default. Nothing is connected before
    /// the first request.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(Self { address: url.parse()?, timeout: TIMEOUT, socket: None, context: Context::new() })
    }

    /// How long an answer may take; 5 s by default.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Opens a channel; `private-…` and `presence-…` are its kinds. One that is open already stays as it is.
    ///
    /// # Errors
    /// Refused: 451 no valid name, 403 as many channels as the vhost may have. Others as for all requests.
    pub fn open_channel(&mut self, channel: &str) -> Result<(), Error> {
        self.ask(&[b"OC", channel.as_bytes()]).map(|_| ())
    }

    /// Closes a channel; its subscribers are told.
    ///
    /// # Errors
    /// Refused: 454 no such channel. Others as for all requests.
    pub fn close_channel(&mut self, channel: &str) -> Result<(), Error> {
        self.ask(&[b"CC", channel.as_bytes()]).map(|_| ())
    }

    /// Sends an event to all subscribers of a channel.
    ///
    /// # Errors
    /// Refused: 400 no valid event name, 454 no such channel; [`Error::Json`] before anything is sent. Others as for all
    /// requests.
    pub fn broadcast<T: Serialize + ?Sized>(
        &mut self,
        channel: &str,
        event: &str,
        data: &T,
    ) -> Result<(), Error> {
        let data = serde_json::to_vec(data)?;
        self.ask(&[b"BC", channel.as_bytes(), event.as_bytes(), &data]).map(|_| ())
    }

    /// Sends an event to one session, for instance [`crate::Trigger::sid`].
    ///
    /// # Errors
    /// Refused: 400 no valid event name, 404 no such session; [`Error::Json`] before anything is sent. Others as for all
    /// requests.
    pub fn send_message<T: Serialize + ?Sized>(
        &mut self,
        sid: &str,
        event: &str,
        data: &T,
    ) -> Result<(), Error> {
        let data = serde_json::to_vec(data)?;
        self.ask(&[b"DM", sid.as_bytes(), event.as_bytes(), &data]).map(|_| ())
    }

    /// A single access token: lets a browser's session, once, into the channels whose whole name the regular expression
    /// `pattern` matches, as `uid`.
    ///
    /// # Errors
    /// Refused: 400 no valid uid or pattern, 503 too many tokens are unused. Others as for all requests.
    pub fn request_token(&mut self, uid: &str, pattern: &str) -> Result<String, Error> {
        let token = self.ask(&[b"AT", uid.as_bytes(), pattern.as_bytes()])?;
        Ok(String::from_utf8_lossy(&token).into_owned())
    }

    /// Who is in a presence channel; in other channels nobody.
    ///
    /// # Errors
    /// Refused: 454 no such channel. Others as for all requests.
    pub fn members(&mut self, channel: &str) -> Result<Vec<Member>, Error> {
        let list = self.ask(&[b"PR", channel.as_bytes()])?;
        Ok(serde_json::from_slice(&list)?)
    }

    /// The reply's argument, empty if it has none.
    fn ask(&mut self, request: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let answered = self.exchange(request).and_then(|mut reply| match &*reply[0] {
            b"ER" => Err(refusal(&reply)),
            _ => Ok(if reply.len() > 1 { reply.swap_remove(1) } else { Vec::new() }),
        });
        // Whoever missed an answer must not get it later, and a token that is refused needs another handshake.
        let is_settled =
            answered.as_ref().map_or_else(|error| !matches!(error.code(), None | Some(402)), |_| true);
        if !is_settled {
            self.socket = None;
        }
        answered
    }

    fn exchange(&mut self, request: &[&[u8]]) -> Result<Vec<Vec<u8>>, Error> {
        let deadline = Instant::now() + self.timeout;
        if self.socket.as_ref().is_some_and(|socket| socket.check().is_err()) {
            self.socket = None;
        }
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::connect(&self.context, &self.address, RECEIVE_MAX)?,
        };
        let socket = self.socket.insert(socket);
        socket.send(request)?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout(self.timeout));
            }
            // Rounded up, so as not to spin for the last fraction.
            socket.wait(true, None, i64::try_from(left.as_millis()).unwrap_or(i64::MAX - 1) + 1)?;
            if let Some(reply) = socket.receive()? {
                return Ok(reply);
            }
            socket.check()?;
        }
    }
}
