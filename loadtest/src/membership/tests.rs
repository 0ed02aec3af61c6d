use std::collections::BTreeMap;

use super::*;
use crate::broadcast::tests::delivery;
use crate::dialect::Dialect;

const FORMAT: Format = Format { dialect: Dialect::Classic, payload_bytes: 100 };
const CHANNEL: &str = "load-0";
/// Stays all the time, as the judge demands.
const RESIDENT: ConnectionId = ConnectionId(0);
const NEWCOMER: ConnectionId = ConnectionId(1);

/// A judge of one channel with two publishers, and one subscriber.
fn judge() -> Membership {
    let mut judge = Membership::new(FORMAT, &[CHANNEL.to_owned()], 2);
    judge.ask(RESIDENT, 0);
    judge.subscribed(RESIDENT);
    judge
}

/// Sends a broadcast and returns what is delivered for it.
fn send(judge: &mut Membership, publisher: u32) -> Vec<u8> {
    let stamp = judge.send(0, publisher, 1000);
    delivery(FORMAT, CHANNEL, stamp)
}

fn deliver(judge: &mut Membership, connection: ConnectionId, messages: &[&Vec<u8>]) -> Result<(), Violation> {
    messages.iter().try_for_each(|message| judge.deliver(connection, message).map(|_| ()))
}

/// A judge whose newcomer was answered when `a` was on its way; `b` was sent afterwards.
fn answered_in_between() -> (Membership, Vec<u8>, Vec<u8>) {
    let mut judge = judge();
    judge.ask(NEWCOMER, 0);
    let a = send(&mut judge, 0);
    judge.subscribed(NEWCOMER);
    let b = send(&mut judge, 1);
    (judge, a, b)
}

#[test]
fn what_was_on_its_way_may_come_or_not() {
    for newcomer_first in [false, true] {
        for begins_with_a in [false, true] {
            let (mut judge, a, b) = answered_in_between();
            let to_newcomer: &[&Vec<u8>] = if begins_with_a { &[&a, &b] } else { &[&b] };
            if newcomer_first {
                deliver(&mut judge, NEWCOMER, to_newcomer).expect("it is ahead");
                assert!(!judge.is_complete());
                deliver(&mut judge, RESIDENT, &[&a, &b]).expect("it follows");
            } else {
                deliver(&mut judge, RESIDENT, &[&a, &b]).expect("it is ahead");
                assert!(!judge.is_complete(), "b is due to the newcomer");
                deliver(&mut judge, NEWCOMER, to_newcomer).expect("it follows");
            }
            assert!(judge.is_complete());
            assert_eq!(judge.outstanding(), 0, "nothing is kept");
        }
    }
}

#[test]
fn canary_the_first_delivery_after_the_answer_is_lost() {
    let (mut judge, a, b) = answered_in_between();
    let c = send(&mut judge, 1);
    deliver(&mut judge, RESIDENT, &[&a, &b, &c]).expect("it leads");
    assert!(
        matches!(judge.deliver(NEWCOMER, &c), Err(Violation::Missed { missed, .. }) if missed.publisher == 1)
    );

    let (mut judge, a, b) = answered_in_between();
    let c = send(&mut judge, 1);
    deliver(&mut judge, NEWCOMER, &[&c]).expect("nobody knows yet");
    let violation = deliver(&mut judge, RESIDENT, &[&a, &b, &c]);
    assert!(matches!(violation, Err(Violation::Missed { connection: NEWCOMER, .. })));
}

#[test]
fn canary_nothing_comes_after_the_answer() {
    let (mut judge, a, b) = answered_in_between();
    deliver(&mut judge, RESIDENT, &[&a, &b]).expect("it leads");
    assert!(!judge.is_complete());
    assert_eq!(judge.longest_waiting(), Some((Some(NEWCOMER), 1000)));
    judge.leave(NEWCOMER);
    assert!(judge.is_complete() && judge.outstanding() == 0);
}

#[test]
fn canary_what_is_older_than_the_subscription_comes() {
    // Its place in the sequence is known at once where nothing is on its way.
    for is_quiet in [true, false] {
        let mut judge = judge();
        let old = send(&mut judge, 0);
        deliver(&mut judge, RESIDENT, &[&old]).expect("it leads");
        judge.ask(NEWCOMER, 0);
        let _on_its_way = (!is_quiet).then(|| send(&mut judge, 0));
        judge.subscribed(NEWCOMER);
        assert!(matches!(judge.deliver(NEWCOMER, &old), Err(Violation::Replayed { .. })));
    }
}

