//! Event streams, with an exchange that gives what the test says.

use webrocket_state::exchange::{
    ExchangeReport, TriggerId,
    message::{SourceId, SourceMode},
};
use webrocket_wire::{Data, Json, Trigger, trigger::Origin};

use super::*;
use crate::control::{fake_node::within, sources::WINDOW as SOURCE_WINDOW};

/// An event stream that is being read.
struct Stream {
    headers: HeaderMap,
    body: HttpBody,
}

impl Stream {
    /// The next piece of text; nothing at the end.
    async fn next(&mut self) -> Option<String> {
        let frame = within(self.body.frame()).await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    /// The next event, whatever comments come before.
    async fn event(&mut self) -> Option<String> {
        loop {
            match self.next().await? {
                comment if comment == ":\n\n" => {}
                event => return Some(event),
            }
        }
    }
}

impl Moon {
    async fn stream(&self, query: &str) -> Stream {
        let request = HttpRequest::get(format!("/moon/events{query}"));
        let request = request.header(header::AUTHORIZATION, &self.credentials);
        let response =
            self.node.front.clone().oneshot(request.body(HttpBody::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        Stream { headers: response.headers().clone(), body: response.into_body() }
    }

    /// The one source that the exchange knows.
    fn source(&self) -> SourceId {
        self.world(|world| *world.exchange.sources.keys().next().expect("there is one"))
    }

    async fn give(&self, source: SourceId, id: u64) {
        let (id, trigger) = (TriggerId(id), Arc::new(trigger()));
        self.node.exchange_reports.send(ExchangeReport::SourceEvent { source, id, trigger }).await.unwrap();
    }

    /// Waits until the exchange has carried out what the actor has taken in before.
    async fn settle(&self) {
        assert_eq!(self.node.get("/vhosts/%2Fmoon/workers").await.0, 200);
    }

    async fn is_closed(&self, source: SourceId) {
        let closed = |world: &World| (!world.exchange.sources.contains_key(&source)).then_some(());
        self.node.eventually(closed).await;
    }
}

fn trigger() -> Trigger {
    let data = Data::parse("{\"x\": 1.50,\n\"y\":[]}").unwrap();
    let origin = Origin { sid: Uuid::from_u128(7), uid: Some("joe"), channel: None };
    Trigger::new(Json::parse(r#""jöb""#).unwrap(), Some(data), origin)
}

fn text(id: u64) -> String {
    let sid = Uuid::from_u128(7);
    format!("id: {id}\nevent: jöb\ndata: {{\"x\": 1.50,\"y\":[],\"sid\":\"{sid}\",\"uid\":\"joe\"}}\n\n")
}

#[tokio::test]
async fn events_are_streamed_as_they_come() {
    let moon = Moon::rise().await;
    let mut stream = moon.stream("?filter=j.%2Bb").await;
    assert_eq!(stream.headers[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(stream.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(stream.next().await.unwrap(), ":\n\n", "something comes at once");
    let worker = SourceMode::Worker { window: SOURCE_WINDOW };
    let known = moon.world(|world| world.exchange.sources.values().next().cloned());
    assert_eq!(known, Some((moon.node.vhost().id, "j.+b".to_owned(), worker)));
    let source = moon.source();
    for id in [5, 6, 7] {
        moon.give(source, id).await;
    }
    moon.settle().await;
    assert_eq!(moon.world(|world| world.exchange.taken.clone()), [], "nothing has left");
    for id in [5, 6] {
        assert_eq!(stream.event().await, Some(text(id)));
    }
    let taken = |world: &World| (world.exchange.taken.len() == 2).then(|| world.exchange.taken.clone());
    assert_eq!(moon.node.eventually(taken).await, [5, 6].map(|id| (source, TriggerId(id))));
    assert_eq!(moon.node.figures.event_streams.value(), 1);
    drop(stream);
    moon.is_closed(source).await;
    moon.settle().await;
    assert_eq!(moon.world(|world| world.exchange.taken.len()), 2, "the third is for others");
    assert_eq!(moon.node.figures.event_streams.value(), 0);
    assert_eq!(moon.node.figures.event_stream_events_total.value(), 2);
}

#[tokio::test]
async fn a_stream_is_one_if_it_says_so() {
    let moon = Moon::rise().await;
    for (query, expected) in [
        ("?mode=stream", SourceMode::Stream { window: SOURCE_WINDOW }),
        ("?mode=worker&filter=", SourceMode::Worker { window: SOURCE_WINDOW }),
        ("", SourceMode::Worker { window: SOURCE_WINDOW }),
    ] {
        let _stream = moon.stream(query).await;
        let known = moon.world(|world| world.exchange.sources.values().next_back().cloned());
        assert_eq!(known, Some((moon.node.vhost().id, ".*".to_owned(), expected)), "{query}");
    }
}

#[tokio::test]
async fn what_is_asked_for_is_checked() {
    let moon = Moon::rise().await;
    for (query, sentence) in [
        ("filter=(", "the filter is no regular expression: unclosed group"),
        ("mode=both", "the mode must be worker or stream"),
        ("mode=worker&mode=worker", "the parameter mode is there twice"),
        ("window=5", "there is no parameter \"window\""),
    ] {
        assert_eq!(moon.ask("GET", &format!("/moon/events?{query}"), "").await, (400, error(sentence)));
    }
    let long = "x".repeat(1_025);
    assert_eq!(moon.status("GET", &format!("/moon/events?filter={long}"), "").await, 400);
    assert_eq!(moon.status("GET", "/mars/events", "").await, 404);
    for method in ["HEAD", "POST"] {
        let (status, headers, _) = moon.raw(method, "/moon/events", "").await;
        assert_eq!((status, &headers[header::ALLOW]), (405, &"GET".parse().unwrap()), "{method}");
    }
    let stranger = Moon { credentials: String::new(), ..moon };
    assert_eq!(stranger.status("GET", "/moon/events", "").await, 401);
    assert_eq!(stranger.node.figures.event_streams.value(), 0);
}

#[tokio::test]
async fn a_stream_ends_with_its_token_its_vhost_and_its_node() {
    let moon = Moon::rise().await;
    let mut stream = moon.stream("").await;
    let source = moon.source();
    for id in 0..u64::from(SOURCE_WINDOW) {
        moon.give(source, id).await;
    }
    moon.settle().await;
    let renewed = moon.node.ask("PUT", "/vhosts/%2Fmoon/token", &Value::Null).await.1;
    assert_eq!(stream.event().await, None, "what has not left is for others");
    drop(stream);
    assert_eq!(moon.status("GET", "/moon/events", "").await, 401);

    let moon = Moon { credentials: credentials(&renewed), ..moon };
    let mut stream = moon.stream("").await;
    assert_eq!(moon.node.ask("DELETE", "/vhosts/%2Fmoon", &Value::Null).await.0, 204);
    assert_eq!(stream.event().await, None);

    let renewed = moon.node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await.1;
    let moon = Moon { credentials: credentials(&renewed), ..moon };
    let mut stream = moon.stream("").await;
    moon.node.stopper.stop();
    assert_eq!(stream.event().await, None);
    assert_eq!(moon.status("GET", "/moon/events", "").await, 503);
    drop(stream);
    moon.node.stop().await;
}
