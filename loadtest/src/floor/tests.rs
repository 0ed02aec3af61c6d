use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use clap::Parser;

use super::*;
use crate::dialect::Dialect;
use crate::engine::Engine;
use crate::fanout::{Amount, Fanout, Load, Plan, measure, subscribe};
use crate::frames::{self, Frame, Opcode};
use crate::target::Target;

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Every way to do it.
const FLOORS: [&[&str]; 2] = [&[], &["--io", "uring"]];

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

/// Starts a floor on a thread that serves as long as the process.
fn start(options: &[&str]) -> SocketAddr {
    let line = CommandLine::parse_from(["floor"].iter().chain(options));
    let listener = listen(line.options.listen).expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || serve(&line.options, listener).expect("it serves for ever"));
    address
}

/// Lets everything be delivered and verified. Returns what a subscriber saw of a message, and all deliveries.
fn fan_out(address: SocketAddr, plan: Plan, broadcasts: u64) -> (usize, u64) {
    let mut engine = Engine::new(Target::new(address, "/"), PATIENCE).expect("an epoll set");
    let mut fanout = Fanout::new(plan);
    subscribe(&mut engine, &mut fanout).expect("all subscribe");
    let amount = Amount::Broadcasts(broadcasts);
    let measured = measure(&mut engine, &mut fanout, None, amount).expect("nothing is wrong");
    engine.close(&mut fanout).expect("all go");
    (measured.message_bytes, measured.deliveries)
}

fn plan(channels: u32, subscribers: u32, in_flight: u32, payload_bytes: usize) -> Plan {
    let load = Load::InFlight(in_flight);
    Plan { dialect: Dialect::Bare, channels, subscribers, publishers: 2, load, payload_bytes }
}

#[test]
fn all_floors_deliver_alike() {
    for options in FLOORS {
        let address = start(options);
        assert_eq!(fan_out(address, plan(1, 300, 16, 128), 50), (128, 300 * 50), "{options:?}");
        // Those that are gone are not in the way, though others have their numbers now.
        assert_eq!(fan_out(address, plan(40, 5, 64, 128), 400), (128, 5 * 400), "{options:?}");
    }
}

#[test]
fn messages_that_no_buffer_holds_come_whole() {
    for options in FLOORS {
        assert_eq!(fan_out(start(options), plan(2, 9, 8, 100_000), 40), (100_000, 9 * 40), "{options:?}");
    }
}

/// A connection that reads only when it is told to.
struct Client {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).expect("somebody listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a fresh socket");
        let head = "GET / HTTP/1.1\r\nHost: floor\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        // The server sees it in two pieces, or it sees the first message with it: both must do.
        let (first, second) = head.split_at(20);
        socket.write_all(first.as_bytes()).expect("room");
        socket.write_all(second.as_bytes()).expect("room");
        let mut client = Self { socket, unread: Vec::new() };
        client.send("Sa");
        let end = b"\r\n\r\n";
        while !client.unread.windows(end.len()).any(|bytes| bytes == end) {
            client.receive();
        }
        let answer = client.unread.windows(end.len()).position(|bytes| bytes == end).expect("just seen");
        assert!(client.unread.starts_with(b"HTTP/1.1 101 "));
        client.unread.drain(..answer + end.len());
        assert_eq!(client.message(), "subscribed a");
        client
    }

    fn send(&mut self, message: &str) {
        self.send_frame(Opcode::Text, message);
    }

    fn send_frame(&mut self, opcode: Opcode, payload: &str) {
        let mut frame = Vec::new();
        frames::encode(&mut frame, opcode, [1, 2, 3, 4], payload.as_bytes());
        self.socket.write_all(&frame).expect("the server reads");
    }

    fn receive(&mut self) {
        let mut bytes = [0; 16 * 1024];
        let count = self.socket.read(&mut bytes).expect("in time");
        assert_ne!(count, 0, "the server does not close");
        self.unread.extend_from_slice(&bytes[..count]);
    }

    fn message(&mut self) -> String {
        loop {
            if let Some((Frame::Text(text), used)) = frames::decode(&self.unread).expect("frames") {
                let text = String::from_utf8(text.to_vec()).expect("text");
                self.unread.drain(..used);
                return text;
            }
            self.receive();
        }
    }
}

#[test]
fn who_reads_late_gets_all_in_order_and_who_goes_without_reading_is_not_in_the_way() {
    for options in FLOORS {
        let address = start(options);
        let (mut slow, gone, mut publisher) =
            (Client::open(address), Client::open(address), Client::open(address));
        // More than the buffers of two sockets hold.
        let message = |number: usize| format!("{number} {}", "x".repeat(60_000));
        for number in 0..300 {
            publisher.send(&format!("Pa {}", message(number)));
            assert_eq!(publisher.message(), message(number), "{options:?}");
        }
        drop(gone);
        for number in 0..300 {
            assert_eq!(slow.message(), message(number), "{options:?}");
        }
        publisher.send("Pa end");
        assert_eq!((slow.message(), publisher.message()), ("end".into(), "end".into()), "{options:?}");
        slow.send_frame(Opcode::Close, "");
        assert_eq!(slow.socket.read(&mut [0]).expect("in time"), 0, "{options:?}: it is closed");
    }
}
