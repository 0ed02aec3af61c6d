//! What clients ask, and what they are told: every row of the table, in order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use webrocket_wire::{Member, MemberData, SharedPublication, SingleAccessToken, Status};

use super::*;
use crate::{
    command::NotChanged,
    exchange::{
        CLIENT_REQUESTS_MAX, ExchangeFigure,
        message::{ClientAnswer, ClientQuestion},
    },
    link::OPEN_REQUESTS_MAX,
};

const SID: &str = "6d5f2f8e-5b8f-4c59-9b8f-3b1d5a0f6f4e";

/// What a session receives.
fn text(publication: &SharedPublication) -> String {
    let mut frame = Vec::new();
    publication.parts().encode(&mut frame);
    String::from_utf8(frame[2..].to_vec()).unwrap()
}

impl Bench {
    /// The request that the exchange has sent to the channel's owner, and what subscribers will receive.
    fn publication(&mut self, channel: &str) -> (ShardId, RequestRef, String, usize) {
        let owner = self.exchange.config.directory.owner(MOON, &channel.parse().unwrap());
        match self.exchange.next_message(self.now, owner) {
            Some(ShardMessage::Request(OwnerRequest::Publish {
                request,
                vhost,
                channel: of,
                publication,
            })) => {
                assert_eq!((vhost, of.as_str()), (MOON, channel));
                (owner, request, text(&publication), publication.len())
            }
            other => panic!("a broadcast goes to the owner, not {other:?}"),
        }
    }

    fn answer(&mut self, from: ShardId, request: RequestRef, answer: Answer, bytes: usize) {
        let message = ShardMessage::Answer { request, answer, bytes };
        self.exchange.handle(self.now, ExchangeInput::Message { from, message });
    }

    fn question(&mut self) -> (RequestRef, ClientQuestion) {
        match self.report() {
            ExchangeReport::AskForClient { request, vhost: MOON, question } => (request, question),
            other => panic!("the control thread is asked, not {other:?}"),
        }
    }

    fn answer_client(&mut self, request: RequestRef, answer: ClientAnswer) -> Vec<String> {
        self.command(ExchangeCommand::ClientAnswered { request, answer });
        self.sent()
    }

    fn open_requests(&mut self) -> u64 {
        self.exchange.figures();
        self.exchange.figures.value(ExchangeFigure::ClientRequestsOpen)
    }
}

