//! The task that owns the node's state: vhosts, store, tokens.
//!
//! It takes requests of HTTP handlers and reports of shards and of the exchange one after the other,
//! and sends them commands, so all of them see all changes in one order. While commands wait for
//! room in a mailbox beyond a bound, it takes in nothing; shards and the exchange then keep their
//! reports, and callers wait.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    time,
};
use webrocket_state::{
    Command, Directory, Report, VhostId,
    command::{CommandReply, NotOpened, Opened, Ticket},
    exchange::{ExchangeCommand, ExchangeReport, message::ExchangeReply},
    identity::{Identity, InvalidCredentials},
    ids::RequestRef,
};
use webrocket_wire::{ChannelName, UserName};

use super::{
    channel_changes::{Asker, ChannelChange, ChannelsInFlight},
    figures::ControlFigures,
    front::Front,
    link::{Link, Replied, nothing},
    phase::Phase,
    refusal::Refusal,
    request::Request,
    sources::{Sources, Word},
    stop::StopSignal,
    throttle::ThrottleLimits,
    tokens::{TOKENS_MAX, TokenTable},
    verify::{Known, Question, Verified, Verifier},
    vhosts::Vhosts,
};
use crate::{
    driver::mailbox::{FromShard, Mailbox},
    store::{Store, StoreError},
};

/// How long to wait before looking again for room in a full mailbox. The shard drains it within
/// one turn.
const RETRY: Duration = Duration::from_millis(1);
/// What is taken in before channel changes are stored together.
const BATCH: usize = 256;

/// What the actor is made of.
pub(super) struct ActorParts {
    pub(super) store: Store,
    pub(super) mailboxes: Vec<Mailbox<Command>>,
    pub(super) exchange: Mailbox<ExchangeCommand>,
    pub(super) directory: Directory,
    pub(super) hashers: Arc<Semaphore>,
    pub(super) front: Front,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) figures: Arc<ControlFigures>,
}

/// Where the actor's work comes from.
pub(super) struct Inputs {
    pub(super) from_shards: mpsc::Receiver<FromShard<Report>>,
    pub(super) exchange_reports: mpsc::Receiver<ExchangeReport>,
    pub(super) requests: mpsc::Receiver<Request>,
}

/// The owner of the node's state.
pub(super) struct Actor {
    pub(super) vhosts: Vhosts,
    pub(super) tokens: TokenTable,
    pub(super) sources: Sources,
    pub(super) link: Link<Actor>,
    pub(super) directory: Directory,
    pub(super) channel_changes: Vec<ChannelChange>,
    pub(super) channels_in_flight: ChannelsInFlight,
    pub(super) figures: Arc<ControlFigures>,
    words: mpsc::Receiver<Word>,
    store: Store,
    verifier: Verifier,
    front: Front,
    phase: watch::Sender<Phase>,
    starting: Option<Starting>,
}

/// What shards and the exchange must be told and report before the node is ready.
struct Starting {
    channels: std::vec::IntoIter<(VhostId, ChannelName)>,
    unreported: usize,
    /// Channels over their vhost's limit.
    refused: usize,
    ready: Box<dyn FnOnce() + Send>,
}

impl Actor {
    /// Reads the store and begins to tell the shards. `ready` is called once they have reported
    /// everything as applied.
    pub(super) async fn start(
        parts: ActorParts,
        ready: Box<dyn FnOnce() + Send>,
    ) -> Result<Self, StoreError> {
        let store = parts.store.clone();
        let stored = blocking(move || -> Result<_, StoreError> {
            let vhosts = store.vhosts()?;
            let channels: Result<Vec<_>, _> =
                vhosts.iter().map(|vhost| store.channels(&vhost.path)).collect();
            Ok((vhosts, channels?))
        });
        let (stored, stored_channels) = stored.await?;
        let figures = parts.figures;
        let mut link = Link::new(parts.mailboxes, parts.exchange, Arc::clone(&figures));
        let mut vhosts = Vhosts::default();
        let mut channels = Vec::new();
        let mut unreported = 0;
        for (stored, of_vhost) in stored.into_iter().zip(stored_channels) {
            let entry = vhosts.insert(stored);
            let vhost = Arc::clone(&entry.vhost);
            let id = vhost.id;
            channels.extend(of_vhost.into_iter().map(|channel| (id, channel)));
            link.ask_exchange(|ticket| entry.access(ticket), nothing());
            link.ask_everybody(
                |ticket| Command::PutVhost { ticket, vhost: Arc::clone(&vhost) },
                |ticket| ExchangeCommand::PutVhost { ticket, vhost: Arc::clone(&vhost) },
                Box::new(|actor: &mut Self, _, _| actor.told_at_start(&[])),
            );
            unreported += 1;
        }
        figures.vhosts.set(vhosts.len());
        let channels = channels.into_iter();
        let (sources, words) = Sources::new(Arc::clone(&figures));
        Ok(Self {
            vhosts,
            sources,
            words,
            tokens: TokenTable::new(TOKENS_MAX),
            link,
            directory: parts.directory,
            channel_changes: Vec::new(),
            channels_in_flight: ChannelsInFlight::default(),
            verifier: Verifier::new(parts.hashers, ThrottleLimits::default(), Arc::clone(&figures)),
            figures,
            store: parts.store,
            front: parts.front,
            phase: parts.phase,
            starting: Some(Starting { channels, unreported, refused: 0, ready }),
        })
    }

