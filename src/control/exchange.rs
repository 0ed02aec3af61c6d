//! What passes between the actor and the exchange: reports, questions of clients and of operators, and the
//! sources that take events.
//!
//! A client's request comes to the same as a backend's over HTTP: its channels are stored with all
//! others, its tokens are in the one table. The exchange keeps the order of each client's requests.

use tokio::sync::oneshot;
use webrocket_state::{
    Command,
    command::{ChannelNotFound, Described},
    exchange::{
        ExchangeCommand, ExchangeReport, WorkerInfo,
        message::{ClientAnswer, ClientQuestion, QueueShown, SourceMode, SourceOpened},
    },
    ids::RequestRef,
    vhost::VhostId,
};
use webrocket_wire::{Status, VhostPath};

use super::{
    actor::Actor,
    channel_changes::{Asker, ChannelChange},
    link::tell,
    refusal::Refusal,
    request::{Pass, Sent},
    sources::{Source, SourceRequest, WINDOW, Word},
    tokens::{TokenError, TokenRequest},
};

impl Actor {
    /// Takes a report of the exchange.
    pub(super) fn handle_exchange(&mut self, report: ExchangeReport) {
        match report {
            ExchangeReport::Replied(reply) => self.exchange_replied(reply),
            ExchangeReport::OpenChannel { request, vhost, channel } => {
                let asker = Asker::Client(request);
                self.channel_changes.push(ChannelChange { vhost, channel, open: true, asker });
            }
            ExchangeReport::CloseChannel { request, vhost, channel } => {
                let asker = Asker::Client(request);
                self.channel_changes.push(ChannelChange { vhost, channel, open: false, asker });
            }
            ExchangeReport::AskForClient { request, vhost, question } => {
                self.ask_for_client(request, vhost, question);
            }
            ExchangeReport::SourceEvent { source, id, trigger } => {
                self.sources.deliver(source, id, trigger);
            }
            ExchangeReport::SourceClosed { source } => self.sources.end(source),
        }
    }

    /// Answers a client, at once or when shards have reported.
    fn ask_for_client(&mut self, request: RequestRef, vhost: VhostId, question: ClientQuestion) {
        match question {
            ClientQuestion::IssueToken { uid, pattern } => {
                let answer = self.issue_client_token(vhost, &uid, &pattern);
                self.answer_client(request, answer);
            }
            ClientQuestion::SendMessage { sid, message } => self.link.ask_all(
                |ticket| Command::DirectMessage { ticket, vhost, sid, message: message.clone() },
                Box::new(move |actor: &mut Self, _, heard| {
                    let answer = match heard.contains(&Ok(())) {
                        true => ClientAnswer::Done,
                        false => ClientAnswer::Refused(Status::SessionNotFound),
                    };
                    actor.answer_client(request, answer);
                }),
            ),
            ClientQuestion::ListMembers { channel } => {
                let owner = self.directory.owner(vhost, &channel);
                let command = |ticket| Command::DescribeChannel { ticket, vhost, channel };
                let then = Box::new(move |actor: &mut Self, _, described: Vec<Described>| {
                    let answer = match described.into_iter().next() {
                        Some(Ok(channel)) => ClientAnswer::Present(channel.members.unwrap_or_default()),
                        Some(Err(ChannelNotFound)) | None => ClientAnswer::Refused(Status::ChannelNotFound),
                    };
                    actor.answer_client(request, answer);
                });
                self.link.ask(owner, command, then);
            }
        }
    }

    /// Answers a client's question.
    pub(super) fn answer_client(&mut self, request: RequestRef, answer: ClientAnswer) {
        self.link.send_exchange(ExchangeCommand::ClientAnswered { request, answer });
    }

    fn issue_client_token(&mut self, vhost: VhostId, uid: &str, pattern: &str) -> ClientAnswer {
        if self.vhosts.of(vhost).is_none() {
            return ClientAnswer::Refused(Status::InvalidCredentials);
        }
        let issued =
            TokenRequest::new(uid, pattern, None).and_then(|request| self.issue_checked(vhost, request));
        match issued {
            Ok(token) => ClientAnswer::Token(Box::new(token)),
            Err(TokenError::Full(_)) => ClientAnswer::Refused(Status::TooManyRequests),
            Err(TokenError::Uid | TokenError::Ttl | TokenError::Pattern(_)) => {
                ClientAnswer::Refused(Status::InvalidPayload)
            }
        }
    }

