//! The events in a request's body: all checked before the first of them is sent.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use webrocket_wire::{
    EventName,
    message::{self, DEPTH_MAX, Fields, Payload, is_deeper_than},
};

use crate::control::refusal::Refusal;

/// One event, as slices of the body.
#[derive(Debug)]
pub(super) struct Event<'a> {
    /// A JSON string that holds an event's name.
    pub(super) name: &'a RawValue,
    pub(super) data: Option<&'a RawValue>,
}

/// The events of a body: one `{"event":E,"data":D}` or `{"trigger":{"event":E,"data":D}}`, or an
/// array of them, in its order.
///
/// Of a member that stands twice the last counts; further members are ignored.
///
/// # Errors
/// What is wrong, and with which element.
pub(super) fn parse(body: &[u8]) -> Result<Vec<Event<'_>>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| invalid("the body is no UTF-8 text"))?;
    if is_deeper_than(text, DEPTH_MAX) {
        return Err(Refusal::Invalid(format!("the body is nested deeper than {DEPTH_MAX}")));
    }
    let is_array = text.trim_ascii_start().starts_with('[');
    if !is_array {
        return json(text).and_then(Form::event).map(|event| vec![event]);
    }
    let forms: Vec<Form<'_>> = json(text)?;
    let events = forms.into_iter().enumerate().map(|(index, form)| {
        form.event().map_err(|refusal| Refusal::Invalid(format!("element [{index}]: {refusal}")))
    });
    events.collect()
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| Refusal::Invalid(format!("the body is no JSON: {error}")))
}

fn invalid(sentence: &str) -> Refusal {
    Refusal::Invalid(sentence.to_owned())
}

/// What stands where an event should, read as far as it may be one.
enum Form<'a> {
    Object { event: Option<&'a RawValue>, data: Option<&'a RawValue>, trigger: Option<&'a RawValue> },
    Other,
}

impl<'de> Deserialize<'de> for Form<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Payload::deserialize(deserializer)? {
            Payload::Object(Fields { event, data, trigger, .. }) => Self::Object { event, data, trigger },
            Payload::True | Payload::Other => Self::Other,
        })
    }
}

impl<'a> Form<'a> {
    fn event(self) -> Result<Event<'a>, Refusal> {
        match self {
            Self::Object { event, data, trigger: None } => checked(event, data),
            Self::Object { event: None, trigger: Some(trigger), .. } => match json(trigger.get())? {
                Self::Object { event, data, .. } => checked(event, data),
                Self::Other => Err(invalid("the trigger is no object")),
            },
            Self::Object { event: Some(_), trigger: Some(_), .. } => {
                Err(invalid("there must be an event or a trigger, not both"))
            }
            Self::Other => Err(invalid("an event must be an object")),
        }
    }
}

fn checked<'a>(name: Option<&'a RawValue>, data: Option<&'a RawValue>) -> Result<Event<'a>, Refusal> {
    let name = name.ok_or_else(|| invalid("the event's name is missing"))?;
    let text = message::string(name).ok_or_else(|| invalid("the event's name is no text"))?;
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
        let events = parse(body.as_bytes()).map_err(|refusal| refusal.to_string())?;
        let text = |raw: &RawValue| raw.get().to_owned();
        Ok(events.iter().map(|event| (text(event.name), event.data.map(text))).collect())
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

    proptest! {
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