    /// Runs until all shards and the exchange are gone, which they are some time after `stop`.
    pub(super) async fn run(mut self, mut inputs: Inputs, mut stop: StopSignal) {
        let (mut stopping, mut shards_gone, mut exchange_gone) = (false, false, false);
        while !(shards_gone && exchange_gone) {
            self.proceed_starting();
            self.link.flush();
            self.commit_channel_changes().await;
            let room = self.link.has_room();
            let open = room && !stopping && self.starting.is_none();
            let next_expiry = self.tokens.next_expiry();
            tokio::select! {
                // Nothing starves below what is always busy: each turn looks into all queues once more.
                biased;
                () = stop.stopping(), if !stopping => {
                    stopping = true;
                    self.shut_down();
                }
                verified = self.verifier.next() => self.authenticate(verified),
                message = inputs.from_shards.recv(), if room && !shards_gone => match message {
                    Some(message) => self.handle_shard(message),
                    None => shards_gone = true,
                },
                report = inputs.exchange_reports.recv(), if room && !exchange_gone => match report {
                    Some(report) => self.handle_exchange(report),
                    None => exchange_gone = true,
                },
                Some(word) = self.words.recv(), if room => self.handle_source(&word),
                Some(request) = inputs.requests.recv(), if open || stopping => {
                    // Dropped unanswered, it tells its caller that the server stops.
                    if open {
                        self.handle_request(request).await;
                    }
                }
                () = time::sleep(RETRY), if self.link.is_backlogged() => {}
                () = until(next_expiry), if next_expiry.is_some() => {
                    self.tokens.forget_expired(std::time::Instant::now());
                    self.figures.tokens.set(self.tokens.len());
                }
            }
            self.take_batch(&mut inputs, open && !stop.is_stopping()).await;
        }
    }

    /// Takes in what is there already: it comes into the same transaction.
    async fn take_batch(&mut self, inputs: &mut Inputs, open: bool) {
        for _ in 0..BATCH {
            if !self.link.has_room() {
                return;
            }
            let mut taken = false;
            if let Ok(message) = inputs.from_shards.try_recv() {
                self.handle_shard(message);
                taken = true;
            }
            if let Ok(report) = inputs.exchange_reports.try_recv() {
                self.handle_exchange(report);
                taken = true;
            }
            if let Ok(word) = self.words.try_recv() {
                self.handle_source(&word);
                taken = true;
            }
            if open && let Ok(request) = inputs.requests.try_recv() {
                self.handle_request(request).await;
                taken = true;
            }
            if !taken {
                return;
            }
        }
    }

    fn shut_down(&mut self) {
        self.phase.send_replace(Phase::Stopping);
        self.sources.end_all();
        self.link.send_all(|| Command::Shutdown);
        self.link.send_exchange(ExchangeCommand::Shutdown);
    }

    /// Whether shards are still being told what the store holds.
    pub(super) fn is_starting(&self) -> bool {
        self.starting.is_some()
    }

