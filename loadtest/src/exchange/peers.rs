//! DEALER sockets of clients and workers.

use std::time::Duration;

use anyhow::Context;

/// How long a socket that is closed may take to send what it has to say.
const LINGER_MS: i32 = 1000;

/// Where an exchange is, and what lets backends in.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// `tcp://host:port`
    pub(crate) address: String,
    /// User name and password, if any are wanted.
    pub(crate) credentials: Option<(String, String)>,
}

/// One backend's connection.
pub(crate) struct Peer {
    socket: zmq::Socket,
}

impl Peer {
    /// Connects.
    pub(crate) fn connect(context: &zmq::Context, endpoint: &Endpoint) -> anyhow::Result<Self> {
        let socket = context.socket(zmq::DEALER).context("cannot make a DEALER socket")?;
        socket.set_linger(LINGER_MS)?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        if let Some((user, password)) = &endpoint.credentials {
            socket.set_plain_username(Some(user))?;
            socket.set_plain_password(Some(password))?;
        }
        let connected = socket.connect(&endpoint.address);
        connected.with_context(|| format!("cannot connect to {}", endpoint.address))?;
        Ok(Self { socket })
    }

    /// Sends a command: the delimiter is put before its frames.
    pub(crate) fn send(&self, frames: &[&[u8]]) -> anyhow::Result<()> {
        self.socket.send("", zmq::SNDMORE)?;
        let (last, others) = frames.split_last().context("a command has frames")?;
        for frame in others {
            self.socket.send(*frame, zmq::SNDMORE)?;
        }
        self.socket.send(*last, 0).context("cannot send to the exchange")
    }

    /// The next message that is there already: its frames after the delimiter, in `frames`.
    pub(crate) fn receive(&self, frames: &mut Vec<zmq::Message>) -> anyhow::Result<bool> {
        frames.clear();
        let mut frame = zmq::Message::new();
        match self.socket.recv(&mut frame, zmq::DONTWAIT) {
            Ok(()) => {}
            Err(zmq::Error::EAGAIN) => return Ok(false),
            Err(error) => return Err(error).context("cannot receive from the exchange"),
        }
        let mut more = frame.get_more();
        while more {
            let frame = self.socket.recv_msg(0).context("a message has broken off")?;
            more = frame.get_more();
            frames.push(frame);
        }
        Ok(true)
    }
}

/// Waits until one of the peers has something to read, `patience` at most.
pub(crate) fn wait(peers: &[Peer], patience: Duration) -> anyhow::Result<()> {
    let mut items: Vec<_> = peers.iter().map(|peer| peer.socket.as_poll_item(zmq::POLLIN)).collect();
    let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    match zmq::poll(&mut items, patience) {
        // A signal is for others to look at.
        Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for the exchange"),
    }
}
