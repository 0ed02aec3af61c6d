use webrocket_wire::handshake::example_head;

use super::*;

const TIMEOUTS: Timeouts = Timeouts { handshake: Duration::from_secs(10), close: Duration::from_secs(5) };

const LIMITS: Limits = Limits {
    message_bytes_max: 1000,
    ping_interval_ms: 25_000,
    idle_timeout_ms: 60_000,
    stall_timeout_ms: 30_000,
};

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    bytes
}

/// Feeds bytes and names what comes out.
fn feed(connection: &mut Connection, now: Instant, bytes: &[u8]) -> Vec<String> {
    let mut bytes = bytes.to_vec();
    let mut input = &mut bytes[..];
    let mut seen = Vec::new();
    while let Some(event) = connection.receive(now, &mut input, &TIMEOUTS) {
        seen.push(match event {
            Event::Upgrade(upgrade) => {
                connection.open(now, &upgrade, LIMITS);
                format!("upgrade {}", upgrade.path)
            }
            Event::Http(head) => format!("http {}", head.len()),
            Event::Refused(refusal) => format!("{refusal:?}"),
            Event::Message(Message::Text(text)) => text.into_owned(),
            Event::Message(Message::Binary(bytes)) => format!("{bytes:?}"),
            Event::Closed { broken } => format!("closed, broken {broken}"),
            Event::Finished => "finished".to_owned(),
        });
    }
    seen
}

fn opened(now: Instant) -> Connection {
    let mut connection = Connection::new(now);
    assert_eq!(feed(&mut connection, now, example_head("/a", "").as_bytes()), ["upgrade /a"]);
    let response = connection.out.pending().len();
    connection.out.advance(response);
    connection
}

#[test]
fn a_head_in_any_two_pieces_and_frames_right_behind_it() {
    let now = Instant::now();
    let bytes = [example_head("/a", "").as_bytes(), &frame(0x81, b"hi")].concat();
    for cut in 0..bytes.len() {
        let mut connection = Connection::new(now);
        let mut seen = feed(&mut connection, now, &bytes[..cut]);
        seen.extend(feed(&mut connection, now, &bytes[cut..]));
        assert_eq!(seen, ["upgrade /a", "hi"], "cut at {cut}");
    }
}

#[test]
fn other_requests_come_out_whole() {
    let now = Instant::now();
    let mut connection = Connection::new(now);
    assert!(feed(&mut connection, now, b"GET / HT").is_empty());
    assert_eq!(feed(&mut connection, now, b"TP/1.1\r\nHost: x\r\n\r\nbody"), ["http 31"]);
}

#[test]
fn a_refused_request_ends_after_its_response() {
    let now = Instant::now();
    let mut connection = Connection::new(now);
    assert_eq!(feed(&mut connection, now, b"nonsense\r\n\r\n"), ["BadRequest"]);
    assert!(!connection.take_shutdown());
    connection.out.advance(connection.out.pending().len());
    assert!(connection.take_shutdown());
    assert!(!connection.take_shutdown());
}

#[test]
fn the_peer_closes() {
    let now = Instant::now();
    let mut connection = opened(now);
    let bytes = [frame(0x88, b"\x03\xe8bye"), frame(0x81, b"late")].concat();
    assert_eq!(feed(&mut connection, now, &bytes), ["closed, broken false"]);
    assert_eq!(connection.out.pending(), b"\x88\x02\x03\xe8");
}

#[test]
fn we_close_and_await_the_peers_close() {
    let now = Instant::now();
    let mut connection = opened(now);
    connection.close(now, CloseCode::Restart, &TIMEOUTS);
    assert_eq!(&connection.out.pending()[..4], b"\x88\x0f\x03\xf4");
    assert_eq!(feed(&mut connection, now, &frame(0x81, b"on its way")), Vec::<String>::new());
    assert_eq!(feed(&mut connection, now, &frame(0x88, b"\x03\xf4")), ["finished"]);
    assert_eq!(connection.due(now, &TIMEOUTS), Due::At(now + TIMEOUTS.close));
    assert_eq!(connection.due(now + TIMEOUTS.close, &TIMEOUTS), Due::CloseOverdue);
}

#[test]
fn a_broken_protocol_closes() {
    let now = Instant::now();
    let mut connection = opened(now);
    assert_eq!(feed(&mut connection, now, &[0x81, 0x01, b'x']), ["closed, broken true"]);
    assert_eq!(&connection.out.pending()[2..4], b"\x03\xea");
}

#[test]
fn silence_is_pinged_then_ended() {
    let now = Instant::now();
    let mut connection = opened(now);
    assert_eq!(connection.due(now + LIMITS.ping(), &TIMEOUTS), Due::Pinged);
    assert_eq!(connection.out.pending(), b"\x89\x00");
    assert_eq!(connection.due(now + LIMITS.ping(), &TIMEOUTS), Due::At(now + LIMITS.idle()));
    let later = now + LIMITS.ping();
    feed(&mut connection, later, &frame(0x8a, b""));
    assert_eq!(connection.due(now + LIMITS.idle(), &TIMEOUTS), Due::Pinged);
    assert_eq!(connection.due(later + LIMITS.idle(), &TIMEOUTS), Due::Idle);
}

#[test]
fn a_head_that_does_not_come() {
    let now = Instant::now();
    let mut connection = Connection::new(now);
    assert_eq!(connection.due(now, &TIMEOUTS), Due::At(now + TIMEOUTS.handshake));
    assert_eq!(connection.due(now + TIMEOUTS.handshake, &TIMEOUTS), Due::Handshake);
}

#[test]
fn a_peer_that_takes_nothing_is_stalled() {
    let now = Instant::now();
    let mut connection = opened(now);
    connection.sent(now, 10, true);
    let later = now + Duration::from_secs(20);
    feed(&mut connection, later, &frame(0x8a, b""));
    connection.sent(later, 0, true);
    assert_eq!(connection.due(now + LIMITS.stall(), &TIMEOUTS), Due::Stalled);
    connection.sent(later, 1, true);
    assert_eq!(connection.due(now + LIMITS.stall(), &TIMEOUTS), Due::At(later + LIMITS.ping()));
    connection.sent(later, 9, false);
    assert!(!connection.is_stalled());
}