#[test]
fn canary_a_delivery_comes_before_the_answer() {
    let mut judge = judge();
    judge.ask(NEWCOMER, 0);
    let a = send(&mut judge, 0);
    assert!(matches!(judge.deliver(NEWCOMER, &a), Err(Violation::TooEarly { .. })));
}

#[test]
fn canary_faults_of_who_is_ahead_are_noticed() {
    let (mut judge, a, _) = answered_in_between();
    let violation = deliver(&mut judge, NEWCOMER, &[&a, &a]);
    assert!(matches!(violation, Err(Violation::SenderOrder { hint: Hint::Double, .. })));

    let (mut judge, a, b) = answered_in_between();
    deliver(&mut judge, NEWCOMER, &[&b, &a]).expect("nobody knows yet");
    let violation = deliver(&mut judge, RESIDENT, &[&a, &b]);
    assert!(violation.is_err(), "both received both, in different orders");

    let (mut judge, a, _) = answered_in_between();
    let mut other = a.clone();
    let sid = other.len() - 4;
    other[sid] = b'0';
    deliver(&mut judge, NEWCOMER, &[&other]).expect("nobody knows yet");
    deliver(&mut judge, RESIDENT, &[&a]).expect("it leads");
    assert!(!judge.is_complete(), "the newcomer has received something that nobody else will");
}

/// Makes of what was sent what one subscriber receives.
type Choose = dyn Fn(&[Vec<u8>]) -> Vec<Vec<u8>>;

#[test]
fn canary_followers_are_judged_byte_for_byte() {
    let follower = |choose: &Choose| {
        let mut judge = judge();
        judge.ask(NEWCOMER, 0);
        judge.subscribed(NEWCOMER);
        let sent: Vec<Vec<u8>> = (0..4).map(|number| send(&mut judge, number % 2)).collect();
        deliver(&mut judge, RESIDENT, &sent.iter().collect::<Vec<_>>()).expect("it leads");
        let outcome = deliver(&mut judge, NEWCOMER, &choose(&sent).iter().collect::<Vec<_>>());
        outcome.map(|()| judge.is_complete())
    };
    assert_eq!(follower(&|sent| sent.to_vec()), Ok(true));
    assert_eq!(follower(&|sent| sent[..3].to_vec()), Ok(false), "the last is missing");
    let doubled = follower(&|sent| vec![sent[0].clone(), sent[0].clone()]);
    assert!(matches!(doubled, Err(Violation::Disagreement { hint: Hint::Double, .. })), "{doubled:?}");
    let lost = follower(&|sent| vec![sent[1].clone()]);
    assert!(matches!(lost, Err(Violation::Disagreement { hint: Hint::LostOrOvertaken, .. })), "{lost:?}");
    let foreign = follower(&|_| vec![b"{\"load\":{}}".to_vec()]);
    assert!(matches!(foreign, Err(Violation::Foreign { .. })), "{foreign:?}");
}

#[test]
fn canary_what_nobody_sent_is_noticed() {
    let mut judge = judge();
    let never_sent = delivery(FORMAT, CHANNEL, Stamp { publisher: 0, number: 0, sent_ns: 1 });
    assert!(matches!(judge.deliver(RESIDENT, &never_sent), Err(Violation::Foreign { .. })));
}

/// What a subscriber is sent: that it is subscribed, and then the log from some place on.
struct Inbox {
    begin: usize,
    answered: bool,
    received: usize,
}

/// A right server, and networks of any delay: what is sent comes in order, whenever `random` likes it.
struct World {
    judge: Membership,
    random: u64,
    /// What publishers have sent and the server has not ordered yet.
    underway: [VecDeque<Vec<u8>>; 2],
    log: Vec<Vec<u8>>,
    /// Requests that the server has not seen yet.
    asking: Vec<ConnectionId>,
    inboxes: BTreeMap<ConnectionId, Inbox>,
    faults: Option<Fault>,
}

/// A fault in what one newcomer is delivered, as its `at`th delivery.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Lose { at: usize },
    Double { at: usize },
}

const LATE: ConnectionId = ConnectionId(999);

impl World {
    fn new(seed: u64, faults: Option<Fault>) -> Self {
        let resident = Inbox { begin: 0, answered: true, received: 0 };
        let (log, asking) = (Vec::new(), Vec::new());
        let inboxes = BTreeMap::from([(RESIDENT, resident)]);
        Self { judge: judge(), random: seed, underway: Default::default(), log, asking, inboxes, faults }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % below
    }