    /// Asks the exchange for a vhost's workers.
    pub(super) fn list_workers(&mut self, path: &VhostPath) -> Result<Sent<(), Vec<WorkerInfo>>, Refusal> {
        let vhost = self.vhosts.at(path)?.vhost.id;
        let (told, replies) = oneshot::channel();
        self.link.ask_exchange(|ticket| ExchangeCommand::ListWorkers { ticket, vhost }, tell(told));
        Ok(Sent { value: (), replies })
    }

    /// Asks the exchange for what waits for a vhost's workers.
    pub(super) fn show_queue(&mut self, path: &VhostPath) -> Result<Sent<(), QueueShown>, Refusal> {
        let vhost = self.vhosts.at(path)?.vhost.id;
        let (told, replies) = oneshot::channel();
        self.link.ask_exchange(|ticket| ExchangeCommand::ShowQueue { ticket, vhost }, tell(told));
        Ok(Sent { value: (), replies })
    }

    /// Makes a source for a backend and tells the exchange. Replied once it is given events.
    pub(super) fn open_source(
        &mut self,
        pass: &Pass,
        request: SourceRequest,
    ) -> Result<Sent<Source, SourceOpened>, Refusal> {
        let vhost = self.vhosts.of_pass(pass)?.vhost.id;
        let mode = match request.is_worker {
            true => SourceMode::Worker { window: WINDOW },
            false => SourceMode::Stream { window: WINDOW },
        };
        let (filter, opened) = self.sources.open(request)?;
        let source = opened.id;
        let (told, replies) = oneshot::channel();
        let command = |ticket| ExchangeCommand::OpenSource { ticket, source, vhost, filter, mode };
        self.link.ask_exchange(command, tell(told));
        Ok(Sent { value: opened, replies })
    }

