use super::*;
use crate::mock::{Mock, Sabotage};

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn engine(mock: &Mock) -> Engine {
    Engine::new(mock.url().parse().expect("valid"), PATIENCE).expect("an epoll set")
}

/// Subscribes every connection and keeps account of what it is told.
#[derive(Default)]
struct Visitor {
    opened: Vec<ConnectionId>,
    subscribed: Vec<ConnectionId>,
    closed: Vec<ConnectionId>,
    deliveries: u32,
    /// What is awaited.
    subscribed_due: usize,
    closed_due: usize,
    /// Opens a connection for each that ends.
    replaces: bool,
    ticks: u32,
}

impl Scenario for Visitor {
    fn opened(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        self.opened.push(connection);
        outbox.text(connection, br#"{"subscribe":{"channel":"a"}}"#);
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        _received_ns: u64,
        _outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        match message {
            br#"{"subscribed":"a"}"# => self.subscribed.push(connection),
            _ if message.starts_with(b"{\"load\":") => self.deliveries += 1,
            _ => {}
        }
        Ok(())
    }

    /// Something is always due.
    fn tick(&mut self, now_ns: u64, _outbox: &mut Outbox) -> Option<u64> {
        self.ticks += 1;
        Some(now_ns)
    }

    fn closed(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        self.closed.push(connection);
        if self.replaces {
            outbox.open();
        }
    }

    fn finished(&self) -> bool {
        self.subscribed.len() >= self.subscribed_due && self.closed.len() >= self.closed_due
    }

    fn progress(&self) -> u64 {
        (self.subscribed.len() + self.closed.len()) as u64
    }

    fn missing(&self) -> String {
        format!("{} of {} are closed", self.closed.len(), self.closed_due)
    }
}

/// An engine with `count` subscribed connections.
fn subscribed(mock: &Mock, count: u32) -> (Engine, Visitor) {
    let (mut engine, mut visitor) = (engine(mock), Visitor::default());
    visitor.subscribed_due = count as usize;
    engine.open(count);
    engine.run(&mut visitor).expect("nothing is wrong");
    (engine, visitor)
}

#[test]
fn one_connection_is_closed_and_the_others_go_on() {
    for (how, cleanly) in [(Closing::Clean, 1), (Closing::Abrupt, 0)] {
        let mock = Mock::start(Sabotage::None);
        let (mut engine, mut visitor) = subscribed(&mock, 3);
        visitor.closed_due = 1;
        engine.outbox().close(ConnectionId(1), how);
        engine.run(&mut visitor).expect("the end was wanted");
        assert_eq!(visitor.closed, [ConnectionId(1)]);
        visitor.subscribed_due = 4;
        engine.open(1);
        engine.run(&mut visitor).expect("the others still stand");
        assert_eq!(visitor.opened.last(), Some(&ConnectionId(1)), "its number is given again");
        assert_eq!(mock.closed_cleanly(), cleanly, "{how:?}");
    }
}

#[test]
fn connections_come_and_go_by_the_hundreds() {
    let mock = Mock::start(Sabotage::None);
    let (mut engine, mut visitor) = subscribed(&mock, 20);
    visitor.replaces = true;
    for round in 1..=10 {
        let how = if round % 2 == 0 { Closing::Clean } else { Closing::Abrupt };
        visitor.subscribed_due += 20;
        visitor.closed_due += 20;
        for number in 0..20 {
            engine.outbox().close(ConnectionId(number), how);
        }
        engine.run(&mut visitor).expect("every end was wanted");
    }
    assert_eq!((visitor.opened.len(), visitor.closed.len()), (220, 200));
    assert!(visitor.opened.iter().all(|connection| connection.0 < 20), "numbers are given again");
    assert_eq!(mock.closed_cleanly(), 100);
    engine.close(&mut Visitor::default()).expect("the rest is closed too");
    assert_eq!(mock.closed_cleanly(), 120);
}

#[test]
fn a_connection_that_is_not_open_yet_can_be_closed() {
    let mock = Mock::start(Sabotage::None);
    let (mut engine, mut visitor) = (engine(&mock), Visitor { closed_due: 2, ..Visitor::default() });
    engine.open_at_once(1);
    engine.open(2);
    let turns_without_an_end = engine.turn(&mut visitor, Duration::ZERO);
    turns_without_an_end.expect("the first is begun");
    for (number, how) in [(0, Closing::Clean), (1, Closing::Abrupt)] {
        engine.outbox().close(ConnectionId(number), how);
    }
    engine.run(&mut visitor).expect("neither end fails the run");
    assert_eq!(visitor.closed, [ConnectionId(0), ConnectionId(1)]);
    assert_eq!(engine.opening, 0);
}

/// Lets connection 0 broadcast, and waits until all have something to read. Nothing is read yet.
fn broadcast_to_all(engine: &mut Engine) {
    engine.outbox().text(ConnectionId(0), br#"{"broadcast":{"event":"load","channel":"a","data":{"x":1}}}"#);
    engine.serve_outbox().expect("it is sent");
    let mut epoll = Epoll::new().expect("an epoll set");
    for connection in engine.connections.iter().flatten() {
        epoll.add(connection.socket(), 0, Interest::Read).expect("an open socket");
    }
    let all = engine.connections.iter().flatten().count();
    let deadline = Instant::now() + PATIENCE;
    while epoll.wait(PATIENCE).expect("an epoll set") < all {
        assert!(Instant::now() < deadline, "not all are told");
    }
}

#[test]
fn what_a_closing_connection_receives_is_not_told() {
    let mock = Mock::start(Sabotage::None);
    let (mut engine, mut visitor) = subscribed(&mock, 2);
    // The delivery has come to both when the second says that it goes.
    broadcast_to_all(&mut engine);
    engine.outbox().close(ConnectionId(1), Closing::Clean);
    engine.serve_outbox().expect("it is sent");
    visitor.closed_due = 1;
    engine.run(&mut visitor).expect("the end was wanted");
    engine.run_until(&mut visitor, |visitor| visitor.deliveries > 0);
    assert_eq!(visitor.deliveries, 1);
}

#[test]
fn what_is_due_does_not_wait_for_a_turn_to_end() {
    const CONNECTIONS: u32 = 30;
    let mock = Mock::start(Sabotage::None);
    let (mut engine, mut visitor) = subscribed(&mock, CONNECTIONS);
    broadcast_to_all(&mut engine);
    visitor.ticks = 0;
    engine.turn(&mut visitor, Duration::ZERO).expect("nothing is wrong");
    assert_eq!(visitor.deliveries, CONNECTIONS);
    assert_eq!(visitor.ticks, CONNECTIONS + 1, "once before the turn, and after each connection");
}

#[test]
fn a_server_that_does_not_let_go_is_told() {
    let mock = Mock::start(Sabotage::KeepClosed);
    let (mut engine, mut visitor) = subscribed(&mock, 2);
    engine.outbox().close(ConnectionId(0), Closing::Clean);
    engine.run_until(&mut visitor, |_| mock.closed_cleanly() == 1);
    visitor.closed_due = 1;
    engine.patience = Duration::ZERO;
    let error = engine.run(&mut visitor).expect_err("the end never comes");
    assert!(error.to_string().contains("0 of 1 are closed"), "{error}");
}

#[test]
fn an_end_that_nobody_wanted_ends_the_run() {
    let mock = Mock::start(Sabotage::None);
    let (mut engine, mut visitor) = subscribed(&mock, 2);
    visitor.closed_due = 1;
    drop(mock);
    let error = engine.run(&mut visitor).expect_err("the server is gone");
    assert!(error.to_string().contains("without a close frame"), "{error}");
}
