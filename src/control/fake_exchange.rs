//! An exchange for tests: it does what it is told at once, and has no peers of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::sync::mpsc;
use webrocket_state::{
    VhostId,
    command::{Changed, VhostNotFound},
    exchange::{
        ExchangeCommand, ExchangeReport, QueueInfo, Transport, TriggerId, WorkerInfo, WorkerRef,
        message::{ClientAnswer, ExchangeReply, SourceId, SourceMode},
    },
    ids::RequestRef,
    slots::WorkerSlot,
};
use webrocket_wire::{AccessToken, BackendKey};

use super::fake_node::{Inbox, World};

/// What a fake exchange knows.
#[derive(Default)]
pub(super) struct ExchangeWorld {
    /// The vhosts' access tokens.
    pub(super) access: BTreeMap<VhostId, AccessToken>,
    /// The vhosts' keys.
    pub(super) keys: BTreeMap<VhostId, Arc<BTreeSet<BackendKey>>>,
    /// The vhosts of which it knows more than that.
    pub(super) vhosts: Vec<VhostId>,
    /// Who takes events, of which vhost, by which filter and how.
    pub(super) sources: BTreeMap<SourceId, (VhostId, String, SourceMode)>,
    /// What has left.
    pub(super) taken: Vec<(SourceId, TriggerId)>,
    /// What clients were told.
    pub(super) answers: Vec<(RequestRef, ClientAnswer)>,
    /// What clients were told of channels.
    pub(super) changed: Vec<(RequestRef, Changed)>,
    pub(super) is_serving: bool,
}

/// The one worker that each vhost has.
pub(super) fn worker() -> WorkerInfo {
    WorkerInfo {
        worker: WorkerRef { slot: WorkerSlot(3), generation: 1 },
        transport: Transport::ZeroMq,
        filter: "job.*".into(),
        window: None,
        outstanding: 0,
        since: Instant::now(),
    }
}

/// Runs until it is told to shut down.
pub(super) async fn fake_exchange(
    inbox: Inbox<ExchangeCommand>,
    world: Arc<Mutex<World>>,
    reports: mpsc::Sender<ExchangeReport>,
) {
    loop {
        let command = inbox.next().await;
        if matches!(command, ExchangeCommand::Shutdown) {
            return;
        }
        let mut said = Vec::new();
        {
            let mut world = world.lock().unwrap();
            world.exchange.carry_out(command, &mut said);
            world.changes.notify_waiters();
        }
        for report in said {
            let _ = reports.send(report).await;
        }
    }
}

impl ExchangeWorld {
    fn carry_out(&mut self, command: ExchangeCommand, said: &mut Vec<ExchangeReport>) {
        let reply = match command {
            ExchangeCommand::PutAccess { ticket, vhost, token, keys } => {
                let before = (self.access.insert(vhost, token), self.keys.insert(vhost, Arc::clone(&keys)));
                if let (Some(old), Some(old_keys)) = before
                    && (old != token || !old_keys.is_subset(&keys))
                {
                    self.close_sources(vhost, said);
                }
                ExchangeReply::Applied(ticket)
            }
            ExchangeCommand::PutVhost { ticket, vhost } => {
                assert!(self.access.contains_key(&vhost.id), "the token comes first");
                self.vhosts.push(vhost.id);
                ExchangeReply::Applied(ticket)
            }
            ExchangeCommand::RemoveVhost { ticket, vhost } => {
                self.access.remove(&vhost);
                self.keys.remove(&vhost);
                self.vhosts.retain(|known| *known != vhost);
                self.close_sources(vhost, said);
                ExchangeReply::Applied(ticket)
            }
            ExchangeCommand::OpenSource { ticket, source, vhost, filter, mode } => {
                let known = self.access.contains_key(&vhost);
                if known {
                    self.sources.insert(source, (vhost, filter.as_str().to_owned(), mode));
                }
                ExchangeReply::SourceOpened(ticket, known.then_some(()).ok_or(VhostNotFound))
            }
            ExchangeCommand::ListWorkers { ticket, .. } => ExchangeReply::Workers(ticket, vec![worker()]),
            ExchangeCommand::ShowQueue { ticket, .. } => {
                let queue = QueueInfo { waiting: 7, workers: 1, ..QueueInfo::default() };
                ExchangeReply::Queue(ticket, Ok(queue))
            }
            ExchangeCommand::SourceTook { source, id } => return self.taken.push((source, id)),
            ExchangeCommand::CloseSource { source } => {
                self.sources.remove(&source).expect("it is closed once");
                return;
            }
            ExchangeCommand::ClientAnswered { request, answer } => {
                return self.answers.push((request, answer));
            }
            ExchangeCommand::ChannelChanged { request, outcome } => {
                return self.changed.push((request, outcome));
            }
            ExchangeCommand::Serve => return self.is_serving = true,
            ExchangeCommand::Shutdown => unreachable!("it was shut down already"),
        };
        said.push(ExchangeReport::Replied(reply));
    }

    fn close_sources(&mut self, vhost: VhostId, said: &mut Vec<ExchangeReport>) {
        let of_vhost = self.sources.extract_if(.., |_, (of, ..)| *of == vhost);
        said.extend(of_vhost.map(|(source, _)| ExchangeReport::SourceClosed { source }));
    }
}
