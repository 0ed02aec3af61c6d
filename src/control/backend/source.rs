//! Events of a backend's vhost, streamed as they come (`EventSource`).

use std::{
    convert::Infallible,
    fmt::Write,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{Extensions, header},
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use tokio::time::{Instant, Sleep, sleep};
use webrocket_state::command::VhostNotFound;

use super::query;
use crate::control::{
    line::Line,
    refusal::Refusal,
    request::{Control, Pass, Request},
    sources::{Event, Source, SourceRequest},
};

/// After how long without an event a comment shows that the stream is there: only a write finds
/// out that a client is not.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A comment, which `EventSource` passes over.
const COMMENT: &[u8] = b":\n\n";

/// `GET /<vhost>/events?filter=…&mode=…`: events as they come, from when the answer's head is there.
pub(super) async fn open(
    control: &Control,
    pass: Pass,
    query: &str,
    extensions: &Extensions,
) -> Result<Response, Refusal> {
    let [filter, mode] = query::some_of(query, ["filter", "mode"])?;
    let is_worker = match mode.as_deref() {
        None | Some("worker") => true,
        Some("stream") => false,
        Some(_) => return Err(Refusal::Invalid("the mode must be worker or stream".to_owned())),
    };
    let line = extensions.get::<Line>().cloned().unwrap_or_default();
    let request = SourceRequest { filter, is_worker, line: line.clone() };
    let sent = control.ask(|reply| Request::OpenSource(pass, request, reply)).await?;
    let (source, opened) = sent.reply().await?;
    opened.map_err(|VhostNotFound| Refusal::NoResource)?;
    line.make_stream();
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
    ];
    Ok((headers, Body::new(EventStream::new(source))).into_response())
}

/// The body of an answer: what a source yields, as lines of text.
struct EventStream {
    source: Source,
    heartbeat: Pin<Box<Sleep>>,
}

impl EventStream {
    /// Begins with a comment, so that something comes at once.
    fn new(source: Source) -> Self {
        Self { source, heartbeat: Box::pin(sleep(Duration::ZERO)) }
    }
}

impl HttpBody for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.source.poll_next(cx) {
            Poll::Ready(Some(event)) => Bytes::from(encoded(&event)),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                ready!(self.heartbeat.as_mut().poll(cx));
                Bytes::from_static(COMMENT)
            }
        };
        self.heartbeat.as_mut().reset(Instant::now() + HEARTBEAT);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// An event in the format of `EventSource`. Neither a name nor an object has line ends.
fn encoded(event: &Event) -> String {
    let trigger = &event.trigger;
    let mut text = String::with_capacity(trigger.bytes() + 40);
    let (id, name, object) = (event.id.0, trigger.event(), trigger.object());
    let _ = write!(text, "id: {id}\nevent: {name}\ndata: {object}\n\n");
    text
}
