//! What clients ask, whom the exchange asks for them, and what they are told.

use std::sync::Arc;

use uuid::Uuid;
use webrocket_wire::{ChannelName, Member, Publication, Status, presence, wbp::ClientRequest};

use super::{
    Exchange, ExchangeFigure, ExchangeReport, Pass, PeerMessage, PeerName, Queued,
    client::Request,
    message::{ClientAnswer, ClientQuestion},
};
use crate::{
    command::{Changed, NotChanged},
    ids::{RequestRef, SessionRef, ShardId},
    message::{Answer, OwnerRequest},
    vhost::VhostId,
};

/// Requests.
impl Exchange {
    /// A client asks, or sends what is no message.
    pub(super) fn client_said(
        &mut self,
        name: &[u8],
        pass: Pass,
        peer: Option<SessionRef>,
        request: Result<ClientRequest<'_>, Status>,
    ) {
        self.figures.add(ExchangeFigure::ClientRequests, 1);
        let request = request.and_then(|request| self.checked(pass.vhost, request));
        // With nothing open an error need not wait for its turn.
        if let (Err(status), None) = (&request, peer) {
            return self.reply(name.into(), PeerMessage::Error(*status), 1);
        }
        let Some(session) = peer.or_else(|| self.peers.insert(name, pass)) else {
            return self.reply(name.into(), PeerMessage::Error(Status::TooManyRequests), 1);
        };
        self.figures.add(ExchangeFigure::ClientRequestsOpen, 1);
        self.peers.entry(session).expect("a known peer").requests.push(request);
        self.advance(session);
    }

    /// Checks names, and copies what is to be sent.
    fn checked(&self, vhost: VhostId, request: ClientRequest<'_>) -> Result<Request, Status> {
        let unknown = |_| Status::ChannelNotFound;
        Ok(match request {
            ClientRequest::OpenChannel(channel) => {
                Request::OpenChannel(channel.parse().map_err(|_| Status::InvalidChannelName)?)
            }
            ClientRequest::CloseChannel(channel) => Request::CloseChannel(channel.parse().map_err(unknown)?),
            ClientRequest::Broadcast { channel, event } => {
                let channel: ChannelName = channel.parse().map_err(unknown)?;
                let owner = self.config.directory.owner(vhost, &channel);
                let publication = Publication::new(event.name(), Some(event.data), &channel, None).share();
                Request::Broadcast { owner, channel, publication }
            }
            ClientRequest::IssueToken { uid, pattern } => {
                Request::Ask(ClientQuestion::IssueToken { uid: uid.into(), pattern: pattern.into() })
            }
            ClientRequest::DirectMessage { sid, event } => {
                let sid = session_id(sid).ok_or(Status::SessionNotFound)?;
                let message = Publication::direct(event.name(), Some(event.data)).share();
                Request::Ask(ClientQuestion::SendMessage { sid, message })
            }
            ClientRequest::Present(channel) => {
                Request::Ask(ClientQuestion::ListMembers { channel: channel.parse().map_err(unknown)? })
            }
        })
    }

    /// Begins what may begin, and replies to what is answered.
    fn advance(&mut self, session: SessionRef) {
        loop {
            self.reply_in_order(session);
            let Some(peer) = self.peers.entry(session) else { return };
            let Some(request) = peer.requests.next_to_begin() else { break };
            if let Request::Broadcast { owner, .. } = request
                && !self.links.has_room(*owner)
            {
                if !peer.is_stopped {
                    peer.is_stopped = true;
                    self.links.to(*owner).stop(session);
                }
                break;
            }
            let pass = peer.pass;
            let (number, request) = peer.requests.begin();
            if self.vhosts.is_valid(pass) {
                self.ask(RequestRef { session, number }, pass.vhost, request);
            } else {
                peer.requests.complete(number, PeerMessage::Error(Status::InvalidCredentials));
            }
        }
        self.forget_if_idle(session);
    }

    fn reply_in_order(&mut self, session: SessionRef) {
        let Some(peer) = self.peers.entry(session) else { return };
        let name = Arc::clone(&peer.name);
        while let Some((message, times)) =
            self.peers.entry(session).and_then(|peer| peer.requests.next_reply())
        {
            self.figures.subtract(ExchangeFigure::ClientRequestsOpen, times);
            self.reply(Arc::clone(&name), message, times);
        }
    }

