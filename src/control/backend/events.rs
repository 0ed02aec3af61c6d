//! The events in a request's body: all checked before the first of them is sent.

use serde::de::IgnoredAny;
use webrocket_wire::{
    Data, EventName, Json,
    json::{DEPTH_MAX, NotJson},
    message::{Fields, Payload},
};

use crate::control::refusal::Refusal;

/// Events of one request that are on their way to shards at the same moment.
pub(super) const WINDOW: usize = 64;

/// One event, as slices of the body.
#[derive(Debug)]
pub(super) struct Event<'a> {
    /// A JSON string that holds an event's name.
    pub(super) name: Json<'a>,
    pub(super) data: Option<Data<'a>>,
}

/// The events of a body: one `{"event":E,"data":D}` or `{"trigger":{"event":E,"data":D}}`, or an
/// array of them, in its order.
///
/// Of a member that stands twice the last counts; further members are ignored. The body is read
/// once, but a trigger twice.
///
/// # Errors
/// What is wrong, and with which element.
pub(super) fn parse(body: &[u8]) -> Result<Vec<Event<'_>>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| invalid("the body is no UTF-8 text"))?;
    let (mut events, mut refused) = (Vec::new(), None);
    let is_array = Payload::each(text, |form| {
        if refused.is_none() {
            match event(&form) {
                Ok(event) => events.push(event),
                Err(refusal) => refused = Some(refusal),
            }
        }
    })
    .map_err(|error| refusal(text, error))?;
    match refused {
        None => Ok(events),
        Some(refusal) if is_array => Err(Refusal::Invalid(format!("element [{}]: {refusal}", events.len()))),
        Some(refusal) => Err(refusal),
    }
}

/// What is wrong with a body that is no JSON, and where.
fn refusal(text: &str, error: NotJson) -> Refusal {
    Refusal::Invalid(match (error, serde_json::from_str::<IgnoredAny>(text)) {
        (NotJson::TooDeep, _) => format!("the body is nested deeper than {DEPTH_MAX}"),
        (NotJson::Malformed, Err(error)) => format!("the body is no JSON: {error}"),
        (NotJson::Malformed, Ok(_)) => "the body is no JSON".to_owned(),
    })
}

fn invalid(sentence: &str) -> Refusal {
    Refusal::Invalid(sentence.to_owned())
}

fn event<'a>(form: &Payload<'a>) -> Result<Event<'a>, Refusal> {
    match *form {
        Payload::Object(Fields { event, data, trigger: None, .. }) => checked(event, data),
        Payload::Object(Fields { event: None, trigger: Some(trigger), .. }) => match Payload::new(trigger) {
            Payload::Object(Fields { event, data, .. }) => checked(event, data),
            Payload::True | Payload::Other => Err(invalid("the trigger is no object")),
        },
        Payload::Object(Fields { event: Some(_), trigger: Some(_), .. }) => {
            Err(invalid("there must be an event or a trigger, not both"))
        }
        Payload::True | Payload::Other => Err(invalid("an event must be an object")),
    }
}

