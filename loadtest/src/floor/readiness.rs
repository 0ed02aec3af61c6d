//! The floor by readiness: `epoll_wait(2)`, `recv(2)`, and a `send(2)` for each delivery.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

use super::protocol::{MESSAGE_BYTES_MAX, Output, Protocol, UNSENT_BYTES_MAX};
use crate::epoll::{Epoll, Interest};

/// The token of the listener; connections have their number, which is their descriptor's.
const LISTENER: u64 = u64::MAX;
const SLEEP: Duration = Duration::from_secs(3600);

pub(super) struct Server {
    listener: TcpListener,
    protocol: Protocol,
    connections: Connections,
    buffer: Vec<u8>,
}

/// The connections, by number.
struct Connections {
    epoll: Epoll,
    list: Vec<Option<Connection>>,
}

struct Connection {
    socket: TcpStream,
    /// What the socket did not take, and a message whose rest has not come: both are rare.
    pending: Option<Box<Pending>>,
}

#[derive(Default)]
struct Pending {
    unsent: Vec<u8>,
    unread: Vec<u8>,
}

impl Server {
    /// # Errors
    /// There is no epoll set to be had.
    pub(super) fn new(listener: TcpListener) -> anyhow::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(listener.as_fd(), LISTENER, Interest::Read)?;
        Ok(Self {
            listener,
            protocol: Protocol::default(),
            connections: Connections { epoll, list: Vec::new() },
            buffer: vec![0; MESSAGE_BYTES_MAX],
        })
    }

    /// # Errors
    /// The epoll set fails.
    pub(super) fn serve(&mut self) -> anyhow::Result<()> {
        loop {
            for index in 0..self.connections.epoll.wait(SLEEP)? {
                let ready = self.connections.epoll.ready(index);
                if ready.token == LISTENER {
                    self.accept()?;
                    continue;
                }
                let number = ready.token as u32;
                let served = if ready.writable { self.connections.send_rest(number) } else { Ok(()) };
                let served = if ready.readable { served.and_then(|()| self.read(number)) } else { served };
                if served.is_err() {
                    self.protocol.removed(number);
                    self.connections.list[number as usize] = None;
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The peer has given up meanwhile, or there are too many: the rest waits.
                Err(_) => return Ok(()),
            };
            let number = u32::try_from(socket.as_raw_fd()).expect("descriptors are not negative");
            self.protocol.accepted(number);
            self.connections.add(number, socket)?;
        }
    }

    fn read(&mut self, number: u32) -> anyhow::Result<()> {
        let Some(connection) = &mut self.connections.list[number as usize] else { return Ok(()) };
        let pending = connection.pending.as_mut();
        let unread = pending.map(|pending| std::mem::take(&mut pending.unread)).unwrap_or_default();
        self.buffer[..unread.len()].copy_from_slice(&unread);
        let received = match receive(&connection.socket, &mut self.buffer[unread.len()..]) {
            Ok(0) => anyhow::bail!("the end"),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        let bytes = &mut self.buffer[..unread.len() + received];
        let taken = self.protocol.take(number, bytes, &mut self.connections)?;
        if let (rest @ [_, ..], Some(connection)) =
            (&bytes[taken..], &mut self.connections.list[number as usize])
        {
            connection.pending.get_or_insert_default().unread = rest.to_vec();
        }
        Ok(())
    }
}

impl Connections {
    fn add(&mut self, number: u32, socket: TcpStream) -> io::Result<()> {
        self.epoll.add(socket.as_fd(), number.into(), Interest::Read)?;
        let index = number as usize;
        if self.list.len() <= index {
            self.list.resize_with(index + 1, || None);
        }
        self.list[index] = Some(Connection { socket, pending: None });
        Ok(())
    }

    fn send_to(&mut self, number: u32, bytes: &[u8]) -> io::Result<()> {
        let Some(connection) = &mut self.list[number as usize] else { return Ok(()) };
        let waits = connection.pending.as_ref().is_some_and(|pending| !pending.unsent.is_empty());
        let sent = if waits { 0 } else { send(&connection.socket, bytes)? };
        if sent < bytes.len() {
            let unsent = &mut connection.pending.get_or_insert_default().unsent;
            if unsent.len() + bytes.len() > UNSENT_BYTES_MAX {
                return connection.socket.shutdown(Shutdown::Both);
            }
            unsent.extend_from_slice(&bytes[sent..]);
            self.epoll.change(connection.socket.as_fd(), number.into(), Interest::ReadWrite)?;
        }
        Ok(())
    }

    fn send_rest(&mut self, number: u32) -> anyhow::Result<()> {
        let Some(connection) = &mut self.list[number as usize] else { return Ok(()) };
        let Some(pending) = &mut connection.pending else { return Ok(()) };
        let sent = send(&connection.socket, &pending.unsent)?;
        pending.unsent.drain(..sent);
        if pending.unsent.is_empty() {
            self.epoll.change(connection.socket.as_fd(), number.into(), Interest::Read)?;
        }
        Ok(())
    }
}

impl Output for Connections {
    fn send(&mut self, connections: &[u32], bytes: &[u8]) {
        for number in connections {
            // Who is gone is found out by reading.
            let _ = self.send_to(*number, bytes);
        }
    }
}

/// Receives what is there, without waiting, whatever the socket's mode: so that accepting needs no second call.
fn receive(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let (received, _) = net::recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// Sends as much as the socket takes.
fn send(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) => Ok(sent),
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
