use proptest::prelude::*;

use super::*;
use crate::json::{DEPTH_MAX, tests as json};

fn fields(text: &str) -> Fields<'_> {
    match ClientMessage::parse(text).unwrap().payload {
        Payload::Object(fields) => fields,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_key_is_the_event() {
    let message = ClientMessage::parse(r#" {"broadcast":{"event":"e","x":[1],"data":{"a":1}},"more":null} "#);
    let message = message.unwrap();
    assert_eq!(message.event, "broadcast");
    let Payload::Object(fields) = message.payload else { panic!() };
    assert_eq!(fields.event.map(Json::text), Some(r#""e""#));
    assert_eq!(fields.data.map(Data::text), Some(r#"{"a":1}"#));
    assert!(fields.channel.is_none());
    assert_eq!(ClientMessage::parse(r#"{"subscr\u0069be":{}}"#).unwrap().event, "subscribe");
}

#[test]
fn payloads_of_every_type() {
    let payload = |text: &'static str| ClientMessage::parse(text).unwrap().payload;
    assert!(matches!(payload(r#"{"e":true}"#), Payload::True));
    for other in
        [r#"{"e":false}"#, r#"{"e":null}"#, r#"{"e":-1}"#, r#"{"e":1.5}"#, r#"{"e":"x"}"#, r#"{"e":[{}]}"#]
    {
        assert!(matches!(payload(other), Payload::Other), "{other}");
    }
}

#[test]
fn malformed_messages() {
    for bad in [
        "",
        "{}",
        "[]",
        "1",
        "\"x\"",
        "nul",
        "{\"a\":}",
        "{\"a\":1}x",
        "{\"a\":1,}",
        "{'a':1}",
        "{\"a\":\u{1}}",
    ] {
        assert_eq!(ClientMessage::parse(bad).unwrap_err(), MalformedMessage, "{bad}");
    }
}

#[test]
fn what_nobody_needs_to_know_may_be_anything() {
    for text in [
        r#"{"e":1e999}"#,
        r#"{"e":"\ud800"}"#,
        r#"{"e":[1e999,"\ud800"]}"#,
        r#" {"e":{"\ud800":1,"data":[1e999],"\udfff":{"\ud800":2}},"\ud800":"\ud800"} "#,
        r#"{"e":1,"x":1e999}"#,
    ] {
        assert_eq!(ClientMessage::parse(text).unwrap().event, "e", "{text}");
    }
    let data = fields(r#"{"e":{"\ud800":1,"d\u0061ta":[1e999]}}"#).data;
    assert_eq!(data.map(Data::text), Some("[1e999]"));
    for text in [r#"{"\ud800":1}"#, r#"{"e":1e}"#, r#"{"e":"\ud80"}"#, r#"{"e":1e999}x"#] {
        assert_eq!(ClientMessage::parse(text).unwrap_err(), MalformedMessage, "{text}");
    }
}

#[test]
fn of_a_doubled_key_the_last_counts() {
    assert_eq!(fields(r#"{"e":{"channel":"a","channel":"b"}}"#).channel.map(Json::text), Some(r#""b""#));
}

#[test]
fn strings_are_unescaped_where_needed() {
    let channel = |text| fields(text).channel.and_then(Json::string).map(Cow::into_owned);
    assert_eq!(channel(r#"{"e":{"channel":"a"}}"#).as_deref(), Some("a"));
    assert_eq!(channel(r#"{"e":{"channel":"\u0061"}}"#).as_deref(), Some("a"));
    assert_eq!(channel(r#"{"e":{"channel":"\ud800"}}"#), None);
    assert_eq!(channel(r#"{"e":{"channel":["a"]}}"#), None);
}

#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    assert!(ClientMessage::parse(&nested(DEPTH_MAX)).is_ok());
    assert!(ClientMessage::parse(&nested(DEPTH_MAX + 1)).is_err());
    let arrays = format!("{{\"e\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(ClientMessage::parse(&arrays).is_err());
    let flat = format!("{{\"e\":[{}{{}}]}}", "{},".repeat(500));
    assert!(ClientMessage::parse(&flat).is_ok());
    let in_text = format!("{{\"e\":\"\\\"{}\"}}", "[".repeat(500));
    assert!(ClientMessage::parse(&in_text).is_ok());
}

#[test]
fn each_element_is_taken_apart() {
    let each = |text| {
        let mut taken = Vec::new();
        let is_array = Payload::each(text, |payload| {
            taken.push(match payload {
                Payload::Object(fields) => fields.event.map(Json::text),
                Payload::True => Some("true"),
                Payload::Other => None,
            });
        });
        (is_array, taken)
    };
    assert_eq!(each(r#" {"event":[1]} "#), (Ok(false), vec![Some("[1]")]));
    assert_eq!(
        each(r#"[{"event":1}, true,[{"event":2}],{} ]"#),
        (Ok(true), vec![Some("1"), Some("true"), None, None])
    );
    assert_eq!(each("[]"), (Ok(true), vec![]));
    for text in ["", "[1", "[1,]", "1 2", "[1]]", "{\"event\"}"] {
        assert_eq!(each(text).0, Err(NotJson::Malformed), "{text}");
    }
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Payload::each(&deep(DEPTH_MAX), drop).is_ok());
    assert_eq!(Payload::each(&deep(DEPTH_MAX + 1), drop), Err(NotJson::TooDeep));
}

proptest! {
    #[test]
    fn messages_mean_what_serde_json_says(text in json::message()) {
        fuzz::serde_json_says_the_same(&text);
    }
}