    /// Takes a source's word.
    pub(super) fn handle_source(&mut self, word: &Word) {
        if let Some(command) = self.sources.hear(word) {
            self.link.send_exchange(command);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;
    use webrocket_state::{
        SessionRef, ShardId,
        command::NotChanged,
        exchange::{ExchangeReport, message::ClientQuestion},
        ids::RequestRef,
        slots::SessionSlot,
    };
    use webrocket_wire::{AccessToken, Json, Publication};

    use super::*;
    use crate::{
        control::fake_node::{Node, World},
        store::Store,
    };

    /// The number of a client's request.
    fn request(number: u32) -> RequestRef {
        RequestRef { session: SessionRef { shard: ShardId(2), slot: SessionSlot(1), generation: 1 }, number }
    }

    async fn moon(store: Store) -> (Node, VhostId) {
        let node = Node::start(store).await;
        node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
        let vhost = node.vhost().id;
        (node, vhost)
    }

    async fn answer(node: &Node, vhost: VhostId, number: u32, question: ClientQuestion) -> ClientAnswer {
        let request = request(number);
        let asked = ExchangeReport::AskForClient { request, vhost, question };
        node.exchange_reports.send(asked).await.unwrap();
        node.eventually(|world| {
            let mut answers = world.exchange.answers.iter();
            answers.find(|(of, _)| *of == request).map(|(_, answer)| answer.clone())
        })
        .await
    }

    #[tokio::test]
    async fn clients_open_and_close_channels() {
        let store = Store::in_memory().unwrap();
        let (node, vhost) = moon(store.clone()).await;
        node.ask("PATCH", "/vhosts/%2Fmoon/settings", &json!({"channels_max": 1})).await;
        let steps = [
            (true, "a", Ok(())),
            (true, "a", Ok(())),
            (true, "b", Err(NotChanged::ChannelLimit)),
            (false, "b", Err(NotChanged::ChannelNotFound)),
            (false, "a", Ok(())),
            (true, "c", Ok(())),
        ];
        for (number, (open, name, expected)) in (0..).zip(steps) {
            let (request, channel) = (request(number), name.parse().unwrap());
            let report = match open {
                true => ExchangeReport::OpenChannel { request, vhost, channel },
                false => ExchangeReport::CloseChannel { request, vhost, channel },
            };
            node.exchange_reports.send(report).await.unwrap();
            let told = |world: &World| world.exchange.changed.get(number as usize).cloned();
            assert_eq!(node.eventually(told).await, (request, expected));
        }
        node.stop().await;
        assert_eq!(store.channels(&"/moon".parse().unwrap()).unwrap(), ["c".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_clients_token_is_checked_and_valid() {
        let (node, vhost) = moon(Store::in_memory().unwrap()).await;
        let ask = |uid: &str, pattern: &str| ClientQuestion::IssueToken {
            uid: uid.into(),
            pattern: pattern.into(),
        };
        for (number, (uid, pattern)) in (0..).zip([("", "a"), ("joe", "("), ("a\nb", "a")]) {
            let refused = ClientAnswer::Refused(Status::InvalidPayload);
            assert_eq!(answer(&node, vhost, number, ask(uid, pattern)).await, refused);
        }
        let ClientAnswer::Token(token) = answer(&node, vhost, 3, ask("joe", "private-.*")).await else {
            panic!("a token was asked for");
        };
        let session = RequestRef {
            session: SessionRef { shard: ShardId(1), slot: SessionSlot(5), generation: 6 },
            number: 0,
        };
        let consumed = webrocket_state::Report::ConsumeToken { request: session, vhost, token: *token };
        node.report(consumed).await;
        let told = |world: &World| world.answers.first().cloned();
        assert_eq!(node.eventually(told).await, (session, Ok(Some("joe".into()))));
        let nowhere = answer(&node, VhostId(999), 4, ask("joe", "a")).await;
        assert_eq!(nowhere, ClientAnswer::Refused(Status::InvalidCredentials));
    }

    #[tokio::test]
    async fn clients_reach_sessions_and_see_members() {
        let (node, vhost) = moon(Store::in_memory().unwrap()).await;
        let sid = Uuid::from_u128(7);
        node.world.lock().unwrap().sessions.insert(sid, (ShardId(1), Vec::new()));
        let message = Publication::direct(Json::parse("\"hello\"").unwrap(), None).share();
        let send = |sid| ClientQuestion::SendMessage { sid, message: message.clone() };
        assert_eq!(answer(&node, vhost, 0, send(sid)).await, ClientAnswer::Done);
        assert_eq!(node.world.lock().unwrap().sessions[&sid].1, [r#"{"hello":{}}"#]);
        let refused = ClientAnswer::Refused(Status::SessionNotFound);
        assert_eq!(answer(&node, vhost, 1, send(Uuid::nil())).await, refused);

        let list = |name: &str| ClientQuestion::ListMembers { channel: name.parse().unwrap() };
        let missing = ClientAnswer::Refused(Status::ChannelNotFound);
        assert_eq!(answer(&node, vhost, 2, list("presence-x")).await, missing);
        for name in ["presence-x", "a"] {
            node.ask("POST", "/vhosts/%2Fmoon/channels", &json!({ "name": name })).await;
        }
        let ClientAnswer::Present(members) = answer(&node, vhost, 3, list("presence-x")).await else {
            panic!("members were asked for");
        };
        assert_eq!(members.iter().map(|member| &*member.uid).collect::<Vec<_>>(), ["joe"]);
        assert_eq!(answer(&node, vhost, 4, list("a")).await, ClientAnswer::Present(Vec::new()));
    }

    #[tokio::test]
    async fn the_exchange_is_told_before_operators_are() {
        let store = Store::in_memory().unwrap();
        let (node, vhost) = moon(store.clone()).await;
        let token =
            |node: &Node| node.world.lock().unwrap().exchange.access.get(&vhost).map(AccessToken::reveal);
        let (_, renewed) = node.ask("PUT", "/vhosts/%2Fmoon/token", &Value::Null).await;
        assert_eq!(token(&node).as_deref(), renewed["token"].as_str());
        node.ask("POST", "/vhosts", &json!({"path": "/mars"})).await;
        assert_eq!(node.world.lock().unwrap().exchange.vhosts.len(), 2);
        node.ask("DELETE", "/vhosts/%2Fmoon", &Value::Null).await;
        assert_eq!(token(&node), None);
        node.stop().await;

        let node = Node::start(store).await;
        node.eventually(|world| world.exchange.is_serving.then_some(())).await;
        assert_eq!(node.world.lock().unwrap().exchange.vhosts.len(), 1, "before it serves");
        node.stop().await;
    }

    #[tokio::test]
    async fn operators_see_workers_and_what_waits() {
        let (node, _) = moon(Store::in_memory().unwrap()).await;
        let (status, mut shown) = node.get("/vhosts/%2Fmoon/workers").await;
        let since = shown["workers"][0]["since"].take();
        let worker = json!({"id": "3.1", "transport": "zeromq", "filter": "job.*", "window": null,
            "outstanding": 0, "since": null});
        assert_eq!((status, shown), (200, json!({"workers": [worker]})));
        assert!(since.as_str().unwrap().ends_with('Z'), "{since}");
        let (status, shown) = node.get("/vhosts/%2Fmoon/queue").await;
        assert_eq!((status, &shown["waiting"], &shown["workers"]), (200, &json!(7), &json!(1)));
        assert_eq!(shown.as_object().unwrap().len(), 9);
        for resource in ["workers", "queue"] {
            assert_eq!(node.get(&format!("/vhosts/%2Fmars/{resource}")).await.0, 404);
        }
    }
}
