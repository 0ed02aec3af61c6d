//! The HTTP Backend API, on the WebSocket port: what a vhost's backends ask of it.
//!
//! | resource | methods |
//! | --- | --- |
//! | `/<vhost>/channels/<name>` | `GET`, `POST`, `DELETE` |
//! | `/<vhost>/channels/<name>/events` | `POST`: broadcasts |
//! | `/<vhost>/sessions/<sid>/events` | `POST`: direct messages |
//! | `/<vhost>/events?filter=…&mode=…` | `GET`: what sessions trigger, as it comes |
//! | `/<vhost>/token?uid=…&channels=…` | `GET`: a single access token |
//! | `/<vhost>/webrocket.js`, `/webrocket.js` | `GET`, for everybody |
//!
//! A request is checked in this order, and the first that fails is the answer: the path (404), the
//! vhost (404), the method (405), the credentials (401), the length of the body (413), the rest.
//! Who is refused for what it sent hears so even while it still sends.
//!
//! This room keeps no state of vhosts, channels or sessions: the actor and the shards have it.
//!
//! Source: docs/protocol.md, "HTTP Backend API".

mod address;
mod answer;
mod body;
mod channels;
mod credentials;
mod events;
mod query;
mod script;
mod sessions;
mod source;
mod token;

use std::sync::Arc;

use axum::{
    extract::{Request as HttpRequest, State},
    http::{Method, header, request::Parts},
    response::{IntoResponse, Response},
};

use webrocket_wire::VhostPath;

#[cfg(any(test, fuzzing))]
pub(crate) use address::fuzz;

use super::{
    figures::ControlFigures,
    refusal::Refusal,
    request::{Control, Request, VhostView},
};
use address::{Address, Operation};
use body::{Bodies, Upload};

/// What the Backend API works with.
pub(super) struct Backend {
    control: Control,
    bodies: Bodies,
}

impl Backend {
    /// An API whose requests have bodies of at most `body_bytes_max` bytes.
    pub(super) fn new(control: Control, body_bytes_max: u32, figures: Arc<ControlFigures>) -> Self {
        Self { control, bodies: Bodies::new(body_bytes_max, figures) }
    }

    /// The way to the state's task.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    async fn answer(&self, head: &Parts, upload: &mut Upload) -> Result<Response, Refusal> {
        match Address::parse(head.uri.path()).ok_or(Refusal::NoResource)? {
            Address::Script(vhost) => {
                let preconfigured = vhost.is_some();
                if let Some(path) = vhost {
                    self.find(path).await?;
                }
                match head.method {
                    Method::GET | Method::HEAD => Ok(script::send(&head.headers, preconfigured)),
                    _ => Ok(no_method("GET,HEAD")),
                }
            }
            Address::Resource(path, resource) => {
                let view = self.find(path).await?;
                match resource.operation(&head.method) {
                    Ok(operation) => self.carry_out(&view, operation, head, upload).await,
                    Err(allowed) => Ok(no_method(allowed)),
                }
            }
        }
    }

    async fn carry_out(
        &self,
        view: &VhostView,
        operation: Operation,
        head: &Parts,
        upload: &mut Upload,
    ) -> Result<Response, Refusal> {
        let pass = credentials::admit(&head.headers, view)?;
        let body = self.bodies.read(upload).await?;
        let query = head.uri.query().unwrap_or_default();
        let control = &self.control;
        match operation {
            Operation::OpenChannel(name) => channels::open(control, pass, &view.vhost.path, &name).await,
            Operation::CloseChannel(name) => channels::close(control, pass, &name).await,
            Operation::ShowChannel(name) => channels::show(control, pass, &name).await,
            Operation::Broadcast(name) => channels::broadcast(control, pass, &name, &body).await,
            Operation::SendMessages(sid) => sessions::send(control, pass, &sid, &body).await,
            Operation::TakeEvents => source::open(control, pass, query, &head.extensions).await,
            Operation::IssueToken => token::issue(control, pass, query).await,
        }
    }

    async fn find(&self, path: VhostPath) -> Result<VhostView, Refusal> {
        self.control.ask(|reply| Request::ShowVhost(path, reply)).await
    }
}

fn no_method(allowed: &'static str) -> Response {
    ([(header::ALLOW, allowed)], Refusal::NoMethod).into_response()
}

/// Answers a request.
pub(super) async fn serve(State(backend): State<Arc<Backend>>, request: HttpRequest) -> Response {
    let (head, body) = request.into_parts();
    let mut upload = Upload::new(&head.headers, body);
    let answer = backend.answer(&head, &mut upload).await;
    upload.discard_rest();
    answer.into_response()
}

/// How many events the body of a request holds; `None` if it is refused. For `benches/parse.rs`.
#[must_use]
pub fn count_events(body: &[u8]) -> Option<usize> {
    events::parse(body).ok().map(|events| events.len())
}

#[cfg(test)]
mod tests;
