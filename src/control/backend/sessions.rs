//! Direct messages to sessions of a backend's vhost.

use axum::response::Response;
use uuid::Uuid;
use webrocket_wire::Publication;

use super::{
    answer::accepted,
    events::{self, WINDOW},
};
use crate::control::{
    refusal::Refusal,
    request::{Control, Pass, Request},
};

/// `POST /<vhost>/sessions/<sid>/events`: accepted once all events are among what the session is
/// sent. A session that ends while they are sent may have received the first of them.
pub(super) async fn send(control: &Control, pass: Pass, sid: &str, body: &[u8]) -> Result<Response, Refusal> {
    let events = events::parse(body)?;
    let missing = || Refusal::NoSession(sid.to_owned());
    let session = parsed(sid).ok_or_else(missing)?;
    for window in events.chunks(WINDOW) {
        let messages =
            window.iter().map(|event| Publication::direct(event.name, event.data).share()).collect();
        let sent = |reply| Request::SendMessages(pass, session, messages, reply);
        let replies = control.ask_shards(sent).await?;
        let received = replies.iter().filter(|reply| reply.is_ok()).count();
        if received < window.len() {
            return Err(missing());
        }
    }
    Ok(accepted())
}

/// A session's identifier, as sessions are told it.
fn parsed(sid: &str) -> Option<Uuid> {
    (sid.len() == uuid::fmt::Hyphenated::LENGTH).then(|| Uuid::try_parse(sid).ok()).flatten()
}
