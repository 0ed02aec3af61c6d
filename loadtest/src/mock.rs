//! A throw-away broker for tests: the classic dialect's subscribe and broadcast, one thread, another's WebSocket
//! implementation, and a fault on demand. It sleeps until a socket has news.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message, WebSocket};
use tungstenite::{Error, Utf8Bytes, accept};

/// What the mock does wrong. Faults of delivery hit one connection, the second that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// The 20th delivery comes after the 21st.
    Swap,
    /// The 20th delivery does not come.
    Lose,
    /// The 20th delivery comes twice.
    Double,
    /// The delivery with this number does not come.
    LoseLast(u32),
    /// The delivery with this number comes twice.
    DoubleLast(u32),
    SwallowAcknowledgements,
    /// The victim is closed with 4008 at its 20th delivery.
    CloseSlow,
    RefuseSubscriptions,
    SwallowSubscriptions,
    /// Each subscription is answered twice.
    AnswerTwice,
    /// Connections from this one on (in the order of accepting, from 0) do not receive their first delivery.
    LoseFirst {
        from: usize,
    },
    /// Connections from this one on receive, once subscribed, the last delivery before that again.
    Replay {
        from: usize,
    },
    /// A connection that was closed is never ended, nor is its socket closed.
    KeepClosed,
}

const FAULT_AT: u32 = 20;
const VICTIM: usize = 1;

