//! Sessions that trigger. The test plays the exchange, and where there is one the other shard.

use webrocket_wire::{ChannelName, Rights, SharedPublication, Trigger, UserName};

use super::*;
use crate::{
    identity::Identity,
    ids::{ChannelRef, RequestRef},
    link::CONGESTED_MESSAGES,
    message::Answer,
    vhost::User,
};

const WORK: &str = r#"{"trigger":{"event":"work","data":{"a":1}}}"#;
const FAILED: &str = r#"{":error":{"code":503,"status":"Service unavailable","ref":1}}"#;
const BROADCASTED: &str = r#"{":ok":{"code":204,"status":"Broadcasted","ref":1}}"#;
const NOTHING: [&str; 0] = [];

/// A broadcast that triggers `work`.
fn triggering(channel: &ChannelName, event: &str) -> String {
    let members = format!(r#""channel":"{channel}","event":"{event}","data":[1],"trigger":"work""#);
    format!(r#"{{"broadcast":{{{members},"ref":1}}}}"#)
}

fn error(code: u16, status: &str) -> String {
    format!(r#"{{":error":{{"code":{code},"status":"{status}","ref":1}}}}"#)
}

impl Bench {
    fn command(&mut self, command: Command) {
        self.shard.handle(self.now, Input::Command(command));
        assert_eq!(applied(&mut self.shard), Some(true));
    }

    /// The vhost's only user has these rights now.
    fn put_ann(&mut self, rights: Rights) {
        let mut vhost = Vhost::clone(self.shard.vhosts.get(VhostId(0)).unwrap());
        let user = User { rights, has_secret: false, generation: 1 };
        vhost.users.insert("ann".parse::<UserName>().unwrap(), user);
        self.command(Command::PutVhost { ticket: Ticket::new(0), vhost: Arc::new(vhost) });
    }

    /// A WWFP session of ann, who may do everything.
    fn connect_ann(&mut self) -> SessionRef {
        self.put_ann(Rights::ALL);
        let session = self.connect_to("/w?protocol=wwfp");
        self.send(session, r#"{"auth":{"user":"ann"}}"#);
        assert_eq!(self.texts(session), [r#"{":authenticated":{}}"#]);
        session
    }

    /// Opens `c`, which this shard owns.
    fn open_channel(&mut self) -> ChannelName {
        let channel: ChannelName = "c".parse().unwrap();
        self.command(Command::OpenChannel {
            ticket: Ticket::new(0),
            vhost: VhostId(0),
            channel: channel.clone(),
        });
        channel
    }

    fn close_channel(&mut self, channel: &ChannelName) {
        self.command(Command::CloseChannel {
            ticket: Ticket::new(0),
            vhost: VhostId(0),
            channel: channel.clone(),
        });
    }

    /// A channel that the other shard owns.
    fn channel_elsewhere(&self) -> ChannelName {
        self.channels_of(OTHER, 1).remove(0)
    }

    fn subscribe(&mut self, session: SessionRef, channel: &ChannelName) {
        self.send(session, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
        assert_eq!(self.texts(session), [format!(r#"{{":subscribed":{{"channel":"{channel}"}}}}"#)]);
    }

    /// The triggers that have been sent to the exchange since the last look.
    fn triggers(&mut self) -> Vec<(RequestRef, Trigger)> {
        let exchange = self.shard.directory.exchange();
        let next = || match self.shard.next_message(self.now, exchange)? {
            ShardMessage::Request(OwnerRequest::Trigger { request, vhost: VhostId(0), trigger }) => {
                Some((request, trigger))
            }
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(next).collect()
    }

    /// The same, when it is one.
    fn trigger(&mut self) -> (RequestRef, Trigger) {
        let [trigger] = <[_; 1]>::try_from(self.triggers()).expect("one trigger");
        trigger
    }

    /// The broadcast that has been sent to the other shard.
    fn published(&mut self) -> (RequestRef, SharedPublication) {
        match self.shard.next_message(self.now, ShardId(1)) {
            Some(ShardMessage::Request(OwnerRequest::Publish { request, publication, .. })) => {
                (request, publication)
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, from: ShardId, request: RequestRef, answer: Answer, bytes: usize) {
        let message = ShardMessage::Answer { request, answer, bytes };
        self.hear(from, message);
    }

    fn place(&mut self, (request, trigger): &(RequestRef, Trigger)) {
        let exchange = self.shard.directory.exchange();
        self.answer(exchange, *request, Answer::Triggered, trigger.bytes());
    }

    fn fail(&mut self, (request, trigger): &(RequestRef, Trigger)) {
        let exchange = self.shard.directory.exchange();
        self.answer(exchange, *request, Answer::AssignationFailed, trigger.bytes());
    }

    fn sid(&self, session: SessionRef) -> uuid::Uuid {
        self.shard.sessions.open(session.slot).sid
    }

    /// What subscribers receive of [`triggering`].
    fn event(&self, session: SessionRef, event: &str, channel: &ChannelName) -> String {
        let sid = self.sid(session);
        format!(r#"{{"{event}":{{"data":[1],"channel":"{channel}","sid":"{sid}"}}}}"#)
    }
}

#[test]
fn a_trigger_says_who_sent_it() {
    let mut bench = Bench::new(Settings::default());
    let (ann, nobody) = (bench.connect_ann(), bench.connect());
    bench.send(ann, WORK);
    bench.send(nobody, r#"{"trigger":{"event":"w\u006frk"}}"#);
    let sent = bench.triggers();
    let payloads: Vec<_> =
        sent.iter().map(|(request, trigger)| (request.session, trigger.payload())).collect();
    let named = format!(r#"{{"work":{{"a":1,"sid":"{}","uid":"ann"}}}}"#, bench.sid(ann));
    let unnamed = format!(r#"{{"w\u006frk":{{"sid":"{}"}}}}"#, bench.sid(nobody));
    assert_eq!(payloads, [(ann, named.as_str()), (nobody, unnamed.as_str())]);
    sent.iter().for_each(|trigger| bench.place(trigger));
    // In WWFP nothing is said of a success to who gave no `ref`.
    let told: Vec<_> =
        bench.flush(usize::MAX).iter().map(|(session, bytes)| (*session, texts(bytes))).collect();
    assert_eq!(told, [(nobody, vec![r#"{"triggered":"w\u006frk"}"#.to_owned()])]);

    bench.send(nobody, WORK);
    let refused = bench.trigger();
    bench.fail(&refused);
    assert_eq!(bench.texts(nobody), [r#"{"err":"ASSIGNATION_FAILED"}"#]);
    let counted = [Figure::Triggers, Figure::TriggersFailed, Figure::Errors];
    assert_eq!(counted.map(|figure| bench.shard.figures.value(figure)), [3, 1, 1]);
}

#[test]
fn triggers_do_not_wait_for_each_other_and_are_answered_in_order() {
    let mut bench = Bench::new(Settings::default());
    let ann = bench.connect_ann();
    let channel = bench.open_channel();
    for number in 1..=3 {
        bench.send(ann, &format!(r#"{{"trigger":{{"event":"work","ref":{number}}}}}"#));
        bench.send(ann, &format!(r#"{{"dance":{{"ref":"{number}"}}}}"#));
    }
    // A subscription begins where it is told, so it waits for the answers before it.
    bench.send(ann, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
    let sent = bench.triggers();
    assert_eq!((sent.len(), bench.texts(ann)), (3, Vec::new()));
    let unknown = |number| error(400, "Bad request").replace(":1", &format!(r#":"{number}""#));
    let triggered = |number| format!(r#"{{":ok":{{"code":205,"status":"Triggered","ref":{number}}}}}"#);
    bench.place(&sent[0]);
    bench.fail(&sent[1]);
    assert_eq!(bench.texts(ann), [triggered(1), unknown(1), FAILED.replace(":1", ":2"), unknown(2)]);
    bench.place(&sent[2]);
    let subscribed = r#"{":subscribed":{"channel":"c"}}"#.to_owned();
    assert_eq!(bench.texts(ann), [triggered(3), unknown(3), subscribed]);
}

#[test]
fn a_trigger_waits_for_what_was_asked_before() {
    let mut bench = Bench::among(2, Settings::default());
    let session = bench.connect();
    let channel = bench.channel_elsewhere();
    bench.send(session, &format!(r#"{{"broadcast":{{"event":"e","channel":"{channel}"}}}}"#));
    bench.send(session, WORK);
    assert_eq!(bench.triggers(), []);
    let (request, publication) = bench.published();
    bench.answer(ShardId(1), request, Answer::Published, publication.len());
    let placed = bench.trigger();
    bench.place(&placed);
    let told = [format!(r#"{{"broadcasted":"{channel}"}}"#), r#"{"triggered":"work"}"#.to_owned()];
    assert_eq!(bench.texts(session), told);
}

#[test]
fn a_triggering_broadcast_goes_on_when_its_trigger_is_placed() {
    let mut bench = Bench::new(Settings::default());
    let ann = bench.connect_ann();
    let channel = bench.open_channel();
    bench.subscribe(ann, &channel);
    let events = ["first", "second"].map(|event| bench.event(ann, event, &channel));
    bench.send(ann, &triggering(&channel, "first"));
    bench.send(ann, &triggering(&channel, "second").replace(r#""trigger":"work","#, ""));
    let placed = bench.trigger();
    let sid = bench.sid(ann);
    let payload = format!(r#"{{"work":{{"data":[1],"sid":"{sid}","uid":"ann","channel":"c"}}}}"#);
    assert_eq!((placed.1.payload(), bench.texts(ann)), (payload.as_str(), Vec::new()));
    bench.place(&placed);
    let told = bench.texts(ann);
    let (answers, heard): (Vec<_>, Vec<_>) = told.into_iter().partition(|text| text == BROADCASTED);
    assert_eq!((answers.len(), heard), (2, events.to_vec()));

    bench.send(ann, &triggering(&channel, "never"));
    let refused = bench.trigger();
    bench.fail(&refused);
    assert_eq!(bench.texts(ann), [FAILED]);
    assert_eq!(bench.shard.figures.value(Figure::Broadcasts), 2);
}

#[test]
fn a_triggering_broadcast_goes_on_to_another_shard() {
    let mut bench = Bench::among(2, Settings::default());
    let ann = bench.connect_ann();
    let channel = bench.channel_elsewhere();
    bench.send(ann, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
    let Some(ShardMessage::Request(OwnerRequest::Subscribe { request, .. })) =
        bench.shard.next_message(bench.now, ShardId(1))
    else {
        panic!("nobody subscribes")
    };
    let subscribed = Answer::Subscribed {
        channel: ChannelRef { slot: ChannelSlot(0), generation: 0 },
        encoding: Encoding::PLAIN,
        present: None,
    };
    bench.answer(ShardId(1), request, subscribed, 0);
    assert_eq!(bench.texts(ann).len(), 1);

    bench.send(ann, &triggering(&channel, "e"));
    bench.send(ann, &triggering(&channel, "e"));
    let placed = bench.trigger();
    assert!(!bench.shard.has_message(ShardId(1)));
    bench.place(&placed);
    let (request, publication) = bench.published();
    let mut frame = Vec::new();
    publication.parts().encode(&mut frame);
    assert_eq!(texts(&frame), [bench.event(ann, "e", &channel)]);
    assert_eq!(bench.triggers(), [], "the second one waits until the first is done");
    bench.answer(ShardId(1), request, Answer::ChannelNotFound, publication.len());
    let refused = bench.trigger();
    bench.fail(&refused);
    assert_eq!(bench.texts(ann), [error(454, "Channel not found").as_str(), FAILED]);
}

#[test]
fn what_changed_while_the_trigger_was_placed_counts_for_the_broadcast() {
    type Change = fn(&mut Bench, &ChannelName);
    let closed: Change = Bench::close_channel;
    let reopened: Change = |bench, channel| {
        bench.close_channel(channel);
        bench.open_channel();
    };
    let forbidden: Change = |bench, _| bench.put_ann(Rights::READ);
    let unsubscribed = r#"{":unsubscribed":{"channel":"c"}}"#.to_owned();
    for (change, told) in [
        (closed, vec![unsubscribed.clone(), error(454, "Channel not found")]),
        (reopened, vec![unsubscribed, error(453, "Not subscribed")]),
        (forbidden, vec![error(403, "Forbidden")]),
    ] {
        let mut bench = Bench::new(Settings::default());
        let ann = bench.connect_ann();
        let channel = bench.open_channel();
        bench.subscribe(ann, &channel);
        bench.send(ann, &triggering(&channel, "never"));
        let placed = bench.trigger();
        change(&mut bench, &channel);
        bench.place(&placed);
        assert_eq!(bench.texts(ann), told);
        assert_eq!(bench.shard.figures.value(Figure::Broadcasts), 0);
    }
}

#[test]
fn who_goes_has_broadcast_before_what_it_triggered() {
    let mut bench = Bench::new(Settings::default());
    let (ann, ben) = (bench.connect_ann(), bench.connect_ann());
    let channel = bench.open_channel();
    bench.subscribe(ann, &channel);
    bench.subscribe(ben, &channel);
    let said = bench.event(ann, "e", &channel);
    bench.send(ann, &triggering(&channel, "e"));
    bench.shard.handle(bench.now, Input::Disconnected { session: ann });
    let placed = bench.trigger();
    assert_eq!(bench.shard.next_action(), None);
    bench.place(&placed);
    assert_eq!(bench.texts(ben), [said]);
    assert_eq!(bench.shard.next_action(), Some(Action::Close(ann)));
}

#[test]
fn a_session_closes_when_its_triggers_are_placed() {
    let mut bench = Bench::new(Settings::default());
    let ann = bench.connect_ann();
    let closed = format!(r#"{{":closed":{{"sid":"{}","ref":2}}}}"#, bench.sid(ann));
    bench.send(ann, r#"{"trigger":{"event":"work","ref":1}}"#);
    bench.send(ann, r#"{"close":{"ref":2}}"#);
    assert_eq!(bench.texts(ann), NOTHING);
    let refused = bench.trigger();
    bench.fail(&refused);
    let told = bench.texts(ann);
    assert_eq!(told[..2], [FAILED, &closed]);
    assert_eq!(told.len(), 3, "and the close frame");
}

#[test]
fn a_session_is_who_it_was_until_its_triggers_are_placed() {
    let mut bench = Bench::new(Settings::default());
    bench.put_ann(Rights::ALL);
    let session = bench.connect();
    for request in [r#"{"authenticate":{"user":"ann"}}"#, WORK, r#"{"logout":true}"#] {
        bench.send(session, request);
    }
    assert!(matches!(bench.shard.sessions.open(session.slot).identity, Identity::User { .. }));
    let placed = bench.trigger();
    bench.place(&placed);
    let told = [r#"{"authenticated":"ann"}"#, r#"{"triggered":"work"}"#, r#"{"loggedOut":true}"#];
    assert_eq!(bench.texts(session), told);
}

#[test]
fn an_answer_that_comes_after_the_vhost_is_gone_reaches_nobody() {
    let mut bench = Bench::new(Settings::default());
    let (ann, ben) = (bench.connect_ann(), bench.connect_ann());
    let channel = bench.open_channel();
    bench.subscribe(ann, &channel);
    bench.send(ann, &triggering(&channel, "never"));
    bench.send(ben, WORK);
    let open = bench.triggers();
    bench.command(Command::RemoveVhost { ticket: Ticket::new(1), vhost: VhostId(0) });
    assert_eq!(bench.flush(usize::MAX).len(), 2, "both are closed");
    bench.shard.handle(bench.now, Input::Disconnected { session: ann });
    let newcomer = bench.shard.accept(bench.now, "127.0.0.1:1".parse().unwrap());
    assert_eq!((newcomer.slot, open.len()), (ann.slot, 2));
    open.iter().for_each(|trigger| bench.place(trigger));
    assert!(bench.flush(usize::MAX).is_empty());
    assert_eq!(bench.shard.figures.value(Figure::Broadcasts), 0);
}

#[test]
fn those_who_trigger_are_stopped_while_the_way_to_the_exchange_is_full() {
    let mut bench = Bench::new(Settings { requests_outstanding_max: 4096, ..Settings::default() });
    let (busy, other) = (bench.connect(), bench.connect());
    for number in 0..=CONGESTED_MESSAGES {
        bench.send(busy, &format!(r#"{{"trigger":{{"event":"e{number}"}}}}"#));
    }
    bench.send(other, WORK);
    bench.send(other, r#"{"unsubscribe":{"channel":"c"}}"#);
    assert!(bench.shard.wants_input(busy) && !bench.shard.wants_input(other));
    let sent = bench.triggers();
    let events: Vec<_> = sent.iter().map(|(_, trigger)| trigger.event().to_owned()).collect();
    assert_eq!(events, (0..=CONGESTED_MESSAGES).map(|number| format!("e{number}")).collect::<Vec<_>>());
    sent.iter().for_each(|trigger| bench.place(trigger));
    let late = bench.trigger();
    assert_eq!(late.0.session, other);
    bench.place(&late);
    assert_eq!(bench.texts(other), [r#"{"triggered":"work"}"#, r#"{"err":"CHANNEL_NOT_FOUND"}"#]);
    assert_eq!(bench.shard.figures.value(Figure::LinkPauses), 1);
}
