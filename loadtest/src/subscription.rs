//! How connections come to be subscribed, in every dialect: what is sent when, and what is due for it.
//!
//! Knows the words that lead to a subscription, not what is received through it.

use anyhow::bail;

use crate::connection::ConnectionId;
use crate::dialect::{Dialect, Notice};
use crate::engine::Outbox;
use crate::excerpt::excerpt;

/// The channels that connections of one dialect subscribe to, one each.
pub(crate) struct Subscriptions {
    dialect: Dialect,
    channels: Vec<String>,
    /// By channel.
    answers: Vec<Vec<u8>>,
    /// Room to write a request in.
    request: Vec<u8>,
}

impl Subscriptions {
    pub(crate) fn new(dialect: Dialect, channels: Vec<String>) -> Self {
        let answers = channels.iter().map(|channel| dialect.subscribed(channel)).collect();
        Self { dialect, channels, answers, request: Vec::new() }
    }

    /// The name of a channel.
    pub(crate) fn name(&self, channel: usize) -> &str {
        &self.channels[channel]
    }

    /// How many channels there are.
    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// To be called when `connection` is open: asks for its subscription, if it may already.
    pub(crate) fn opened(&mut self, connection: ConnectionId, channel: usize, outbox: &mut Outbox) {
        if !self.dialect.awaits_welcome() {
            self.subscribe(connection, channel, outbox);
        }
    }

    /// Does what a message demands that the server says of its own accord. Returns whether `message` is one; it may
    /// be the one for which the subscription had to wait. Without a channel there is nothing to subscribe to.
    pub(crate) fn noticed(
        &mut self,
        connection: ConnectionId,
        channel: Option<usize>,
        message: &[u8],
        outbox: &mut Outbox,
    ) -> bool {
        match (self.dialect.notice(message), channel) {
            (None, _) => return false,
            (Some(Notice::Information), _) | (Some(Notice::Welcome), None) => {}
            (Some(Notice::Question(answer)), _) => {
                self.request.clear();
                self.request.extend_from_slice(answer);
                self.send(connection, outbox);
            }
            (Some(Notice::Welcome), Some(channel)) => self.subscribe(connection, channel, outbox),
        }
        true
    }

    /// Checks what the server says to the request of `connection`.
    ///
    /// # Errors
    /// It is not the answer that is due.
    pub(crate) fn check(
        &self,
        connection: ConnectionId,
        channel: usize,
        message: &[u8],
    ) -> anyhow::Result<()> {
        if message != self.answers[channel] {
            let (name, answer) = (self.name(channel), excerpt(message));
            bail!("{connection} subscribed to {name} and was answered {answer}");
        }
        Ok(())
    }

    fn subscribe(&mut self, connection: ConnectionId, channel: usize, outbox: &mut Outbox) {
        self.request.clear();
        self.dialect.write_subscribe(&mut self.request, &self.channels[channel]);
        self.send(connection, outbox);
    }

    fn send(&self, connection: ConnectionId, outbox: &mut Outbox) {
        if self.dialect.is_stream() {
            outbox.binary(connection, &self.request);
        } else {
            outbox.text(connection, &self.request);
        }
    }
}