/// A running mock; dropping it ends it.
pub(crate) struct Mock {
    address: SocketAddr,
    /// The mock ends when the other end of this is closed.
    lifeline: Option<UnixStream>,
    closed_cleanly: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Mock {
    pub(crate) fn start(sabotage: Sabotage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a fresh socket");
        let address = listener.local_addr().expect("bound");
        let (lifeline, end) = UnixStream::pair().expect("a spare descriptor");
        let closed_cleanly = Arc::new(AtomicU32::new(0));
        let closed = closed_cleanly.clone();
        let thread = thread::spawn(move || {
            let (peers, kept) = (BTreeMap::new(), Vec::new());
            let mut broker = Broker { listener, sabotage, accepted: 0, peers, closed, last: None, kept };
            while broker.wait(&end) {
                broker.turn();
            }
        });
        Self { address, lifeline: Some(lifeline), closed_cleanly, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/demo", self.address)
    }

    /// How many connections were ended with a close frame.
    pub(crate) fn closed_cleanly(&self) -> u32 {
        self.closed_cleanly.load(Ordering::Relaxed)
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.lifeline = None;
        let ended = self.thread.take().expect("dropped once").join();
        assert!(ended.is_ok() || thread::panicking(), "the mock must not panic");
    }
}

struct Peer {
    socket: WebSocket<TcpStream>,
    /// Its socket is full.
    is_full: bool,
    gone: bool,
    channel: Option<String>,
    deliveries: u32,
    /// A delivery that [`Sabotage::Swap`] holds back.
    held: Option<Utf8Bytes>,
}

struct Broker {
    listener: TcpListener,
    sabotage: Sabotage,
    /// How many connections were accepted.
    accepted: usize,
    /// Those that still stand, by their number in the order of accepting.
    peers: BTreeMap<usize, Peer>,
    closed: Arc<AtomicU32>,
    /// The last delivery on any channel.
    last: Option<Utf8Bytes>,
    /// What [`Sabotage::KeepClosed`] keeps.
    kept: Vec<Peer>,
}

impl Broker {
    /// Waits until there is something to do. Returns whether the mock is to go on.
    fn wait(&self, end: &UnixStream) -> bool {
        let own = [PollFd::new(end, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        let peers = self.peers.values().map(|peer| {
            let room = if peer.is_full { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::new(peer.socket.get_ref(), PollFlags::IN | room)
        });
        let mut sockets: Vec<PollFd<'_>> = own.into_iter().chain(peers).collect();
        retry_on_intr(|| poll(&mut sockets, None)).expect("sockets that are open");
        sockets[0].revents().is_empty()
    }

    /// Serves what has come.
    fn turn(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(false).expect("a fresh socket");
            stream.set_nodelay(true).expect("a fresh socket");
            // Who goes before the handshake is through was never there.
            if let Ok(socket) = accept(stream) {
                socket.get_ref().set_nonblocking(true).expect("an open socket");
                let (channel, held) = (None, None);
                let peer = Peer { socket, is_full: false, gone: false, channel, deliveries: 0, held };
                self.peers.insert(self.accepted, peer);
                self.accepted += 1;
            }
        }
        for number in self.peers.keys().copied().collect::<Vec<_>>() {
            while let Some(peer) = self.peers.get_mut(&number) {
                match peer.socket.read() {
                    Ok(Message::Text(text)) => self.message(number, &text),
                    Ok(_) => {}
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => self.ended(number, &error),
                }
            }
        }
        for peer in self.peers.values_mut() {
            let flushed = peer.socket.flush();
            peer.is_full =
                matches!(flushed, Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock);
        }
    }

    /// A server ends a connection once the close frames are through.
    fn ended(&mut self, number: usize, error: &Error) {
        let peer = self.peers.remove(&number).expect("it was just read");
        self.closed.fetch_add(u32::from(matches!(error, Error::ConnectionClosed)), Ordering::Relaxed);
        if self.sabotage == Sabotage::KeepClosed {
            self.kept.push(peer);
        }
    }

    fn message(&mut self, number: usize, text: &str) {
        let request: serde_json::Value = serde_json::from_str(text).expect("the load test sends JSON");
        if let Some(channel) = request["subscribe"]["channel"].as_str() {
            if self.sabotage == Sabotage::RefuseSubscriptions {
                return self.peer(number).send(r#"{"err":"ACCESS_DENIED"}"#.into());
            }
            self.peer(number).channel = Some(channel.to_owned());
            let answers = match self.sabotage {
                Sabotage::SwallowSubscriptions => 0,
                Sabotage::AnswerTwice => 2,
                _ => 1,
            };
            for _ in 0..answers {
                self.peer(number).send(format!(r#"{{"subscribed":"{channel}"}}"#).into());
            }
            if let Sabotage::Replay { from } = self.sabotage
                && number >= from
                && let Some(last) = self.last.clone()
            {
                self.peer(number).send(last);
            }
            return;
        }
        let broadcast = &request["broadcast"];
        let channel = broadcast["channel"].as_str().expect("a broadcast").to_owned();
        let event = broadcast["event"].as_str().expect("a broadcast");
        let (_, data) = text.split_once(r#""data":{"#).expect("a broadcast");
        let members = data.strip_suffix("}}}").expect("data comes last");
        let sid = format!("00000000-0000-4000-8000-{number:012x}");
        let delivery: Utf8Bytes =
            format!(r#"{{"{event}":{{{members},"channel":"{channel}","sid":"{sid}"}}}}"#).into();
        self.last = Some(delivery.clone());
        for (number, peer) in &mut self.peers {
            if !peer.gone && peer.channel.as_deref() == Some(channel.as_str()) {
                let is_meant = match self.sabotage {
                    Sabotage::LoseFirst { from } => *number >= from,
                    _ => *number == VICTIM,
                };
                let sabotage = if is_meant { self.sabotage } else { Sabotage::None };
                peer.deliver(&delivery, sabotage);
            }
        }
        if self.sabotage != Sabotage::SwallowAcknowledgements {
            self.peer(number).send(format!(r#"{{"broadcasted":"{channel}"}}"#).into());
        }
    }

    fn peer(&mut self, number: usize) -> &mut Peer {
        self.peers.get_mut(&number).expect("it has just said something")
    }
}

impl Peer {
    fn deliver(&mut self, delivery: &Utf8Bytes, sabotage: Sabotage) {
        self.deliveries += 1;
        let copies = match sabotage {
            Sabotage::Swap if self.deliveries == FAULT_AT => {
                self.held = Some(delivery.clone());
                0
            }
            Sabotage::Lose if self.deliveries == FAULT_AT => 0,
            Sabotage::LoseFirst { .. } if self.deliveries == 1 => 0,
            Sabotage::LoseLast(number) if self.deliveries == number => 0,
            Sabotage::Double if self.deliveries == FAULT_AT => 2,
            Sabotage::DoubleLast(number) if self.deliveries == number => 2,
            Sabotage::CloseSlow if self.deliveries == FAULT_AT => {
                let code = CloseCode::from(4008);
                let _ = self.socket.close(Some(CloseFrame { code, reason: "slow consumer".into() }));
                return;
            }
            _ => 1,
        };
        for _ in 0..copies {
            self.send(delivery.clone());
            if let Some(held) = self.held.take() {
                self.send(held);
            }
        }
    }

    fn send(&mut self, text: Utf8Bytes) {
        match self.socket.write(Message::Text(text)) {
            Ok(()) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The load test has ended the run, or the victim was closed.
            Err(_) => self.gone = true,
        }
    }
}
