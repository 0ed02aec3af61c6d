//! What HTTP handlers ask of the task that owns the node's state.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;
use webrocket_state::{Settings, Vhost, VhostId, message::Outcome};
use webrocket_wire::{
    AccessToken, BackendKey, ChannelName, Rights, SharedPublication, SingleAccessToken, UserName, VhostPath,
};

use super::{
    refusal::Refusal,
    sources::{Source, SourceRequest},
    tokens::TokenRequest,
};
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
    RegenerateToken(VhostPath, Reply<Sent<VhostView>>),
    ListKeys(VhostPath, Reply<Arc<BTreeSet<BackendKey>>>),
    AddKey(VhostPath, BackendKey, Reply<Sent<()>>),
    RemoveKey(VhostPath, BackendKey, Reply<Sent<()>>),
    AddUser(VhostPath, NewUser, Reply<Sent<VhostView>>),
    ChangeUser(VhostPath, UserName, UserChange, Reply<Sent<VhostView>>),
    RemoveUser(VhostPath, UserName, Reply<Sent<()>>),
    ChangeSettings(VhostPath, SettingsChange, Reply<Sent<Settings>>),
    ListChannels(VhostPath, Reply<Sent<()>>),
    DescribeChannel(Caller, ChannelName, Reply<Sent<()>>),
    ChangeChannel {
        caller: Caller,
        channel: ChannelName,
        open: bool,
        reply: Reply<()>,
    },
    IssueToken(Caller, TokenRequest, Reply<SingleAccessToken>),
    /// Broadcasts on a channel, one after the other, at least one. Its owner's outcome for each.
    Publish(Pass, ChannelName, Vec<SharedPublication>, Reply<Sent<()>>),
    /// Direct messages to one session, at least one. Every shard's outcome for each.
    SendMessages(Pass, Uuid, Vec<SharedPublication>, Reply<Sent<()>>),
    /// Takes a vhost's events. The exchange's outcome.
    OpenSource(Pass, SourceRequest, Reply<Sent<Source>>),
    ListWorkers(VhostPath, Reply<Sent<()>>),
    ShowQueue(VhostPath, Reply<Sent<()>>),
}

impl Request {
    /// Whether it waits until the changes before it are stored.
    pub(super) fn is_stored(&self) -> bool {
        match self {
            Self::AddVhost(..)
            | Self::RemoveVhost(..)
            | Self::RegenerateToken(..)
            | Self::AddKey(..)
            | Self::RemoveKey(..)
            | Self::AddUser(..)
            | Self::ChangeUser(..)
            | Self::RemoveUser(..)
            | Self::ChangeSettings(..) => true,
            // Changes of channels wait for each other, and are stored together.
            Self::ChangeChannel { .. }
            | Self::ListVhosts(_)
            | Self::ShowVhost(..)
            | Self::ListKeys(..)
            | Self::ListChannels(..)
            | Self::DescribeChannel(..)
            | Self::IssueToken(..)
            | Self::Publish(..)
            | Self::SendMessages(..)
            | Self::OpenSource(..)
            | Self::ListWorkers(..)
            | Self::ShowQueue(..) => false,
        }
    }
}

/// Who asks for something of a vhost.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// An operator, of the vhost at this path.
    Operator(VhostPath),
    /// A backend.
    Backend(Pass),
}

/// What a backend carries that has presented its vhost's access token. It is looked at again when
/// its request is carried out: a token that was regenerated meanwhile opens nothing any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    pub(super) vhost: VhostId,
    pub(super) token: AccessToken,
}

impl Pass {
    /// The pass of a backend whose token is that of the vhost.
    pub(super) fn new(vhost: VhostId, token: AccessToken) -> Self {
        Self { vhost, token }
    }
}

impl From<VhostPath> for Caller {
    fn from(path: VhostPath) -> Self {
        Self::Operator(path)
    }
}

impl From<Pass> for Caller {
    fn from(pass: Pass) -> Self {
        Self::Backend(pass)
    }
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

/// Something that is stored and was sent to shards and the exchange, but perhaps not carried out
/// there yet.
pub(super) struct Sent<T> {
    pub(super) value: T,
    /// The outcomes of all who were told, once all have reported.
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

    /// Asks for a change, and waits until it is in effect everywhere.
    pub(super) async fn change<T>(
        &self,
        request: impl FnOnce(Reply<Sent<T>>) -> Request,
    ) -> Result<T, Refusal> {
        let sent = self.ask(request).await?;
        sent.applied.await.map_err(|_| Refusal::Stopping)?;
        Ok(sent.value)
    }

    /// Asks shards or the exchange, and waits for what they say.
    pub(super) async fn ask_shards(
        &self,
        request: impl FnOnce(Reply<Sent<()>>) -> Request,
    ) -> Result<Vec<Outcome>, Refusal> {
        let sent = self.ask(request).await?;
        sent.applied.await.map_err(|_| Refusal::Stopping)
    }
}
