//! The floor: what fan-out costs when nothing is done but the system calls.
//!
//! A server for the bare dialect in one thread: a broadcast is encoded once and sent to one subscriber after the
//! other by `send(2)`, at once. No limits, no rights, no order but that of arrival, no answers but to subscriptions.
//! It is a measure, not a broker: nothing can deliver a message to a thousand sockets for less, unless it sends
//! several messages at a time.
//!
//! Source: RFC 6455, sections 4.2.2 and 5; the bare protocol is in [`dialect`](crate::dialect).

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::handshake::derive_accept_key;

use crate::epoll::{Epoll, Interest};

/// The token of the listener; connections have their descriptor's number.
const LISTENER: u64 = u64::MAX;
const READY_MAX: usize = 1024;
const BACKLOG: i32 = 4096;
const RECEIVE_BYTES: usize = 256 * 1024;
const HEADERS_MAX: usize = 32;
const SLEEP: Duration = Duration::from_secs(3600);

/// The floor of a fan-out, as a server: comparisons start it themselves.
///
/// One thread that sends an encoded frame to each subscriber by send(2), and does nothing else that a broker does.
/// It speaks the bare dialect: the text message `S<channel>` subscribes, `P<channel> <data>` sends `<data>` to
/// all subscribers. Prints where it listens, and runs until it is killed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Serves until the listener fails.
///
/// # Errors
/// It cannot listen, or the epoll set fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let socket = Socket::new(Domain::for_address(options.listen), Type::STREAM, Some(Protocol::TCP))?;
    // Those that are accepted inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&options.listen.into()).with_context(|| format!("cannot listen at {}", options.listen))?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    println!("ws://{}/", listener.local_addr()?);
    io::stdout().flush()?;
    Floor::new(listener)?.serve()
}

/// A connection.
struct Peer {
    socket: TcpStream,
    /// The channel's number, and where in its list the connection stands.
    subscription: Option<(u32, u32)>,
    is_open: bool,
    /// What the socket did not take, and a message whose rest has not come: both are rare.
    pending: Option<Box<Pending>>,
}

#[derive(Default)]
struct Pending {
    unsent: Vec<u8>,
    unread: Vec<u8>,
}

struct Floor {
    epoll: Epoll,
    listener: TcpListener,
    /// By descriptor.
    peers: Vec<Option<Peer>>,
    /// The numbers of channels by name, and their subscribers' descriptors.
    numbers: HashMap<Vec<u8>, u32>,
    channels: Vec<Vec<u32>>,
    buffer: Vec<u8>,
    frame: Vec<u8>,
}