    fn step(&mut self, number: u32) -> Result<(), Violation> {
        match self.random(8) {
            0 => {
                let publisher = self.random(2);
                let message = send(&mut self.judge, publisher as u32);
                self.underway[publisher].push_back(message);
            }
            1 => {
                let publisher = self.random(2);
                self.log.extend(self.underway[publisher].pop_front());
            }
            2 => self.ask(ConnectionId(number + 1)),
            3 => {
                if let Some(connection) = self.asking.pop() {
                    let inbox = Inbox { begin: self.log.len(), answered: false, received: 0 };
                    self.inboxes.insert(connection, inbox);
                }
            }
            4 if self.inboxes.len() > 5 => {
                let index = 1 + self.random(self.inboxes.len() - 1);
                let leaver = *self.inboxes.keys().nth(index).expect("so many there are");
                if leaver != LATE {
                    self.inboxes.remove(&leaver);
                    self.judge.leave(leaver);
                }
            }
            _ => {
                let index = self.random(self.inboxes.len());
                let connection = *self.inboxes.keys().nth(index).expect("so many there are");
                self.receive(connection)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, connection: ConnectionId) {
        self.judge.ask(connection, 0);
        self.asking.push(connection);
    }

    /// Lets `connection` receive the next thing that it was sent, if there is any.
    fn receive(&mut self, connection: ConnectionId) -> Result<bool, Violation> {
        let inbox = self.inboxes.get_mut(&connection).expect("it is subscribed");
        if !inbox.answered {
            inbox.answered = true;
            self.judge.subscribed(connection);
            return Ok(true);
        }
        let Some(message) = self.log.get(inbox.begin + inbox.received) else { return Ok(false) };
        let (at, copies) = match self.faults {
            Some(Fault::Lose { at }) if connection == LATE => (at, 0),
            Some(Fault::Double { at }) if connection == LATE => (at, 2),
            Some(_) | None => (usize::MAX, 1),
        };
        let copies = if inbox.received == at { copies } else { 1 };
        inbox.received += 1;
        for _ in 0..copies {
            self.judge.deliver(connection, message)?;
        }
        Ok(true)
    }

    /// Lets everything arrive that is still on its way.
    fn settle(&mut self) -> Result<(), Violation> {
        for publisher in 0..2 {
            self.log.extend(self.underway[publisher].drain(..));
        }
        for connection in std::mem::take(&mut self.asking) {
            let inbox = Inbox { begin: self.log.len(), answered: false, received: 0 };
            self.inboxes.insert(connection, inbox);
        }
        let connections: Vec<ConnectionId> = self.inboxes.keys().copied().collect();
        for connection in connections {
            while self.receive(connection)? {}
        }
        Ok(())
    }

    /// A life of some hundred steps, in which a late newcomer comes and stays.
    fn play(&mut self) -> Result<(), Violation> {
        for number in 0..400 {
            if number == 150 {
                self.ask(LATE);
                let inbox = Inbox { begin: self.log.len(), answered: false, received: 0 };
                self.asking.retain(|connection| *connection != LATE);
                self.inboxes.insert(LATE, inbox);
            }
            self.step(number)?;
        }
        self.settle()
    }
}

#[test]
fn a_right_server_is_never_blamed() {
    for seed in 0..300 {
        let mut world = World::new(seed, None);
        world.play().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert!(world.judge.is_complete(), "seed {seed}");
        assert!(world.judge.longest_waiting().is_none(), "seed {seed}");
        for connection in world.inboxes.into_keys() {
            world.judge.leave(connection);
        }
        assert_eq!(world.judge.outstanding(), 0, "seed {seed}: nothing is kept");
    }
}

#[test]
fn canary_a_fault_towards_a_newcomer_is_always_noticed() {
    let mut noticed = 0;
    for seed in 0..300 {
        for fault in [Fault::Lose { at: 3 }, Fault::Double { at: 0 }, Fault::Double { at: 3 }] {
            let mut world = World::new(seed, Some(fault));
            let outcome = world.play();
            let happened = world.inboxes.get(&LATE).is_some_and(|inbox| inbox.received > 3);
            let is_noticed = outcome.is_err() || !world.judge.is_complete();
            assert!(is_noticed || !happened, "seed {seed}, {fault:?}");
            noticed += u32::from(is_noticed);
        }
    }
    assert!(noticed > 100, "a fault that never happens tries nothing");
}
