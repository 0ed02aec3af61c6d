//! What HTTP handlers ask of the task that owns the node's state.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;
use webrocket_state::{
    Settings, Vhost, VhostId,
    command::{ChannelInfo, Described, Found, Heard},
    exchange::{
        WorkerInfo,
        message::{QueueShown, SourceOpened},
    },
};
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
    ListChannels(VhostPath, Reply<Sent<(), Vec<ChannelInfo>>>),
    DescribeChannel(Caller, ChannelName, Reply<Sent<(), Described>>),
    ChangeChannel {
        caller: Caller,
        channel: ChannelName,
        open: bool,
        reply: Reply<()>,
    },
    IssueToken(Caller, TokenRequest, Reply<SingleAccessToken>),
    /// Broadcasts on a channel, one after the other, at least one. Its owner's reply to each.
    Publish(Pass, ChannelName, Vec<SharedPublication>, Reply<Sent<(), Found>>),
    /// Direct messages to one session, at least one. Every shard's reply to each.
    SendMessages(Pass, Uuid, Vec<SharedPublication>, Reply<Sent<(), Heard>>),
    /// Takes a vhost's events. The exchange's reply.
    OpenSource(Pass, SourceRequest, Reply<Sent<Source, SourceOpened>>),
    ListWorkers(VhostPath, Reply<Sent<(), Vec<WorkerInfo>>>),
    ShowQueue(VhostPath, Reply<Sent<(), QueueShown>>),
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

/// Something that was sent to shards or the exchange, stored before if it is a change, but perhaps not carried out
/// there yet.
pub(super) struct Sent<T, R = ()> {
    pub(super) value: T,
    /// What all who were told reply, once all have.
    pub(super) replies: oneshot::Receiver<Vec<R>>,
}

impl<T, R> Sent<T, R> {
    /// Waits for what all reply.
    pub(super) async fn replies(self) -> Result<(T, Vec<R>), Refusal> {
        let replies = self.replies.await.map_err(|_| Refusal::Stopping)?;
        Ok((self.value, replies))
    }

    /// Waits for the one reply.
    pub(super) async fn reply(self) -> Result<(T, R), Refusal> {
        let (value, replies) = self.replies().await?;
        let reply = replies.into_iter().next().ok_or(Refusal::Stopping)?;
        Ok((value, reply))
    }
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
        let (value, _) = self.ask(request).await?.replies().await?;
        Ok(value)
    }

    /// Asks shards, and waits for what all of them reply.
    pub(super) async fn ask_shards<R>(
        &self,
        request: impl FnOnce(Reply<Sent<(), R>>) -> Request,
    ) -> Result<Vec<R>, Refusal> {
        let ((), replies) = self.ask(request).await?.replies().await?;
        Ok(replies)
    }

    /// Asks a channel's owner or the exchange, and waits for the reply.
    pub(super) async fn ask_one<R>(
        &self,
        request: impl FnOnce(Reply<Sent<(), R>>) -> Request,
    ) -> Result<R, Refusal> {
        let ((), reply) = self.ask(request).await?.reply().await?;
        Ok(reply)
    }
}
