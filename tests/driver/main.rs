//! The driver under real sockets, on both hosts, with a machine that shows what it does.

mod machine;
mod node;
mod refusal;

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use machine::{Command, Manner, Report};
use node::{HOSTS, Node, descriptors, serially};
use webrocket::driver::{DriverError, FromShard, IoMode};
use webrocket_state::ShardId;

#[test]
fn many_connections_echo_on_any_number_of_shards() {
    let _turn = serially();
    for io in HOSTS {
        for shards in 1..=4 {
            let node = Node::start(io, shards, Manner::Echo, |_| {});
            let mut peers: Vec<_> = (0..200).map(|_| node.connect()).collect();
            for round in 0u8..5 {
                for peer in &mut peers {
                    peer.write_all(&[round; 100]).unwrap();
                }
                for peer in &mut peers {
                    let mut echo = [0; 100];
                    peer.read_exact(&mut echo).unwrap();
                    assert_eq!(echo, [round; 100]);
                }
            }
            drop(peers);
            node.stop();
        }
    }
}

#[test]
fn who_comes_too_early_waits_in_the_backlog() {
    let _turn = serially();
    for io in HOSTS {
        let mut node = Node::start(io, 1, Manner::Shut, |_| {});
        let mut peer = node.connect();
        peer.write_all(b"hello").unwrap();
        // Had it been accepted, that would be reported before.
        node.ping();
        node.assert_sleeping();
        node.command(ShardId(0), Command::Open);
        let mut echo = [0; 5];
        peer.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"hello");
        drop(peer);
        node.stop();
    }
}

#[test]
fn a_stream_longer_than_the_read_buffer_comes_through_whole() {
    let _turn = serially();
    for io in HOSTS {
        let node = Node::start(io, 1, Manner::Echo, |_| {});
        let mut peer = node.connect();
        let mut writer = peer.try_clone().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
        let sent = bytes.clone();
        let sender = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut echo = Vec::new();
        peer.read_to_end(&mut echo).unwrap();
        assert!(echo == bytes, "the same bytes, and then the end, which came along with the last");
        sender.join().unwrap();
        node.stop();
    }
}

#[test]
fn a_slot_given_anew_sees_nothing_of_its_predecessor() {
    let _turn = serially();
    for io in HOSTS {
        let mut node = Node::start(io, 1, Manner::Echo, |_| {});
        for round in 0u32..500 {
            let mut peer = node.connect();
            peer.write_all(&round.to_ne_bytes()).unwrap();
            if round % 3 != 0 {
                let mut echo = [0; 4];
                peer.read_exact(&mut echo).unwrap();
                assert_eq!(u32::from_ne_bytes(echo), round);
            }
        }
        let mut open = 0i32;
        let mut accepted = 0;
        while accepted < 500 || open > 0 {
            match node.report() {
                (_, Report::Accepted(..)) => (accepted, open) = (accepted + 1, open + 1),
                (_, Report::Disconnected(_)) => open -= 1,
                _ => {}
            }
        }
        node.stop();
    }
}

#[test]
fn a_peer_that_does_not_read_gets_everything_once_it_does() {
    const BYTES: usize = 64 * 1024 * 1024;
    let _turn = serially();
    for io in HOSTS {
        let mut node = Node::start(io, 1, Manner::Echo, |_| {});
        let mut lazy = node.connect();
        let session = node.accepted();
        node.command(ShardId(0), Command::Flood(session, BYTES));
        assert_eq!(node.report().1, Report::Full(session));
        // Its socket is full, which concerns nobody else.
        let mut other = node.connect();
        other.write_all(b"hello").unwrap();
        other.read_exact(&mut [0; 5]).unwrap();
        node.accepted();
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            let mut count = 0;
            while count < BYTES {
                let read = lazy.read(&mut buffer).unwrap();
                assert!(read > 0 && buffer[..read].iter().all(|&byte| byte == b'x'));
                count += read;
            }
            lazy
        });
        assert_eq!(node.report().1, Report::Writable(session));
        reader.join().unwrap();
        node.stop();
    }
}

#[test]
fn a_paused_session_loses_neither_bytes_nor_its_end() {
    let _turn = serially();
    for io in HOSTS {
        let mut node = Node::start(io, 1, Manner::Pause, |_| {});
        let mut peer = node.connect();
        let session = node.accepted();
        peer.write_all(b"first").unwrap();
        assert_eq!(node.report().1, Report::Received(session, b"first".into()));
        peer.write_all(b"second").unwrap();
        peer.shutdown(Shutdown::Both).unwrap();
        drop(peer);

        // Neither what can be read nor the end keeps the shard awake meanwhile.
        node.ping();
        node.assert_sleeping();

        node.command(ShardId(0), Command::Resume(session));
        assert_eq!(node.report().1, Report::Received(session, b"second".into()));
        node.ping();
        node.command(ShardId(0), Command::Resume(session));
        assert_eq!(node.report().1, Report::Disconnected(session));
        node.stop();
    }
}

