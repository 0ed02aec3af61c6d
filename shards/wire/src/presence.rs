//! Who is present on a channel: the data that subscribers show of themselves, and what others are told.
//!
//! Data is the sender's own bytes. Its members `uid` and `channel` are left out in favour of the
//! server's, so a subscriber can name itself only by what authenticated it.
//!
//! Source: docs/protocol.md, "Presence".

use std::{collections::HashSet, sync::Arc};

use crate::{
    frame::{self, Opcode},
    members,
    name::ChannelName,
};

/// The members of a subscriber's data as they are shown, separated by commas, without braces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberData(Option<Arc<str>>);

impl MemberData {
    /// Of `object`, the text of a JSON object that was checked to be one.
    #[must_use]
    pub fn new(object: &str) -> Self {
        Self::without(object, &["uid", "channel"])
    }

    /// Of the payload of `close`, where `ref` is not data either.
    #[must_use]
    pub fn of_close(payload: &str) -> Self {
        Self::without(payload, &["uid", "channel", "ref"])
    }

    fn without(object: &str, reserved: &[&str]) -> Self {
        Self::joined(&members::kept(object, reserved))
    }

    fn joined(members: &[&str]) -> Self {
        Self((!members.is_empty()).then(|| members.join(",").into()))
    }

    /// This data, overlaid by that of leaving: of members that both have the later ones are shown.
    #[must_use]
    pub fn overlaid_by(&self, leaving: &Self) -> Self {
        if leaving.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return leaving.clone();
        }
        let (joined, left) = (format!("{{{}}}", self.as_str()), format!("{{{}}}", leaving.as_str()));
        let over = members::of(&left);
        let newer: HashSet<_> = over.iter().map(members::Member::key).collect();
        let mut kept = members::of(&joined);
        kept.retain(|member| !newer.contains(&member.key()));
        let texts: Vec<_> = kept.iter().chain(&over).map(|member| member.text).collect();
        Self::joined(&texts)
    }

    /// The members, separated by commas.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// What stands before the members, behind others.
    fn comma(&self) -> &'static str {
        if self.is_empty() { "" } else { "," }
    }

    /// Whether nothing is shown but the `uid`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// A visible subscriber of a presence channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// By what others know it.
    pub uid: Arc<str>,
    /// What it shows of itself.
    pub data: MemberData,
}

/// Somebody has come to a presence channel, or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceChange {
    /// Which channel.
    pub channel: ChannelName,
    /// Who, with what is shown: of one who goes, overlaid by what it said at the end.
    pub member: Member,
    /// Whether it has come.
    pub has_joined: bool,
}

impl Member {
    /// Appends `{"uid":…,<data>}`.
    fn push_to(&self, list: &mut String) {
        list.push_str("{\"uid\":");
        // Lists are long: what needs no escape, as nearly all, is copied.
        if self.uid.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b'\\')) {
            list.push('"');
            list.push_str(&self.uid);
            list.push('"');
        } else {
            list.push_str(&quoted(&self.uid));
        }
        list.push_str(self.data.comma());
        list.push_str(self.data.as_str());
        list.push('}');
    }
}

/// Members as the elements of a JSON array, separated by commas, without brackets: `{"uid":…,<data>}`.
#[must_use]
pub fn list<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    let mut list = String::new();
    for member in members {
        if !list.is_empty() {
            list.push(',');
        }
        member.push_to(&mut list);
    }
    list
}

impl PresenceChange {
    /// Appends the frame `{":memberJoined":{"uid":…,"channel":C,<data>}}`, or with `:memberLeft`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Member { uid, data } = &self.member;
        let event = if self.has_joined { ":memberJoined" } else { ":memberLeft" };
        let uid = quoted(uid);
        let pieces = [
            "{\"",
            event,
            "\":{\"uid\":",
            &uid,
            ",\"channel\":\"",
            self.channel.as_str(),
            "\"",
            data.comma(),
            data.as_str(),
            "}}",
        ];
        frame::encode_pieces(out, Opcode::Text, &pieces);
    }
}

/// `text` as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn member(uid: &str, data: MemberData) -> Member {
        Member { uid: uid.into(), data }
    }

    #[test]
    fn data_cannot_name_its_subscriber() {
        let data = MemberData::new(r#"{ "a": 1.50, "uid":"x", "ch\u0061nnel":{}, "b":[ {"uid":2} ] }"#);
        let members = [member("j\"oe", data), member("joe", MemberData::new("{}"))];
        assert_eq!(list(&members), r#"{"uid":"j\"oe","a": 1.50,"b":[ {"uid":2} ]},{"uid":"joe"}"#);
        assert_eq!(list([]), "");
        assert_eq!(MemberData::of_close(r#"{"ref":1,"why":"bye"}"#).as_str(), r#""why":"bye""#);
    }

    #[test]
    fn members_come_and_go_byte_for_byte() {
        let channel: ChannelName = "presence-a".parse().unwrap();
        let encoded = |has_joined, data| {
            let mut out = Vec::new();
            PresenceChange { channel: channel.clone(), member: member("joe", data), has_joined }
                .encode(&mut out);
            String::from_utf8(out[2..].to_vec()).unwrap()
        };
        let (join, leave) = (MemberData::new(r#"{"a":1,"b":2}"#), MemberData::new(r#"{"\u0062":3,"c":4}"#));
        let left = join.overlaid_by(&leave);
        assert_eq!(
            encoded(true, join),
            r#"{":memberJoined":{"uid":"joe","channel":"presence-a","a":1,"b":2}}"#
        );
        assert_eq!(
            encoded(false, left),
            r#"{":memberLeft":{"uid":"joe","channel":"presence-a","a":1,"\u0062":3,"c":4}}"#
        );
        assert_eq!(
            encoded(false, MemberData::default()),
            r#"{":memberLeft":{"uid":"joe","channel":"presence-a"}}"#
        );
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        let key = prop_oneof!["[a-c\"\\\\é]{0,2}", Just("uid".to_owned()), Just("channel".to_owned())];
        proptest::collection::btree_map(key, any::<i32>().prop_map(Value::from), 0..5)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn overlaying_means_what_serde_json_says(joined in object(), left in object()) {
            let data = |object: &Map<String, Value>| MemberData::new(&serde_json::to_string(object).unwrap());
            let shown = data(&joined).overlaid_by(&data(&left));
            let mut expected = joined;
            expected.extend(left);
            expected.remove("channel");
            expected.insert("uid".to_owned(), "joe".into());
            let entry: Value = serde_json::from_str(&list(&[member("joe", shown)])).unwrap();
            prop_assert_eq!(entry, Value::Object(expected));
        }
    }
}