fn checked<'a>(name: Option<Json<'a>>, data: Option<Data<'a>>) -> Result<Event<'a>, Refusal> {
    let name = name.ok_or_else(|| invalid("the event's name is missing"))?;
    let text = name.string().ok_or_else(|| invalid("the event's name is no text"))?;
    EventName::check(&text)
        .map_err(|error| Refusal::Invalid(format!("{text:?} is no event name: {error}")))?;
    Ok(Event { name, data })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs = Vec<(String, Option<String>)>;

    fn parsed(body: &str) -> Result<Pairs, String> {
        texts(parse(body.as_bytes()))
    }

    fn texts(events: Result<Vec<Event<'_>>, Refusal>) -> Result<Pairs, String> {
        let text =
            |event: &Event<'_>| (event.name.text().to_owned(), event.data.map(|data| data.text().to_owned()));
        Ok(events.map_err(|refusal| refusal.to_string())?.iter().map(text).collect())
    }

    fn events(pairs: &[(&str, Option<&str>)]) -> Result<Pairs, String> {
        Ok(pairs.iter().map(|(name, data)| (format!("{name:?}"), data.map(str::to_owned))).collect())
    }

    #[test]
    fn events_stand_alone_or_in_arrays() {
        assert_eq!(
            parsed(r#" {"event":"a","data":{ "x": 1.50 }} "#),
            events(&[("a", Some(r#"{ "x": 1.50 }"#))])
        );
        assert_eq!(parsed(r#"{"trigger":{"event":"a","data":null}}"#), events(&[("a", Some("null"))]));
        assert_eq!(
            parsed("\n[{\"event\":\"a\"}, {\"trigger\":{\"data\":[],\"event\":\"b\"}}, {\"event\":\"a\"}]"),
            events(&[("a", None), ("b", Some("[]")), ("a", None)])
        );
        assert_eq!(parsed("[]"), events(&[]));
        assert_eq!(
            parsed(r#"{"event":":x","more":{},"event":"a"}"#),
            events(&[("a", None)]),
            "the last counts"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (body, sentence) in [
            ("", "the body is no JSON: EOF while parsing a value at line 1 column 0"),
            ("{\"event\":\"a\"}x", "the body is no JSON: trailing characters at line 1 column 14"),
            ("1", "an event must be an object"),
            ("{}", "the event's name is missing"),
            (r#"{"data":1}"#, "the event's name is missing"),
            (r#"{"event":null}"#, "the event's name is no text"),
            (r#"{"event":"\ud800"}"#, "the event's name is no text"),
            (r#"{"event":""}"#, "\"\" is no event name: the name is empty"),
            (r#"{"event":"\u003ax"}"#, "\":x\" is no event name: the name is reserved"),
            (r#"{"trigger":"a"}"#, "the trigger is no object"),
            (r#"{"trigger":{"trigger":{"event":"a"}}}"#, "the event's name is missing"),
            (r#"{"event":"a","trigger":{"event":"a"}}"#, "there must be an event or a trigger, not both"),
            (r#"[{"event":"a"},[]]"#, "element [1]: an event must be an object"),
            (
                r#"[{"event":"a"},{"event":"err"}]"#,
                "element [1]: \"err\" is no event name: the name is reserved",
            ),
        ] {
            assert_eq!(parsed(body), Err(sentence.to_owned()), "{body}");
        }
        assert_eq!(parse(b"{\"event\":\"\xff\"}").unwrap_err(), invalid("the body is no UTF-8 text"));
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| {
            format!(r#"[{{"event":"a","data":{}{}}}]"#, "[".repeat(depth - 2), "]".repeat(depth - 2))
        };
        assert!(parsed(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(parsed(&nested(DEPTH_MAX + 1)), Err("the body is nested deeper than 128".to_owned()));
        assert!(parsed(&nested(100_000)).is_err());
        assert!(parsed(&format!(r#"{{"event":"a","data":"\"{}"}}"#, "[".repeat(500))).is_ok());
    }

    /// What [`parse`] does, part by part: the body is checked, cut into elements, and each taken apart.
    fn parsed_in_parts(body: &str) -> Result<Pairs, String> {
        let parse = || {
            let json = Json::parse(body).map_err(|error| refusal(body, error))?;
            let Some(elements) = json.elements() else { return Ok(vec![event(&Payload::new(json))?]) };
            let events = elements.into_iter().enumerate().map(|(index, element)| {
                event(&Payload::new(element))
                    .map_err(|refusal| Refusal::Invalid(format!("element [{index}]: {refusal}")))
            });
            events.collect()
        };
        texts(parse())
    }

    proptest! {
        #[test]
        fn a_body_read_once_is_read_alike(
            body in "[\\[\\]{}\":,a1\\\\ ]{0,40}|\\[?(\\{(\"(event|data|trigger|da\\\\u0074a)\":(\"(a|err|)\"|1|\\{\"event\":\"a\"\\}|\\[\\{\\}\\]) ?,?){0,3}\\} ?,?|true,|\\[\\],){0,4}\\]?"
        ) {
            prop_assert_eq!(parsed(&body), parsed_in_parts(&body));
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&body);
        }

        #[test]
        fn what_is_taken_is_json(body in "[\\[\\]{}\":,a1\\\\]{0,40}|\\[?(\\{\"event\":\"a\"(,\"data\":[1\"{}]{1,4})?\\},?){0,3}\\]?") {
            if parse(body.as_bytes()).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
            }
        }
    }
}
