//! What HTTP handlers ask of the task that owns the node's state.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use webrocket_state::{Settings, Vhost, message::Outcome};
use webrocket_wire::{AccessToken, ChannelName, Rights, SingleAccessToken, UserName, VhostPath};

use super::{refusal::Refusal, tokens::TokenRequest};
use crate::store::SecretHash;

/// Requests that may wait for the state's task. Further handlers wait for room.
pub(super) const REQUESTS_MAX: usize = 256;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// A request to the task that owns the state.
pub(super) enum Request {
    ListVhosts(Reply<Vec<VhostView>>),
    ShowVhost(VhostPath, Reply<VhostView>),
    AddVhost(VhostPath, Reply<Sent<VhostView>>),
    RemoveVhost(VhostPath, Reply<Sent<()>>),
    RegenerateToken(VhostPath, Reply<VhostView>),
    AddUser(VhostPath, NewUser, Reply<Sent<VhostView>>),
    ChangeUser(VhostPath, UserName, UserChange, Reply<Sent<VhostView>>),
    RemoveUser(VhostPath, UserName, Reply<Sent<()>>),
    ChangeSettings(VhostPath, SettingsChange, Reply<Sent<Settings>>),
    ListChannels(VhostPath, Reply<Sent<()>>),
    DescribeChannel(VhostPath, ChannelName, Reply<Sent<()>>),
    ChangeChannel { vhost: VhostPath, channel: ChannelName, open: bool, reply: Reply<()> },
    IssueToken(VhostPath, TokenRequest, Reply<SingleAccessToken>),
}

/// A vhost as operators see it.
#[derive(Debug, Clone)]
pub(super) struct VhostView {
    /// What the shards know.
    pub(super) vhost: Arc<Vhost>,
    /// The credential of its backends.
    pub(super) token: AccessToken,
}

/// A user that is to be added.
#[derive(Debug)]
pub(super) struct NewUser {
    pub(super) name: UserName,
    pub(super) rights: Rights,
    pub(super) secret: Option<SecretHash>,
}

/// What is to change of a user.
#[derive(Debug)]
pub(super) struct UserChange {
    pub(super) rights: Option<Rights>,
    /// A new secret, or none any more.
    pub(super) secret: Option<Option<SecretHash>>,
}

/// Settings by name with their new values; the others stay.
pub(super) type SettingsChange = serde_json::Map<String, serde_json::Value>;

/// Something that is stored and was sent to shards, but perhaps not carried out there yet.
pub(super) struct Sent<T> {
    pub(super) value: T,
    /// Every shard's outcome, once all have reported.
    pub(super) applied: oneshot::Receiver<Vec<Outcome>>,
}

/// The handlers' way to the state's task.
#[derive(Debug, Clone)]
pub(super) struct Control(mpsc::Sender<Request>);

impl Control {
    pub(super) fn new(requests: mpsc::Sender<Request>) -> Self {
        Self(requests)
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.map_err(|_| Refusal::Stopping)?;
        answer.await.map_err(|_| Refusal::Stopping)?
    }

    /// Asks for a change, and waits until it is in effect on every shard.
    pub(super) async fn change<T>(
        &self,
        request: impl FnOnce(Reply<Sent<T>>) -> Request,
    ) -> Result<T, Refusal> {
        let sent = self.ask(request).await?;
        sent.applied.await.map_err(|_| Refusal::Stopping)?;
        Ok(sent.value)
    }

    /// Asks the shards, and waits for what they say.
    pub(super) async fn ask_shards(
        &self,
        request: impl FnOnce(Reply<Sent<()>>) -> Request,
    ) -> Result<Vec<Outcome>, Refusal> {
        let sent = self.ask(request).await?;
        sent.applied.await.map_err(|_| Refusal::Stopping)
    }
}
