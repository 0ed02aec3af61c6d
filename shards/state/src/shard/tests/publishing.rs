//! Where broadcasts stand in their channel, and what another shard is told of them.

use webrocket_wire::{Json, Position, Publication};

use super::*;
use crate::{event::ChannelEvent, ids::RequestRef};

impl Bench {
    /// A session of the other shard subscribes a channel of this one.
    fn subscribe_from_other(&mut self, channel: &ChannelName) {
        let session = SessionRef { shard: OTHER, slot: SessionSlot(0), generation: 0 };
        let request = RequestRef { session, number: 0 };
        let (vhost, channel) = (VhostId(0), channel.clone());
        let message = ShardMessage::Request(OwnerRequest::Subscribe {
            request,
            vhost,
            channel,
            may_create: true,
            encoding: Encoding::PLAIN,
            joining: None,
        });
        self.hear(OTHER, message);
    }

    /// What the other shard's subscribers are told of broadcasts.
    fn delivered(&mut self) -> Vec<(Position, String)> {
        let mut delivered = Vec::new();
        while let Some(message) = self.shard.next_message(self.now, OTHER) {
            if let ShardMessage::Event(OwnerEvent::Deliver {
                event: ChannelEvent::Published(position, publication),
                ..
            }) = message
            {
                let mut frame = Vec::new();
                publication.parts().encode(&mut frame);
                delivered.push((position, texts(&frame).concat()));
            }
        }
        delivered
    }
}

#[test]
fn positions_count_all_broadcasts_of_one_life_of_a_channel() {
    let mut bench = Bench::among(2, Settings::default());
    let channel = bench.channels_of(ShardId(0), 1).remove(0);
    let ann = bench.connect();
    let broadcast = format!(r#"{{"broadcast":{{"event":"e","channel":"{channel}"}}}}"#);
    bench.send(ann, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
    // While nobody else listens it goes straight to the log, and counts all the same.
    bench.send(ann, &broadcast);
    bench.subscribe_from_other(&channel);
    assert_eq!(bench.delivered(), []);
    bench.send(ann, &broadcast);
    let publication = Publication::new(Json::parse("\"b\"").unwrap(), None, &channel, None).share();
    let publish = |publication, channel: &ChannelName| Command::Publish {
        ticket: Ticket::new(1),
        vhost: VhostId(0),
        channel: channel.clone(),
        publication,
    };
    bench.shard.handle(bench.now, Input::Command(publish(publication.clone(), &channel)));
    let first = bench.delivered();
    let own = bench.texts(ann);
    let events: Vec<_> = own.iter().filter(|text| text.starts_with(r#"{"e":"#)).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(first[0].1, *events[1], "all subscribers receive the same");
    assert_eq!(first.iter().map(|(position, _)| position.offset).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(first[0].0.epoch, first[1].0.epoch);

    let (ticket, vhost) = (Ticket::new(2), VhostId(0));
    let close = Command::CloseChannel { ticket, vhost, channel: channel.clone() };
    bench.shard.handle(bench.now, Input::Command(close));
    bench.subscribe_from_other(&channel);
    bench.shard.handle(bench.now, Input::Command(publish(publication, &channel)));
    let second = bench.delivered();
    assert_eq!((second.len(), second[0].0.offset), (1, 1), "a new life begins at 1");
    assert_ne!(second[0].0.epoch, first[0].0.epoch);
}

#[test]
fn a_session_that_is_left_out_receives_everything_else() {
    let mut bench = Bench::new(Settings::default());
    let (ann, ben, out) = (bench.connect(), bench.connect(), bench.connect());
    for session in [ann, ben, out] {
        bench.send(session, r#"{"subscribe":{"channel":"c"}}"#);
    }
    bench.flush(usize::MAX);
    let channel: ChannelName = "c".parse().unwrap();
    let sid = bench.shard.sessions.open(out.slot).sid;
    for (event, left_out) in
        [("\"1\"", None), ("\"2\"", Some(sid)), ("\"3\"", Some(uuid::Uuid::nil())), ("\"4\"", None)]
    {
        let mut publication = Publication::new(Json::parse(event).unwrap(), None, &channel, None);
        if let Some(sid) = left_out {
            publication = publication.leaving_out(sid);
        }
        let publish = Command::Publish {
            ticket: Ticket::new(1),
            vhost: VhostId(0),
            channel: channel.clone(),
            publication: publication.share(),
        };
        bench.shard.handle(bench.now, Input::Command(publish));
    }
    let sent = bench.flush(usize::MAX);
    let events = |session: SessionRef| -> String {
        let mine: Vec<u8> =
            sent.iter().filter(|(of, _)| *of == session).flat_map(|(_, bytes)| bytes.clone()).collect();
        texts(&mine).iter().map(|text| text[2..3].to_owned()).collect()
    };
    assert_eq!((events(ann), events(ben), events(out)), ("1234".into(), "1234".into(), "134".into()));
    assert_eq!(bench.shard.figures.value(Figure::Deliveries), 4 * 3 - 1);
}

#[test]
fn a_publisher_receives_its_own_broadcast_before_it_is_acknowledged() {
    let mut bench = Bench::among(2, Settings::default());
    let channel = bench.channels_of(ShardId(0), 1).remove(0);
    let ann = bench.connect();
    bench.send(ann, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
    bench.flush(usize::MAX);
    // Whether somebody listens on another shard too makes no difference.
    for _ in 0..2 {
        bench.send(ann, &format!(r#"{{"broadcast":{{"event":"e","channel":"{channel}"}}}}"#));
        let told = bench.texts(ann);
        assert!(told[0].starts_with(r#"{"e":"#), "{told:?}");
        assert_eq!(told[1..], [format!(r#"{{"broadcasted":"{channel}"}}"#)]);
        bench.subscribe_from_other(&channel);
    }
}