    /// Asks who can answer: the channel's owner, or the control thread.
    fn ask(&mut self, request: RequestRef, vhost: VhostId, what: Request) {
        match what {
            Request::Broadcast { owner, channel, publication } => {
                self.links.ask(owner, OwnerRequest::Publish { request, vhost, channel, publication });
            }
            Request::OpenChannel(channel) => {
                self.reports.push_back(ExchangeReport::OpenChannel { request, vhost, channel });
            }
            Request::CloseChannel(channel) => {
                self.reports.push_back(ExchangeReport::CloseChannel { request, vhost, channel });
            }
            Request::Ask(question) => {
                self.reports.push_back(ExchangeReport::AskForClient { request, vhost, question });
            }
        }
    }

    /// Those who waited for room on the way to a shard go on.
    pub(super) fn resume(&mut self, shard: ShardId) {
        let link = self.links.to(shard);
        if !link.has_stopped() {
            return;
        }
        for session in link.take_resumed() {
            if let Some(peer) = self.peers.entry(session) {
                peer.is_stopped = false;
                self.advance(session);
            }
        }
    }
}

/// Answers.
impl Exchange {
    /// An owner has put a broadcast in order, or knows no such channel.
    pub(super) fn published(&mut self, from: ShardId, request: RequestRef, answer: &Answer, bytes: usize) {
        self.links.answered(from, bytes);
        let message = match answer {
            Answer::Published => PeerMessage::Done,
            Answer::ChannelNotFound => PeerMessage::Error(Status::ChannelNotFound),
            other => unreachable!("a broadcast is published or not, not {other:?}"),
        };
        self.complete(request, message);
        self.resume(from);
    }

    /// The control thread has opened or closed a channel, or has not.
    pub(super) fn channel_changed(&mut self, request: RequestRef, outcome: Changed) {
        let message = match outcome {
            Ok(()) => PeerMessage::Done,
            Err(NotChanged::ChannelNotFound) => PeerMessage::Error(Status::ChannelNotFound),
            Err(NotChanged::ChannelLimit) => PeerMessage::Error(Status::ChannelLimit),
            Err(NotChanged::VhostNotFound) => PeerMessage::Error(Status::InvalidCredentials),
            Err(NotChanged::StoreFailed) => PeerMessage::Error(Status::Internal),
        };
        self.complete(request, message);
    }

    /// The control thread answers.
    pub(super) fn client_answered(&mut self, request: RequestRef, answer: ClientAnswer) {
        let message = match answer {
            ClientAnswer::Done => PeerMessage::Done,
            ClientAnswer::Token(token) => PeerMessage::Token(token),
            ClientAnswer::Present(members) => PeerMessage::Present(list(&members)),
            ClientAnswer::Refused(status) => PeerMessage::Error(status),
        };
        self.complete(request, message);
    }

    fn complete(&mut self, request: RequestRef, message: PeerMessage) {
        if let Some(peer) = self.peers.entry(request.session) {
            peer.requests.complete(request.number, message);
            self.advance(request.session);
        }
    }

    fn reply(&mut self, peer: PeerName, message: PeerMessage, times: u64) {
        if let PeerMessage::Error(_) = message {
            self.figures.add(ExchangeFigure::ClientErrors, times);
        }
        if times == 1 {
            self.send(peer, message);
        } else {
            self.orders.push_back(Queued::TooMany(peer, times));
        }
    }

    /// A peer with nothing open that is no worker need not be known.
    pub(super) fn forget_if_idle(&mut self, session: SessionRef) {
        if let Some(peer) = self.peers.entry(session)
            && peer.requests.is_empty()
            && peer.worker.is_none()
        {
            self.peers.remove(session);
        }
    }

    /// A peer is no more: what it asked is answered to nobody, what it had as a worker goes to others.
    pub(super) fn forget(&mut self, session: SessionRef) {
        let Some(peer) = self.peers.remove(session) else { return };
        self.figures.subtract(ExchangeFigure::ClientRequestsOpen, peer.requests.unanswered());
        if let Some(worker) = peer.worker {
            self.stand_up(worker);
        }
    }
}

/// A session's identifier, as sessions are told it.
fn session_id(text: &str) -> Option<Uuid> {
    (text.len() == uuid::fmt::Hyphenated::LENGTH).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// Those present, as a JSON array.
fn list(members: &[Member]) -> Box<str> {
    format!("[{}]", presence::list(members)).into()
}
