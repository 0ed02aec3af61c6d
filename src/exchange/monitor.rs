//! What libzmq tells of a socket's connections.

use std::os::fd::RawFd;

use zmq::{Context, DONTWAIT, Message, Socket, SocketEvent, SocketType};

use super::entrance::Entrance;

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionEvent {
    /// There is one with this descriptor now, which nobody let in yet.
    Accepted(RawFd),
    /// The one with this descriptor is over; the descriptor is closed after this was said.
    Ended(RawFd),
}

/// Hears of a socket's connections, in the order in which things happened.
pub(super) struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Listens to `socket`, which must not be bound yet.
    pub(super) fn new(context: &Context, socket: &Socket, entrance: Entrance) -> zmq::Result<Self> {
        let endpoint = format!("inproc://monitor.{}", entrance.domain());
        let events = [SocketEvent::ACCEPTED, SocketEvent::DISCONNECTED];
        let events = events.into_iter().fold(0, |events, event| events | i32::from(event.to_raw()));
        socket.monitor(&endpoint, events)?;
        let monitor = context.socket(SocketType::PAIR)?;
        // Unbounded, or libzmq's thread would wait for us; it is drained before anybody is let in.
        monitor.set_rcvhwm(0)?;
        monitor.set_linger(0)?;
        monitor.connect(&endpoint)?;
        Ok(Self { socket: monitor })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The next event, if there is one.
    pub(super) fn next_event(&self) -> Option<ConnectionEvent> {
        let mut frame = Message::new();
        loop {
            self.socket.recv(&mut frame, DONTWAIT).ok()?;
            let event = parse(&frame);
            while frame.get_more() {
                self.socket.recv(&mut frame, DONTWAIT).ok()?;
            }
            if event.is_some() {
                return event;
            }
        }
    }
}

/// The first frame of an event: a number of 16 bits, then a value of 32.
fn parse(frame: &[u8]) -> Option<ConnectionEvent> {
    let (event, value) = frame.split_first_chunk::<2>()?;
    let fd = RawFd::from_ne_bytes(value.try_into().ok()?);
    match SocketEvent::from_raw(u16::from_ne_bytes(*event)) {
        SocketEvent::ACCEPTED => Some(ConnectionEvent::Accepted(fd)),
        SocketEvent::DISCONNECTED => Some(ConnectionEvent::Ended(fd)),
        _ => None,
    }
}