#[test]
fn messages_keep_their_order_through_queues_of_two() {
    const COUNT: u64 = 20_000;
    let _turn = serially();
    for io in HOSTS {
        for shards in 2..=4 {
            let mut node = Node::start(io, shards, Manner::Echo, |options| options.queue_capacity = 2);
            let pairs = || (0..shards).flat_map(|from| (0..shards).map(move |to| (from, to)));
            for (from, to) in pairs().filter(|(from, to)| from != to) {
                node.command(ShardId(from), Command::Count(ShardId(to), COUNT));
            }
            let mut complete = 0;
            while complete < shards * (shards - 1) {
                // The machine itself insists on the order.
                if let (_, Report::Counted(_, COUNT)) = node.report() {
                    complete += 1;
                }
            }
            node.stop();
        }
    }
}

#[test]
fn commands_deadlines_and_long_work_are_served() {
    let _turn = serially();
    for io in HOSTS {
        let mut node = Node::start(io, 2, Manner::Echo, |_| {});
        for delay_ms in [30, 10, 1, 0] {
            // Nothing else wakes the shard, and the machine insists that it is not too early.
            node.command(ShardId(1), Command::PingAfter(Duration::from_millis(delay_ms)));
            assert_eq!(node.report(), (ShardId(1), Report::Pong));
        }
        node.command(ShardId(0), Command::Work(10_000));
        let mut peer = node.connect();
        peer.write_all(b"served meanwhile").unwrap();
        peer.read_exact(&mut [0; 16]).unwrap();
        while node.report().1 != Report::Pong {}
        node.stop();
    }
}

#[test]
fn a_socket_handed_over_arrives_with_what_was_read() {
    let _turn = serially();
    for io in HOSTS {
        // A channel of one makes the shard wait for us with all but the first.
        let mut node = Node::start(io, 2, Manner::Echo, |options| options.report_capacity = 1);
        let request = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n";
        let mut peers: Vec<_> = (0..20).map(|_| node.connect()).collect();
        for peer in &mut peers {
            peer.write_all(request).unwrap();
        }
        let mut handed_over = 0;
        while handed_over < peers.len() {
            let FromShard::HandOff(mut hand_off) = node.next() else { continue };
            handed_over += 1;
            assert_eq!(hand_off.head, request);
            assert!(hand_off.stream.nodelay().unwrap(), "small answers are not delayed");
            let error = hand_off.stream.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "ready for tokio, nothing left to read");
            let peer = peers.iter_mut().find(|peer| peer.local_addr().unwrap() == hand_off.peer);
            hand_off.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            peer.expect("one of ours").read_exact(&mut [0; 19]).unwrap();
            // The shard has nothing to do with it any more.
            drop(hand_off);
        }
        for peer in &mut peers {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        }
        node.stop();
    }
}

#[test]
fn stopping_frees_everything() {
    let _turn = serially();
    for io in HOSTS {
        let session = || {
            let mut node = Node::start(io, 3, Manner::Echo, |_| {});
            let mut peers: Vec<_> = (0..100).map(|_| node.connect()).collect();
            for _ in &peers {
                node.accepted();
            }
            node.stop();
            for peer in &mut peers {
                assert_eq!(peer.read(&mut [0]).unwrap(), 0, "closed in order");
            }
        };
        session();
        let before = descriptors();
        session();
        // glommio 0.9 keeps an eventfd of each executor that ever ran.
        let kept = if io == IoMode::Uring { 3 } else { 0 };
        assert!(descriptors() <= before + kept, "{} instead of {before}", descriptors());
    }
}

#[test]
fn without_descriptors_connections_wait_until_there_are_some() {
    let _turn = serially();
    for io in HOSTS {
        let node = Node::start(io, 1, Manner::Echo, |_| {});
        let mut early = node.connect();
        early.write_all(b"early").unwrap();
        early.read_exact(&mut [0; 5]).unwrap();
        let mut late = {
            // One more descriptor for us, none for the shard.
            let _scarce = node::limit_descriptors(1);
            let late = node.connect();
            node.await_turn(|| node.accept_pauses.load(Ordering::Relaxed) > 0);
            early.write_all(b"still").unwrap();
            early.read_exact(&mut [0; 5]).unwrap();
            late
        };
        late.write_all(b"late").unwrap();
        late.read_exact(&mut [0; 4]).unwrap();
        node.stop();
    }
}

#[test]
fn an_address_in_use_is_told() {
    let _turn = serially();
    let node = Node::start(IoMode::Epoll, 1, Manner::Echo, |_| {});
    let error = Node::try_start(IoMode::Epoll, 1, Manner::Echo, |options| options.listen = node.address);
    let error = error.map(|_| ()).unwrap_err();
    assert!(matches!(error, DriverError::AddressInUse { address } if address == node.address), "{error}");
    node.stop();
}