#[test]
fn a_broadcast_is_acknowledged_once_its_owner_has_it() {
    let mut bench = Bench::new();
    bench.say("c", &["BC", "news", "hello", r#"{"a":1,"sid":2}"#]);
    assert_eq!(bench.sent(), [""; 0]);
    let (owner, request, payload, bytes) = bench.publication("news");
    assert_eq!(payload, r#"{"hello":{"a":1,"channel":"news"}}"#);
    bench.answer(owner, request, Answer::Published, bytes);
    assert_eq!(bench.sent(), ["c: OK"]);
    bench.say("c", &["BC", "never", "hello", "1"]);
    let (owner, request, payload, bytes) = bench.publication("never");
    assert_eq!(payload, r#"{"hello":{"data":1,"channel":"never"}}"#);
    bench.answer(owner, request, Answer::ChannelNotFound, bytes);
    assert_eq!(bench.sent(), ["c: ER 454 Channel not found"]);
}

#[test]
fn channels_are_opened_and_closed_by_the_control_thread() {
    let mut bench = Bench::new();
    for (command, outcome, reply) in [
        ("OC", Ok(()), "c: OK"),
        ("OC", Err(NotChanged::ChannelLimit), "c: ER 403 Forbidden"),
        ("OC", Err(NotChanged::StoreFailed), "c: ER 597 Internal error"),
        ("OC", Err(NotChanged::VhostNotFound), "c: ER 402 Unauthorized"),
        ("CC", Ok(()), "c: OK"),
        ("CC", Err(NotChanged::ChannelNotFound), "c: ER 454 Channel not found"),
    ] {
        assert_eq!(bench.hear("c", &[command, "news"]), [""; 0]);
        let request = match (command, bench.report()) {
            ("OC", ExchangeReport::OpenChannel { request, vhost: MOON, channel })
            | ("CC", ExchangeReport::CloseChannel { request, vhost: MOON, channel })
                if channel.as_str() == "news" =>
            {
                request
            }
            other => panic!("{other:?}"),
        };
        bench.command(ExchangeCommand::ChannelChanged { request, outcome });
        assert_eq!(bench.sent(), [reply], "{command}");
    }
}

#[test]
fn tokens_messages_and_lists_come_from_the_control_thread() {
    let mut bench = Bench::new();
    bench.say("c", &["AT", "joe", "private-.*"]);
    let (request, question) = bench.question();
    assert!(matches!(question, ClientQuestion::IssueToken { uid, pattern }
        if (&*uid, &*pattern) == ("joe", "private-.*")));
    let token = SingleAccessToken::from_bytes([10; 64]);
    let digits = "0a".repeat(64);
    assert_eq!(
        bench.answer_client(request, ClientAnswer::Token(Box::new(token))),
        [format!("c: AT {digits}")]
    );

    bench.say("c", &["DM", SID, "hello", r#"{"a":1}"#]);
    let (request, question) = bench.question();
    match question {
        ClientQuestion::SendMessage { sid, message } => {
            assert_eq!(sid.to_string(), SID);
            assert_eq!(text(&message), r#"{"hello":{"a":1}}"#);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.answer_client(request, ClientAnswer::Done), ["c: OK"]);

    let member = |uid: &str| Member { uid: uid.into(), data: MemberData::default() };
    for (members, list) in
        [(vec![], "[]"), (vec![member("joe"), member("eve")], r#"[{"uid":"joe"},{"uid":"eve"}]"#)]
    {
        bench.say("c", &["PR", "presence-a"]);
        let (request, question) = bench.question();
        assert!(
            matches!(question, ClientQuestion::ListMembers { channel } if channel.as_str() == "presence-a")
        );
        assert_eq!(bench.answer_client(request, ClientAnswer::Present(members)), [format!("c: PR {list}")]);
    }

    for (frames, status, reply) in [
        (["AT", "joe", "("].as_slice(), Status::InvalidPayload, "c: ER 400 Bad request"),
        (&["AT", "joe", "a"], Status::TooManyRequests, "c: ER 503 Service unavailable"),
        (&["DM", SID, "hello", "1"], Status::SessionNotFound, "c: ER 404 Session not found"),
        (&["PR", "never"], Status::ChannelNotFound, "c: ER 454 Channel not found"),
    ] {
        bench.say("c", frames);
        let (request, _) = bench.question();
        assert_eq!(bench.answer_client(request, ClientAnswer::Refused(status)), [reply]);
    }
}

#[test]
fn what_is_wrong_is_told_without_asking_anybody() {
    let mut bench = Bench::new();
    for (frames, reply) in [
        (&["OC", "-no-"][..], "c: ER 451 Invalid channel name"),
        (&["CC", "-no-"], "c: ER 454 Channel not found"),
        (&["PR", "-no-"], "c: ER 454 Channel not found"),
        (&["BC", "-no-", "hello", "1"], "c: ER 454 Channel not found"),
        (&["BC", "news", ":hello", "1"], "c: ER 400 Bad request"),
        (&["BC", "news", "hello", "{"], "c: ER 400 Bad request"),
        (&["BC", "news", "hello"], "c: ER 400 Bad request"),
        (&["DM", "joe", "hello", "1"], "c: ER 404 Session not found"),
        (&["DM", SID, "hello", "no"], "c: ER 400 Bad request"),
        (&["DM", &SID.replace('-', ""), "hello", "1"], "c: ER 404 Session not found"),
        (&["XX"], "c: ER 400 Bad request"),
        (&["OC"], "c: ER 400 Bad request"),
        (&["OC", "a", "b"], "c: ER 400 Bad request"),
        (&[], "c: ER 400 Bad request"),
    ] {
        assert_eq!(bench.hear("c", frames), [reply], "{frames:?}");
        assert!(bench.exchange.next_report().is_none());
    }
    let input = ExchangeInput::Received { peer: b"c", pass: bench.passes[&MOON], frames: &[b"OC", b"news"] };
    bench.exchange.handle(bench.now, input);
    assert_eq!(bench.sent(), ["c: ER 400 Bad request"], "no delimiter");
    assert_eq!(bench.exchange.peers.find(b"c"), None, "nothing is kept of a peer with nothing open");
}

#[test]
fn errors_wait_for_their_turn() {
    let mut bench = Bench::new();
    bench.say("c", &["BC", "news", "hello", "1"]);
    assert_eq!(bench.hear("c", &["XX"]), [""; 0]);
    assert_eq!(bench.hear("d", &["XX"]), ["d: ER 400 Bad request"], "another client waits for nothing");
    bench.say("c", &["OC", "news"]);
    assert!(bench.exchange.next_report().is_none(), "a channel is opened when the broadcast is through");
    let (owner, request, _, bytes) = bench.publication("news");
    bench.answer(owner, request, Answer::Published, bytes);
    assert_eq!(bench.sent(), ["c: OK", "c: ER 400 Bad request"]);
    assert!(matches!(bench.report(), ExchangeReport::OpenChannel { .. }));
}

#[test]
fn who_asks_too_much_is_told_in_its_place() {
    let mut bench = Bench::new();
    for _ in 0..CLIENT_REQUESTS_MAX + 3 {
        bench.say("c", &["PR", "news"]);
    }
    assert_eq!(bench.sent(), [""; 0]);
    assert_eq!(bench.open_requests(), CLIENT_REQUESTS_MAX as u64 + 3);
    for number in 1..=CLIENT_REQUESTS_MAX {
        let (request, _) = bench.question();
        let replies = bench.answer_client(request, ClientAnswer::Present(vec![]));
        let refused = if number == CLIENT_REQUESTS_MAX { 3 } else { 0 };
        assert_eq!(replies.len(), 1 + refused);
        assert!(replies[1..].iter().all(|reply| reply == "c: ER 503 Service unavailable"));
    }
    assert_eq!(bench.open_requests(), 0);
}

#[test]
fn a_client_that_is_gone_is_told_nothing() {
    let mut bench = Bench::new();
    bench.say("c", &["BC", "news", "hello", "1"]);
    bench.say("c", &["OC", "news"]);
    let (owner, request, _, bytes) = bench.publication("news");
    bench.gone("c");
    assert_eq!(bench.open_requests(), 0);
    bench.say("c", &["BC", "news", "again", "2"]);
    bench.answer(owner, request, Answer::Published, bytes);
    assert_eq!(bench.sent(), [""; 0], "the answer is not the new connection's");
    let (owner, request, _, bytes) = bench.publication("news");
    bench.answer(owner, request, Answer::Published, bytes);
    assert_eq!(bench.sent(), ["c: OK"]);
    assert!(bench.exchange.next_report().is_none(), "what waited is not begun");
}

#[test]
fn replies_that_find_no_room_are_counted() {
    let mut bench = Bench::new();
    bench.say("c", &["XX"]);
    let order = bench.exchange.next_order().unwrap();
    bench.exchange.handle(bench.now, ExchangeInput::Full { order });
    assert_eq!(bench.exchange.figures.value(ExchangeFigure::RepliesDropped), 1);
    assert_eq!(bench.sent(), [""; 0]);
}

#[test]
fn broadcasts_wait_for_room_on_the_way_to_their_owner() {
    let mut bench = Bench::new();
    let (rounds, clients) = (CLIENT_REQUESTS_MAX, OPEN_REQUESTS_MAX / CLIENT_REQUESTS_MAX + 2);
    for _ in 0..rounds {
        for client in 0..clients {
            bench.say(&client.to_string(), &["BC", "news", "hello", "1"]);
        }
    }
    let owner = bench.exchange.config.directory.owner(MOON, &"news".parse().unwrap());
    let (mut open, mut answered) = (VecDeque::new(), 0);
    // Whoever takes what there is until there is nothing, and then answers one, sees all of them.
    while answered < rounds * clients {
        while let Some(message) = bench.exchange.next_message(bench.now, owner) {
            let ShardMessage::Request(OwnerRequest::Publish { request, publication, .. }) = message else {
                panic!("{message:?}")
            };
            open.push_back((request, publication.len()));
            assert!(open.len() <= OPEN_REQUESTS_MAX);
        }
        let (request, bytes) = open.pop_front().expect("while there is room somebody goes on");
        bench.answer(owner, request, Answer::Published, bytes);
        answered += bench.sent().len();
    }
    assert!(open.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Broadcast(usize, usize),
    Ask(usize),
    Fail(usize),
    Owner(usize),
    Control,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3usize, 0..4usize).prop_map(|(client, channel)| Step::Broadcast(client, channel)),
        2 => (0..3usize).prop_map(Step::Ask),
        1 => (0..3usize).prop_map(Step::Fail),
        5 => (0..2usize).prop_map(Step::Owner),
        2 => Just(Step::Control),
    ]
}

proptest! {
    /// Clients ask, owners and the control thread answer whenever they like: each client hears its
    /// answers in its order, and its requests take effect in it.
    #[test]
    fn a_clients_answers_are_in_its_order(steps in proptest::collection::vec(step(), 0..150)) {
        let channels = ["a", "b", "c", "d"];
        let mut bench = Bench::new();
        let mut asked = 0;
        // What each client awaits, and what has reached somebody else.
        let mut awaited: BTreeMap<String, VecDeque<String>> = BTreeMap::new();
        let finish = (0..600).flat_map(|_| [Step::Owner(0), Step::Owner(1), Step::Control]);
        for step in steps.into_iter().chain(finish) {
            asked += 1;
            match step {
                Step::Broadcast(client, channel) => {
                    let client = client.to_string();
                    bench.say(&client, &["BC", channels[channel], "e", &asked.to_string()]);
                    // Of these channels one is not there.
                    let reply = if channel == 3 { "ER 454 Channel not found" } else { "OK" };
                    awaited.entry(client).or_default().push_back(reply.to_owned());
                }
                Step::Ask(client) => {
                    let client = client.to_string();
                    bench.say(&client, &["AT", &asked.to_string(), "x"]);
                    let token = SingleAccessToken::from_bytes([(asked % 256) as u8; 64]);
                    awaited.entry(client).or_default().push_back(format!("AT {}", token.reveal()));
                }
                Step::Fail(client) => {
                    let client = client.to_string();
                    bench.say(&client, &["OC", "-"]);
                    awaited.entry(client).or_default().push_back("ER 451 Invalid channel name".to_owned());
                }
                Step::Owner(shard) => {
                    let from = ShardId(shard as u16);
                    if let Some(ShardMessage::Request(OwnerRequest::Publish { request, channel, publication, .. })) =
                        bench.exchange.next_message(bench.now, from)
                    {
                        let answer =
                            if channel.as_str() == "d" { Answer::ChannelNotFound } else { Answer::Published };
                        bench.answer(from, request, answer, publication.len());
                    }
                }
                Step::Control => {
                    if let Some(report) = bench.exchange.next_report() {
                        let ExchangeReport::AskForClient {
                            request, question: ClientQuestion::IssueToken { uid, .. }, ..
                        } = report else { panic!("{report:?}") };
                        let number: usize = uid.parse().unwrap();
                        let token = SingleAccessToken::from_bytes([(number % 256) as u8; 64]);
                        let answer = ClientAnswer::Token(Box::new(token));
                        bench.command(ExchangeCommand::ClientAnswered { request, answer });
                    }
                }
            }
            for reply in bench.sent() {
                let (client, reply) = reply.split_once(": ").unwrap();
                let expected = awaited.get_mut(client).unwrap().pop_front();
                prop_assert_eq!(Some(reply), expected.as_deref());
            }
        }
        prop_assert!(awaited.values().all(VecDeque::is_empty), "everything is answered");
        prop_assert_eq!(bench.open_requests(), 0);
    }
}
