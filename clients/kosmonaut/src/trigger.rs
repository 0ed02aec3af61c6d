//! Triggers as handlers see them.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// An event that a browser triggered.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// The event's name.
    pub event: String,
    /// The members that the browser sent; what was no object is the member `data`.
    pub data: Map<String, Value>,
    /// The browser's session, to answer it with [`crate::Client::send_message`].
    pub sid: Option<String>,
    /// Who it is, if it is authenticated.
    pub uid: Option<String>,
    /// The channel, if the trigger came with a broadcast.
    pub channel: Option<String>,
}

impl Trigger {
    /// The data as a type of yours.
    ///
    /// # Errors
    /// The data has another shape; as the error of a handler it gives the trigger to another worker.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(Value::Object(self.data.clone()))
    }

    /// Reads `{"<event>":{…}}`; `None` for anything else.
    pub(crate) fn from_payload(payload: &[u8]) -> Option<Self> {
        let decoded: Map<String, Value> = serde_json::from_slice(payload).ok()?;
        let mut events = decoded.into_iter();
        let (Some((event, Value::Object(mut data))), None) = (events.next(), events.next()) else {
            return None;
        };
        // The server lets no browser use these names.
        let mut own = |name| match data.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (sid, uid, channel) = (own("sid"), own("uid"), own("channel"));
        Some(Self { event, data, sid, uid, channel })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn the_servers_members_are_told_apart() {
        let payload = br#"{"job":{"n":1,"sid":"s","uid":"u","channel":"c"}}"#;
        let trigger = Trigger::from_payload(payload).unwrap();
        assert_eq!(trigger.event, "job");
        assert_eq!(Value::Object(trigger.data.clone()), serde_json::json!({"n": 1}));
        let own = [trigger.sid.as_deref(), trigger.uid.as_deref(), trigger.channel.as_deref()];
        assert_eq!(own, [Some("s"), Some("u"), Some("c")]);

        #[derive(Deserialize)]
        struct Job {
            n: u32,
        }
        assert_eq!(trigger.parse::<Job>().unwrap().n, 1);
        assert!(trigger.parse::<Vec<u32>>().is_err());
        let bare = Trigger::from_payload(br#"{"job":{"sid":"s"}}"#).unwrap();
        assert_eq!((bare.uid, bare.channel, bare.data.len()), (None, None, 0));
    }

    #[test]
    fn what_is_no_trigger_is_none() {
        for payload in ["", "1", "{}", "[]", r#"{"a":1}"#, r#"{"a":{},"b":{}}"#, r#"{"a":{}"#] {
            assert_eq!(Trigger::from_payload(payload.as_bytes()), None, "{payload}");
        }
    }
}