    /// Runs a method of the store aside, and waits for it: changes are stored in the order in
    /// which they are made.
    pub(super) async fn stored<T: Send + 'static>(
        &mut self,
        method: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let store = self.store.clone();
        blocking(move || method(&store)).await.map_err(|error| {
            tracing::error!(%error, "a change could not be stored");
            self.figures.store_failures_total.increment();
            Refusal::StoreFailed
        })
    }

    /// Tells the next channels to their owners, and says so when the shards know everything.
    fn proceed_starting(&mut self) {
        let Some(starting) = &mut self.starting else { return };
        while self.link.has_room() {
            let Some((vhost, channel)) = starting.channels.next() else { break };
            let owner = self.directory.owner(vhost, &channel);
            let command = |ticket| Command::OpenChannel { ticket, vhost, channel };
            self.link.ask(owner, command, Box::new(|actor, _, opened| actor.told_at_start(&opened)));
            starting.unreported += 1;
        }
        if starting.unreported > 0 || starting.channels.len() > 0 {
            return;
        }
        let starting = self.starting.take().expect("it was there");
        if starting.refused > 0 {
            tracing::warn!(
                channels = starting.refused,
                "stored channels are over their vhosts' channels_max and stay closed"
            );
        }
        self.link.send_all(|| Command::Serve);
        self.link.send_exchange(ExchangeCommand::Serve);
        self.phase.send_if_modified(|phase| {
            let starting = *phase == Phase::Starting;
            if starting {
                *phase = Phase::Ready;
            }
            starting
        });
        (starting.ready)();
    }

    fn handle_shard(&mut self, message: FromShard<Report>) {
        match message {
            FromShard::HandOff(hand_off) => self.front.serve(hand_off),
            FromShard::Report(_, Report::Replied(reply)) => self.shard_replied(reply),
            FromShard::Report(_, Report::VerifySecret { request, vhost, user, secret, peer }) => {
                let question = Question {
                    known: self.known(vhost, &user),
                    request,
                    vhost,
                    user,
                    secret: Arc::new(secret),
                    peer,
                };
                if let Some(identity) = self.without_secret(&question) {
                    self.send_identity(request, Ok(identity));
                } else if let Some(verified) = self.verifier.ask(question) {
                    self.authenticate(verified);
                }
            }
            FromShard::Report(_, Report::ConsumeToken { request, vhost, token }) => {
                let grant = self.tokens.consume(std::time::Instant::now(), vhost, &token);
                self.figures.tokens.set(self.tokens.len());
                self.send_identity(request, grant.map(Identity::Token).ok_or(InvalidCredentials));
            }
            FromShard::Report(_, Report::OpenChannel { request, vhost, channel }) => {
                let asker = Asker::Session(request);
                self.channel_changes.push(ChannelChange { vhost, channel, open: true, asker });
            }
            FromShard::Report(_, Report::CloseChannel { request, vhost, channel }) => {
                let asker = Asker::Session(request);
                self.channel_changes.push(ChannelChange { vhost, channel, open: false, asker });
            }
        }
    }

    fn shard_replied(&mut self, reply: CommandReply) {
        match reply {
            CommandReply::Applied(ticket) => self.replied(ticket, ()),
            CommandReply::Opened(ticket, opened) => self.replied(ticket, opened),
            CommandReply::Found(ticket, found) => self.replied(ticket, found),
            CommandReply::Heard(ticket, heard) => self.replied(ticket, heard),
            CommandReply::Listed(ticket, channels) => self.replied(ticket, channels),
            CommandReply::Described(ticket, channel) => self.replied(ticket, channel),
        }
    }

    /// Takes a reply of the exchange.
    pub(super) fn exchange_replied(&mut self, reply: ExchangeReply) {
        match reply {
            ExchangeReply::Applied(ticket) => self.replied(ticket, ()),
            ExchangeReply::SourceOpened(ticket, opened) => self.replied(ticket, opened),
            ExchangeReply::Workers(ticket, workers) => self.replied(ticket, workers),
            ExchangeReply::Queue(ticket, queue) => self.replied(ticket, queue),
        }
    }

    /// Goes on where a reply was the last of its ticket.
    fn replied<R: Replied>(&mut self, ticket: Ticket<R>, reply: R) {
        if let Some((then, replies)) = self.link.replied(ticket, reply) {
            then(self, ticket, replies);
        }
    }

    /// Something that is stored has been told, a vhost or a channel; of a channel, whether it was opened.
    fn told_at_start(&mut self, opened: &[Opened]) {
        let starting = self.starting.as_mut().expect("it is not over before this reply");
        starting.unreported -= 1;
        starting.refused += usize::from(opened.contains(&Err(NotOpened::ChannelLimit)));
    }

    /// What the user's secret is compared with now.
    fn known(&self, vhost: VhostId, user: &UserName) -> Option<Known> {
        let entry = self.vhosts.of(vhost)?;
        let generation = entry.vhost.users.get(user)?.generation;
        Some(Known { generation, hash: Arc::clone(entry.secrets.get(user)?) })
    }

    /// Who the session is, if the user lost its secret after the session's shard looked.
    fn without_secret(&self, question: &Question) -> Option<Identity> {
        let user = self.vhosts.of(question.vhost)?.vhost.users.get(&question.user)?;
        let identity = Identity::User { name: question.user.clone(), generation: user.generation };
        (!user.has_secret).then_some(identity)
    }

    /// Answers a session whose secret was verified. It counts only if the user and its secret
    /// are still those that it was compared with.
    fn authenticate(&mut self, verified: Verified) {
        let now = self.known(verified.vhost, &verified.user);
        let identity = match (verified.known, now) {
            (Some(then), Some(now))
                if verified.right && then.generation == now.generation && then.hash == now.hash =>
            {
                Ok(Identity::User { name: verified.user, generation: now.generation })
            }
            _ => Err(InvalidCredentials),
        };
        self.send_identity(verified.request, identity);
    }

    fn send_identity(&mut self, request: RequestRef, identity: Result<Identity, InvalidCredentials>) {
        self.link.send(request.session.shard, Command::Authenticated { request, identity });
    }
}

/// Runs `work` on a thread where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn until(moment: Option<std::time::Instant>) {
    if let Some(moment) = moment {
        time::sleep_until(moment.into()).await;
    }
}
