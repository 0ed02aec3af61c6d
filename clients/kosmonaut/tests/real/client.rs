//! The Client: every request, every refusal, and answers that do not come.

use std::time::Duration;

use kosmonaut::{Client, Error, Member};
use serde_json::{Map, Value, json};
use webrocket_launcher::PATIENCE;

use crate::server::Server;

fn client(server: &Server) -> Client {
    Client::new(&server.url()).unwrap().with_timeout(PATIENCE)
}

#[test]
fn channels_and_broadcasts() {
    let server = Server::start();
    let mut client = client(&server);
    client.open_channel("news").unwrap();
    client.open_channel("news").unwrap();
    let mut listener = server.browser();
    listener.subscribe("news");
    client.broadcast("news", "headline", &json!({"text": "grüße 🚀"})).unwrap();
    assert_eq!(listener.hear(), json!({"headline": {"text": "grüße 🚀", "channel": "news"}}));
    client.broadcast("news", "he\"l\\lo é", &[1, 2]).unwrap();
    assert_eq!(listener.hear(), json!({"he\"l\\lo é": {"data": [1, 2], "channel": "news"}}));
    client.close_channel("news").unwrap();
    assert_eq!(listener.hear(), json!({":unsubscribed": {"channel": "news"}}));
}

#[test]
fn tokens_members_and_messages_to_one_session() {
    let server = Server::start();
    let mut client = client(&server);
    client.open_channel("presence-hall").unwrap();
    assert_eq!(client.members("presence-hall").unwrap(), []);
    let mut joe = server.browser();
    let token = client.request_token("j&o+e é", "presence-.+").unwrap();
    assert_eq!(joe.ask(&json!({"auth": {"token": token}})), json!({":authenticated": {}}));
    joe.ask(&json!({"subscribe": {"channel": "presence-hall", "data": {"age": 7}}}));
    assert!(joe.hear().get(":memberJoined").is_some());
    let data = Map::from_iter([("age".to_owned(), Value::from(7))]);
    assert_eq!(client.members("presence-hall").unwrap(), [Member { uid: "j&o+e é".to_owned(), data }]);
    client.send_message(&joe.sid, "hello", &json!({"n": 1})).unwrap();
    assert_eq!(joe.hear(), json!({"hello": {"n": 1}}));
}

#[test]
fn refusals_have_codes_and_harm_nothing() {
    let server = Server::start();
    let mut client = client(&server);
    let code = |answered: Result<(), Error>| answered.unwrap_err().code();
    client.open_channel("news").unwrap();
    assert_eq!(code(client.open_channel("no name")), Some(451));
    assert_eq!(code(client.close_channel("nowhere")), Some(454));
    assert_eq!(code(client.members("nowhere").map(|_| ())), Some(454));
    assert_eq!(code(client.broadcast("nowhere", "hello", &json!({}))), Some(454));
    assert_eq!(code(client.broadcast("news", ":hello", &json!({}))), Some(400));
    assert_eq!(code(client.request_token("joe", "(").map(|_| ())), Some(400));
    assert_eq!(code(client.send_message("nobody", "hello", &json!({}))), Some(404));
    let refused = client.close_channel("nowhere").unwrap_err();
    assert_eq!(refused.to_string(), "454 Channel not found");
    client.close_channel("news").unwrap();
}

#[test]
fn who_has_no_valid_token_is_told_so() {
    let server = Server::start();
    for url in [server.url_with(&"0".repeat(40), "/world"), server.url_with("x", "/nowhere")] {
        let mut stranger = Client::new(&url).unwrap();
        for _ in 0..2 {
            assert_eq!(stranger.open_channel("news").unwrap_err().code(), Some(402));
        }
    }
    let mut client = client(&server);
    client.open_channel("news").unwrap();
    server.regenerate_token();
    for _ in 0..2 {
        assert_eq!(client.open_channel("news").unwrap_err().code(), Some(402));
    }
}

#[test]
fn a_late_answer_is_nobody_elses() {
    let server = Server::start();
    let mut client = client(&server);
    client.open_channel("presence-hall").unwrap();
    server.freeze();
    client = client.with_timeout(Duration::from_millis(100));
    for _ in 0..3 {
        let missed = client.request_token("joe", ".*");
        assert!(matches!(missed, Err(Error::Timeout(_))), "{missed:?}");
    }
    server.thaw();
    client = client.with_timeout(PATIENCE);
    assert_eq!(client.members("presence-hall").unwrap(), []);
}

#[test]
fn a_restarted_server_is_found_again() {
    let mut server = Server::start();
    let mut client = client(&server);
    client.open_channel("news").unwrap();
    server.restart();
    let closed = match client.close_channel("news") {
        // Whether the client has seen the old connection's end before it asks is chance.
        Err(Error::ConnectionLost(_)) => client.close_channel("news"),
        closed => closed,
    };
    closed.unwrap();
    assert_eq!(client.close_channel("news").unwrap_err().code(), Some(454));
}
