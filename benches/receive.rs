//! What it costs to receive: CPU time of the receiving thread per message.
//!
//! ```text
//! cargo bench --bench receive
//! ```
//!
//! Three receivers, each with 1,000 connections: a bare loop of `epoll_wait` and `recv`, which does
//! nothing with the bytes; our driver on its epoll host; our driver on glommio. The machine behind
//! the driver only counts. The receivers take turns in each round, so that what disturbs the machine
//! disturbs all of them alike; medians and their ratios are printed. In a round each
//! active connection sends one masked WebSocket frame of 66 bytes, and the next round
//! begins when all have been received. The receivers are pinned to the first allowed CPU, the sender is to the last.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    net::{RecvFlags, recv},
};
use webrocket::driver::{self, DriverOptions, IoMode, affinity};
use webrocket_state::{Action, Input, Machine, Party, SessionRef, ShardId, slots::SessionSlot};

const CONNECTIONS: usize = 1000;
const FRAME_BYTES: usize = 66;
const ROUNDS: usize = 11;
const MESSAGES_PER_ROUND: usize = 100_000;

/// A thread that receives, and the connections that lead to it.
struct Receiver {
    name: &'static str,
    peers: Vec<TcpStream>,
    received: Arc<AtomicU64>,
    clock: libc::clockid_t,
    /// What has been sent so far, in bytes.
    sent: u64,
}

impl Receiver {
    fn bare(cpu: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        let (tell, clock) = mpsc::channel();
        thread::spawn(move || {
            pin(cpu);
            tell.send(thread_clock()).unwrap();
            receive_bare(&listener, &counter);
        });
        Self::connect("epoll + recv, bare", address, received, clock.recv().unwrap())
    }

    fn driver(name: &'static str, io: IoMode) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        let (tell, clock) = mpsc::channel();
        let mut options = DriverOptions::new("127.0.0.1:0".parse().unwrap(), 1);
        options.io = io;
        options.publish = Arc::new(move |_, figures| counter.store(figures[0], Ordering::Release));
        let machine = move |_| {
            tell.send(thread_clock()).unwrap();
            Counter::default()
        };
        let running = driver::start(&options, machine).unwrap();
        Self::connect(name, running.address, received, clock.recv().unwrap())
    }

    fn connect(
        name: &'static str,
        address: SocketAddr,
        received: Arc<AtomicU64>,
        clock: libc::clockid_t,
    ) -> Self {
        let connect = |_| {
            let peer = TcpStream::connect(address).unwrap();
            peer.set_nodelay(true).unwrap();
            peer
        };
        Self { name, peers: (0..CONNECTIONS).map(connect).collect(), received, clock, sent: 0 }
    }

    /// The receiver's CPU nanoseconds per message when `active` connections send in each round.
    fn measure(&mut self, active: usize, messages: usize) -> f64 {
        let frame = [0x82; FRAME_BYTES];
        let before = cpu_time(self.clock);
        let mut count = 0;
        for round in 0..messages / active {
            for index in 0..active {
                let peer = (round * active + index * (CONNECTIONS / active)) % CONNECTIONS;
                self.peers[peer].write_all(&frame).unwrap();
            }
            count += active;
            self.sent += (active * FRAME_BYTES) as u64;
            let deadline = Instant::now() + Duration::from_secs(60);
            while self.received.load(Ordering::Acquire) < self.sent {
                assert!(Instant::now() < deadline, "{}: {} bytes missing", self.name, self.sent);
                std::hint::spin_loop();
            }
        }
        (cpu_time(self.clock) - before).as_nanos() as f64 / count as f64
    }
}

/// The machine that only counts.
#[derive(Default)]
struct Counter {
    accepted: u32,
    received: [u64; 1],
    closed: Vec<SessionRef>,
}

impl Party for Counter {
    type Message = ();
    type Command = ();
    type Report = ();

    fn next_message(&mut self, _: Instant, _: ShardId) -> Option<()> {
        None
    }

    fn has_message(&self, _: ShardId) -> bool {
        false
    }

    fn next_report(&mut self) -> Option<()> {
        None
    }
}

impl Machine for Counter {
    fn accept(&mut self, _: Instant, _: SocketAddr) -> SessionRef {
        self.accepted += 1;
        SessionRef { shard: ShardId(0), slot: SessionSlot(self.accepted - 1), generation: 0 }
    }

    fn handle(&mut self, _: Instant, input: Input<'_, (), ()>) {
        match input {
            Input::Received { bytes, .. } => self.received[0] += bytes.len() as u64,
            Input::Disconnected { session } => self.closed.push(session),
            _ => {}
        }
    }

    fn wants_input(&self, _: SessionRef) -> bool {
        true
    }

    fn next_action(&mut self) -> Option<Action> {
        self.closed.pop().map(Action::Close)
    }

    fn next_flush(&mut self, _: Instant) -> Option<SessionRef> {
        None
    }

    fn pending(&self, _: SessionRef) -> &[u8] {
        &[]
    }

    fn has_work(&self) -> bool {
        false
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn figures(&mut self) -> &[u64] {
        &self.received
    }
}

/// The least that a receiver can do, edge-triggered like our driver.
fn receive_bare(listener: &TcpListener, received: &AtomicU64) {
    let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let (connection, _) = listener.accept().unwrap();
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&epoll, &connection, EventData::new_u64(number as u64), flags).unwrap();
        connections.push(connection);
    }
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0u8; 64 * 1024];
    let mut total = 0u64;
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None).unwrap();
        for event in &events {
            let connection = &connections[usize::try_from(event.data.u64()).unwrap()];
            let read = recv(connection, &mut buffer[..], RecvFlags::DONTWAIT);
            total += read.map_or(0, |(read, _)| read as u64);
        }
        received.store(total, Ordering::Release);
    }
}

fn pin(cpu: usize) {
    affinity::pin(cpu).unwrap();
}

/// The clock of this thread's CPU time, which other threads can read too.
fn thread_clock() -> libc::clockid_t {
    let mut clock = 0;
    // SAFETY: this thread is alive, and the clock is writable.
    assert_eq!(unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) }, 0);
    clock
}

fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is writable; a clock of a thread that has ended is an error.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap())
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    // `cargo test --benches` only asks whether it works.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (rounds, messages) = if is_bench { (ROUNDS, MESSAGES_PER_ROUND) } else { (1, CONNECTIONS) };
    let cpus = affinity::allowed_cpus().unwrap();
    let mut receivers = [
        Receiver::bare(cpus[0]),
        Receiver::driver("driver on epoll", IoMode::Epoll),
        Receiver::driver("driver on glommio", IoMode::Uring),
    ];
    pin(*cpus.last().unwrap());
    for active in [CONNECTIONS, 10] {
        let messages = if active == 10 { messages / 4 } else { messages };
        let mut figures = [const { Vec::new() }; 3];
        for round in 0..=rounds {
            for (receiver, figures) in receivers.iter_mut().zip(&mut figures) {
                let figure = receiver.measure(active, messages);
                // The first round warms up.
                if round > 0 {
                    figures.push(figure);
                }
            }
        }
        println!(
            "{active} of {CONNECTIONS} connections active, {rounds} rounds, CPU per {FRAME_BYTES}-byte message:"
        );
        let medians = figures.map(|mut figures| median(&mut figures));
        for (receiver, figure) in receivers.iter().zip(medians) {
            println!("  {:<20} {figure:>7.0} ns  × {:.2}", receiver.name, figure / medians[0]);
        }
    }
}
