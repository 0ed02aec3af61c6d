//! What holds of any text that an event may say.

use super::*;
use crate::json::fuzz::members_by_serde_json;

const SID: Uuid = Uuid::from_u128(0x6d5f_2f8e_5b8f_4c59_9b8f_3b1d_5a0f_6f4e);

/// If `text` is JSON, a broadcast and a direct message of it are objects with its members and the server's.
pub(crate) fn members_are_spliced_as_they_stand(text: &str) {
    let data = Data::parse(text);
    assert_eq!(data.map(Data::text), Json::parse(text).map(Json::text));
    let Ok(data) = data else { return };
    let (event, channel) =
        (Json::parse("\"e\"").expect("a string is JSON"), "world".parse().expect("a channel's name"));
    let mut expected = match members_by_serde_json(data.text()) {
        Some(members) => members,
        None => vec![("\"data\"", data.text())],
    };
    expected.retain(|(key, _)| {
        !serde_json::from_str::<String>(key).is_ok_and(|key| key == "channel" || key == "sid")
    });
    is_delivered(&Publication::direct(event, Some(data)), &expected);
    let sid = format!("\"{SID}\"");
    expected.extend([("\"channel\"", "\"world\""), ("\"sid\"", &sid)]);
    is_delivered(&Publication::new(event, Some(data), &channel, Some(SID)), &expected);
}

/// One frame holds the event `e` with these members.
fn is_delivered(publication: &Publication<'_>, expected: &[(&str, &str)]) {
    let (mut frame, mut shared) = (Vec::new(), Vec::new());
    publication.encode(&mut frame);
    publication.share().parts().encode(&mut shared);
    assert_eq!(shared, frame, "a copy says the same");
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    assert_eq!(frame::encoded_length(&frame), frame.len());
    let text = std::str::from_utf8(&frame[header..]).expect("a text frame holds text");
    let message = members_by_serde_json(text).expect("a message is an object");
    let [("\"e\"", payload)] = message[..] else { panic!("{text} is not one event") };
    assert_eq!(members_by_serde_json(payload).as_deref(), Some(expected), "{text}");
}