impl Floor {
    fn new(listener: TcpListener) -> anyhow::Result<Self> {
        let epoll = Epoll::new(READY_MAX)?;
        epoll.add(listener.as_fd(), LISTENER, Interest::Read)?;
        Ok(Self {
            epoll,
            listener,
            peers: Vec::new(),
            numbers: HashMap::new(),
            channels: Vec::new(),
            buffer: vec![0; RECEIVE_BYTES],
            frame: Vec::new(),
        })
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        loop {
            for index in 0..self.epoll.wait(SLEEP)? {
                let ready = self.epoll.ready(index);
                if ready.token == LISTENER {
                    self.accept()?;
                    continue;
                }
                let fd = ready.token as usize;
                let served = if ready.writable { self.send_rest(fd) } else { Ok(()) };
                let served = if ready.readable { served.and_then(|()| self.read(fd)) } else { served };
                if served.is_err() {
                    self.remove(fd);
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
            let fd = usize::try_from(socket.as_raw_fd()).expect("descriptors are not negative");
            self.epoll.add(socket.as_fd(), fd as u64, Interest::Read)?;
            if self.peers.len() <= fd {
                self.peers.resize_with(fd + 1, || None);
            }
            self.peers[fd] = Some(Peer { socket, subscription: None, is_open: false, pending: None });
        }
    }

    fn read(&mut self, fd: usize) -> anyhow::Result<()> {
        let Some(peer) = &mut self.peers[fd] else { return Ok(()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let unread =
            peer.pending.as_mut().map(|pending| std::mem::take(&mut pending.unread)).unwrap_or_default();
        buffer[..unread.len()].copy_from_slice(&unread);
        let received = receive(&peer.socket, &mut buffer[unread.len()..]);
        let outcome = match received {
            Ok(0) => Err(anyhow::anyhow!("the end")),
            Ok(count) => self.take(fd, &mut buffer[..unread.len() + count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        };
        self.buffer = buffer;
        outcome
    }

    /// Acts upon what a connection has sent.
    fn take(&mut self, fd: usize, mut bytes: &mut [u8]) -> anyhow::Result<()> {
        if !self.peers[fd].as_ref().is_some_and(|peer| peer.is_open) {
            let Some(head) = self.open(fd, bytes)? else { return self.keep(fd, bytes) };
            bytes = &mut bytes[head..];
        }
        while let Some((payload, used)) = unmask(bytes)? {
            self.message(fd, &bytes[payload])?;
            bytes = &mut bytes[used..];
        }
        self.keep(fd, bytes)
    }

    fn keep(&mut self, fd: usize, rest: &[u8]) -> anyhow::Result<()> {
        if let (Some(peer), false) = (&mut self.peers[fd], rest.is_empty()) {
            peer.pending.get_or_insert_default().unread = rest.to_vec();
        }
        Ok(())
    }

    /// Answers the handshake that `bytes` begin with. Returns its length, once it is complete.
    fn open(&mut self, fd: usize, bytes: &[u8]) -> anyhow::Result<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(length) = request.parse(bytes)? else { return Ok(None) };
        let key = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Key"));
        let accept = derive_accept_key(key.context("no upgrade")?.value);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        if let Some(peer) = &mut self.peers[fd] {
            peer.is_open = true;
        }
        self.send(fd, answer.as_bytes())?;
        Ok(Some(length))
    }

    fn message(&mut self, fd: usize, message: &[u8]) -> anyhow::Result<()> {
        match message.split_first() {
            Some((b'S', channel)) => self.subscribe(fd, channel),
            Some((b'P', rest)) => {
                let Some(space) = rest.iter().position(|byte| *byte == b' ') else { bail!("no data") };
                self.publish(&rest[..space], &rest[space + 1..]);
                Ok(())
            }
            // A close frame ends the connection, anything else is none of the dialect.
            _ => bail!("the end"),
        }
    }

    fn subscribe(&mut self, fd: usize, channel: &[u8]) -> anyhow::Result<()> {
        let number = match self.numbers.get(channel) {
            Some(number) => *number,
            None => {
                self.numbers.insert(channel.to_vec(), self.channels.len() as u32);
                self.channels.push(Vec::new());
                self.channels.len() as u32 - 1
            }
        };
        let list = &mut self.channels[number as usize];
        if let Some(peer) = self.peers[fd].as_mut().filter(|peer| peer.subscription.is_none()) {
            peer.subscription = Some((number, list.len() as u32));
            list.push(fd as u32);
        }
        let mut answer = std::mem::take(&mut self.frame);
        frame(&mut answer, &[b"subscribed ", channel]);
        let sent = self.send(fd, &answer);
        self.frame = answer;
        sent
    }

    fn publish(&mut self, channel: &[u8], data: &[u8]) {
        let Some(number) = self.numbers.get(channel) else { return };
        let number = *number as usize;
        let mut bytes = std::mem::take(&mut self.frame);
        frame(&mut bytes, &[data]);
        for index in 0..self.channels[number].len() {
            let fd = self.channels[number][index] as usize;
            // Who is gone is found out by reading.
            let _ = self.send(fd, &bytes);
        }
        self.frame = bytes;
    }

    fn send(&mut self, fd: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(peer) = &mut self.peers[fd] else { return Ok(()) };
        let waits = peer.pending.as_ref().is_some_and(|pending| !pending.unsent.is_empty());
        let sent = if waits { 0 } else { send(&peer.socket, bytes)? };
        if sent < bytes.len() {
            peer.pending.get_or_insert_default().unsent.extend_from_slice(&bytes[sent..]);
            self.epoll.change(peer.socket.as_fd(), fd as u64, Interest::ReadWrite)?;
        }
        Ok(())
    }

    fn send_rest(&mut self, fd: usize) -> anyhow::Result<()> {
        let Some(peer) = &mut self.peers[fd] else { return Ok(()) };
        let Some(pending) = &mut peer.pending else { return Ok(()) };
        let sent = send(&peer.socket, &pending.unsent)?;
        pending.unsent.drain(..sent);
        if pending.unsent.is_empty() {
            self.epoll.change(peer.socket.as_fd(), fd as u64, Interest::Read)?;
        }
        Ok(())
    }

    fn remove(&mut self, fd: usize) {
        let Some(Peer { subscription: Some((channel, at)), .. }) = self.peers[fd].take() else { return };
        let list = &mut self.channels[channel as usize];
        list.swap_remove(at as usize);
        if let Some(moved) = list.get(at as usize)
            && let Some(peer) = &mut self.peers[*moved as usize]
        {
            peer.subscription = Some((channel, at));
        }
    }
}

/// Receives what is there, without waiting, whatever the socket's mode: so that accepting needs no second call.
fn receive(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live and as long as said.
    let received = unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Sends as much as the socket takes.
fn send(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the bytes are live and as many as said.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            error => Err(error),
        },
    }
}

/// Encodes one unmasked text frame in place of what `out` holds.
fn frame(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    out.clear();
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    out.push(0x81);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

/// Unmasks the frame that `bytes` begin with, in place. Returns where its payload stands, and its length in all;
/// `None` when it is not complete yet.
fn unmask(bytes: &mut [u8]) -> anyhow::Result<Option<(std::ops::Range<usize>, usize)>> {
    let [_, second, rest @ ..] = &*bytes else { return Ok(None) };
    if second & 0x80 == 0 {
        bail!("a client's frame is masked");
    }
    let (length, mask) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (usize::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (usize::try_from(u64::from_be_bytes(*length))?, 10),
            None => return Ok(None),
        },
        length => (usize::from(length), 2),
    };
    let Some(end) = length.checked_add(mask + 4).filter(|end| *end <= RECEIVE_BYTES) else {
        bail!("a frame is too long");
    };
    let Some(whole) = bytes.get_mut(..end) else { return Ok(None) };
    let (head, payload) = whole.split_at_mut(mask + 4);
    let key = &head[mask..];
    payload.iter_mut().enumerate().for_each(|(index, byte)| *byte ^= key[index % 4]);
    Ok(Some((mask + 4..end, end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{self, Frame, Opcode};

    #[test]
    fn frames_are_read_by_the_load_test_and_back() {
        for length in [0, 5, 125, 126, 0xffff, 0x1_0000] {
            let payload = vec![b'x'; length];
            let mut bytes = Vec::new();
            frame(&mut bytes, &[&payload]);
            assert_eq!(frames::decode(&bytes), Ok(Some((Frame::Text(&payload), bytes.len()))));

            bytes.clear();
            frames::encode(&mut bytes, Opcode::Text, [1, 2, 3, 4], &payload);
            assert_eq!(unmask(&mut bytes[..1]).expect("valid"), None);
            let end = bytes.len();
            let (range, used) = unmask(&mut bytes).expect("valid").expect("complete");
            assert_eq!((&bytes[range], used), (&payload[..], end));
        }
    }

    #[test]
    fn what_is_no_clients_frame_is_refused() {
        assert!(unmask(&mut [0x81, 0x01, b'x']).is_err(), "not masked");
        let mut long = [0x81, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0];
        assert!(unmask(&mut long).is_err());
    }
}
