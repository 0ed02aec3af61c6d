//! How many messages a second of its own CPU time one engine can take.
//!
//! ```text
//! cargo bench -p webrocket-loadtest --bench engine
//! ```
//!
//! Beside it the floor: a bare loop of `epoll_wait` and `recv` on the same sockets, which does nothing with the bytes.
//!
//! Between measurements the peers of the connections are written to, by the same thread, so that each measured turn
//! finds the same bytes in the same sockets, however busy the machine is. Measured is CPU time of this thread
//! (`CLOCK_THREAD_CPUTIME_ID`): waiting for sockets, receiving, decoding, and a scenario that only counts. Two
//! descriptors are needed for each connection; what the limit has no room for is left out and said.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "modules of the binary are compiled in, with more than is used of them"
)]

#[path = "../src/clock.rs"]
mod clock;
#[path = "../src/connection.rs"]
mod connection;
#[path = "../src/engine/mod.rs"]
mod engine;
#[path = "../src/epoll.rs"]
mod epoll;
#[path = "../src/frames.rs"]
mod frames;
#[path = "../src/handshake.rs"]
mod handshake;
#[path = "../src/interrupt.rs"]
mod interrupt;
#[cfg(test)]
#[path = "../src/mock.rs"]
mod mock;
#[path = "../src/report/numbers.rs"]
mod numbers;
#[path = "../src/process.rs"]
mod process;
#[path = "../src/progress.rs"]
mod progress;
#[path = "../src/target.rs"]
mod target;

/// What the line that shows progress needs of the reports.
mod report {
    pub(crate) use crate::numbers::{number, per_second};
}

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};

use connection::ConnectionId;
use engine::{Engine, Outbox, Scenario};
use epoll::{Epoll, Interest};
use target::Target;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// About as long as a delivery with 128 bytes of data.
const MESSAGE_BYTES: usize = 190;
/// How long a round may take without progress.
const PATIENCE: Duration = Duration::from_secs(10);

criterion_group!(benches, receive);
criterion_main!(benches);

fn receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("receive");
    for (connections, pending) in [(1000, 1), (1000, 16), (1000, 64), (9000, 1), (9000, 16), (9000, 64)] {
        if let Err(error) = process::raise_descriptor_limit(2 * connections) {
            println!("left out: {error:#}");
            continue;
        }
        group.throughput(Throughput::Elements(u64::from(connections * pending)));
        let parameter = format!("{connections} connections, {pending} pending");
        let mut bare = Round::new(connections, pending, Bare::new);
        group.bench_function(BenchmarkId::new("bare", &parameter), |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| bare.play()).sum());
        });
        drop(bare);
        let mut engine = Round::new(connections, pending, Counter::new);
        group.bench_function(BenchmarkId::new("engine", &parameter), |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| engine.play()).sum());
        });
    }
    group.finish();
}

/// What receives on many connections.
trait Receiver {
    /// Receives `messages` messages, or as many bytes.
    fn receive(&mut self, messages: u64);
}

/// A receiver, and the other ends of its connections.
struct Round<R> {
    receiver: R,
    peers: Vec<TcpStream>,
    /// What each peer writes in a round.
    frames: Vec<u8>,
    messages: u64,
}

impl<R: Receiver> Round<R> {
    /// `connect` makes a receiver with so many connections to that address.
    fn new(connections: u32, pending: u32, connect: impl FnOnce(SocketAddr, u32) -> R) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || (0..connections).map(|_| accept(&listener)).collect());
        let receiver = connect(address, connections);
        Self {
            receiver,
            peers: server.join().expect("the peers accept"),
            frames: frame().repeat(pending as usize),
            messages: u64::from(connections * pending),
        }
    }

    /// Lets every peer write, then receives it all. Returns the CPU time of the receiving.
    fn play(&mut self) -> Duration {
        for peer in &mut self.peers {
            peer.write_all(&self.frames).expect("sockets have room for a round");
        }
        let begun = thread_time();
        self.receiver.receive(self.messages);
        thread_time() - begun
    }
}

/// A message as a server sends it.
fn frame() -> Vec<u8> {
    let mut frame = vec![0x81, 126, 0, MESSAGE_BYTES as u8];
    frame.resize(frame.len() + MESSAGE_BYTES, b'x');
    frame
}

/// The floor: no engine, no frames.
struct Bare {
    sockets: Vec<TcpStream>,
    epoll: Epoll,
    buffer: Vec<u8>,
}

impl Bare {
    fn new(address: SocketAddr, connections: u32) -> Self {
        let epoll = Epoll::new().expect("an epoll set");
        let connect = |number| {
            let stream = TcpStream::connect(address).expect("a listener");
            let (socket, _) = tungstenite::client(format!("ws://{address}/"), stream).expect("a handshake");
            let socket = socket.get_ref().try_clone().expect("a spare descriptor");
            socket.set_nonblocking(true).expect("an open socket");
            epoll.add(socket.as_fd(), u64::from(number), Interest::Read).expect("an open socket");
            socket
        };
        Self { sockets: (0..connections).map(connect).collect(), epoll, buffer: vec![0; 256 * 1024] }
    }
}

impl Receiver for Bare {
    fn receive(&mut self, messages: u64) {
        let mut due = messages * frame().len() as u64;
        while due > 0 {
            for index in 0..self.epoll.wait(Duration::from_secs(1)).expect("an epoll set") {
                let mut socket = &self.sockets[self.epoll.ready(index).token as usize];
                due -= socket.read(&mut self.buffer).expect("an open socket") as u64;
            }
        }
    }
}

/// An engine with a scenario that only counts.
struct Counter {
    engine: Engine,
    count: Count,
}

impl Counter {
    fn new(address: SocketAddr, connections: u32) -> Self {
        let mut engine = Engine::new(Target::new(address, "/"), PATIENCE).expect("an epoll set");
        let mut count = Count { opened: 0, opened_due: connections, received: 0, received_due: 0 };
        engine.open(connections);
        engine.run(&mut count).expect("all connections are opened");
        Self { engine, count }
    }
}

impl Receiver for Counter {
    fn receive(&mut self, messages: u64) {
        self.count.received_due += messages;
        self.engine.run(&mut self.count).expect("all messages are received");
    }
}

/// Accepts one connection and lets the WebSocket handshake pass.
fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_nodelay(true).expect("an open socket");
    let socket = tungstenite::accept(stream).expect("a valid handshake");
    socket.get_ref().try_clone().expect("a spare descriptor")
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Counts messages.
struct Count {
    opened: u32,
    opened_due: u32,
    received: u64,
    received_due: u64,
}

impl Scenario for Count {
    fn opened(&mut self, _connection: ConnectionId, _outbox: &mut Outbox) {
        self.opened += 1;
    }

    fn message(
        &mut self,
        _connection: ConnectionId,
        message: &[u8],
        _received_ns: u64,
        _outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        self.received += u64::from(message.len() == MESSAGE_BYTES);
        Ok(())
    }

    fn finished(&self) -> bool {
        self.opened == self.opened_due && self.received == self.received_due
    }

    fn progress(&self) -> u64 {
        u64::from(self.opened) + self.received
    }

    fn missing(&self) -> String {
        format!("{} of {} messages", self.received, self.received_due)
    }
}
