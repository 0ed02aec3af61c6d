//! Streams: the peers of the XPUB socket, and their subscriptions.
//!
//! libzmq asks about each subscription; to admit one is to make it in the name of the connection that
//! asked last. Three things about this need care (the functions named are those of `src/xpub.cpp` in libzmq 4.3.4):
//!
//! - That connection may be over and its memory freed: `xpipe_terminated` leaves it in `_pending_pipes`, from
//!   where `xrecv` takes it as `_last_pipe`. So a subscription is made only if its connection stands, which is
//!   looked up between the asking and the making. libzmq frees nothing in between: it does so where it reads the
//!   socket's mailbox, which `socket_base_t::recv` does before `xrecv`, and `socket_base_t::setsockopt` not at all.
//! - A message that is no subscription puts libzmq's account of who asks out of step, until it has nothing left to
//!   ask: `xread_activated` adds to `_pending_data` and not to `_pending_pipes`. No stream sends such a message.
//!   Who does is cut off, and so is who asks meanwhile: it connects and subscribes again.
//! - A subscription that nobody admitted is kept in memory too (`_manual_subscriptions`). So there is a bound on
//!   those of one stream.

use std::{collections::HashMap, time::Instant};

use webrocket_state::{
    Exchange, VhostId,
    exchange::{ExchangeInput, Pass},
};
use webrocket_wire::{Trigger, VhostPath};
use zmq::{DONTWAIT, Message, SNDMORE, Socket};

use super::{
    connections::{Connections, Number},
    sockets::{self, Mechanism},
    zap::Admission,
};

/// The most subscriptions that one turn reads.
const SUBSCRIPTIONS_PER_TURN: usize = 256;

/// The most subscriptions of one stream.
const TOPICS_MAX: usize = 256;

/// All streams.
pub(super) struct Streams {
    socket: Socket,
    mechanism: Mechanism,
    connections: Connections<Stream>,
    frame: Message,
    /// libzmq's account of who asks is out of step.
    is_out_of_step: bool,
}

/// One stream.
#[derive(Default)]
pub(super) struct Stream {
    /// What it was let in with, once it has subscribed anything.
    pass: Option<Pass>,
    /// What it subscribes, and whether that is admitted.
    topics: HashMap<Box<[u8]>, bool, ahash::RandomState>,
    bytes_read: u64,
}

/// What a stream asks.
enum Asked<'a> {
    Subscribe(&'a [u8]),
    Unsubscribe(&'a [u8]),
    /// Nothing that a stream may.
    Other,
}

impl Streams {
    pub(super) fn new(socket: Socket, connections: Connections<Stream>, mechanism: Mechanism) -> Self {
        Self { socket, mechanism, connections, frame: Message::new(), is_out_of_step: false }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn connections(&self) -> &Connections<Stream> {
        &self.connections
    }

    /// Takes how many connections that had been cut were over since this was asked last.
    pub(super) fn take_cuts(&mut self) -> u64 {
        self.connections.take_cuts()
    }

    /// Hears which connections are over.
    pub(super) fn follow(&mut self, now: Instant, machine: &mut Exchange, next: Number) {
        self.connections.follow(next, |stream| {
            let Some(pass) = stream.pass else { return };
            for (topic, _) in stream.topics.iter().filter(|(_, is_admitted)| **is_admitted) {
                machine.handle(now, ExchangeInput::Unsubscribed { pass, topic });
            }
        });
    }

    /// Reads subscriptions, a bounded number; whether there may be more.
    pub(super) fn receive(&mut self, now: Instant, machine: &mut Exchange, next: Number) -> bool {
        for _ in 0..SUBSCRIPTIONS_PER_TURN {
            if self.socket.recv(&mut self.frame, DONTWAIT).is_err() {
                self.is_out_of_step = false;
                return false;
            }
            self.is_out_of_step |= matches!(asked(&self.frame), Asked::Other);
            self.follow(now, machine, next);
            self.answer(now, machine);
        }
        true
    }

    /// Answers what was asked last, if who asked is still there.
    fn answer(&mut self, now: Instant, machine: &mut Exchange) {
        let Some(admission) = self.frame.gets("User-Id").and_then(|text| text.parse::<Admission>().ok())
        else {
            return;
        };
        let Some(fd) = self.frame.gets("__fd").and_then(|text| text.parse().ok()) else { return };
        let Some(connection) = self.connections.find(fd, admission.number) else { return };
        connection.owned.pass = Some(admission.pass);
        connection.owned.bytes_read += self.mechanism.bytes_on_the_wire(&self.frame);
        if connection.is_cut() {
            return;
        }
        let pass = admission.pass;
        let topics = &mut connection.owned.topics;
        let is_wrong = match asked(&self.frame) {
            _ if self.is_out_of_step => true,
            Asked::Subscribe(topic) => {
                let is_admitted = machine.admits(pass, topic);
                if topics.insert(topic.into(), is_admitted).is_none()
                    && is_admitted
                    && self.socket.set_subscribe(topic).is_ok()
                {
                    machine.handle(now, ExchangeInput::Subscribed { pass, topic });
                }
                topics.len() > TOPICS_MAX
            }
            Asked::Unsubscribe(topic) => {
                if topics.remove(topic) == Some(true) && self.socket.set_unsubscribe(topic).is_ok() {
                    machine.handle(now, ExchangeInput::Unsubscribed { pass, topic });
                }
                false
            }
            Asked::Other => true,
        };
        if is_wrong {
            connection.cut();
        }
    }

    /// Sends a copy to all who subscribe it; whether any of them missed it because its way was full.
    pub(super) fn publish(&mut self, vhost: &VhostPath, trigger: &Trigger) -> bool {
        let topic = format!("{vhost}:{}", trigger.event());
        // With NODROP set, libzmq sends to nobody where it could not send to all.
        let is_full = self.socket.send(&topic, DONTWAIT | SNDMORE).is_err();
        if is_full {
            self.set_lossy(true);
            let _ = self.socket.send(&topic, DONTWAIT | SNDMORE);
        }
        let _ = self.socket.send(trigger.payload(), DONTWAIT);
        if is_full {
            self.set_lossy(false);
        }
        is_full
    }

    fn set_lossy(&mut self, is_lossy: bool) {
        sockets::set(&mut self.socket, zmq_sys::ZMQ_XPUB_NODROP, i32::from(!is_lossy))
            .expect("an XPUB has this option");
    }

    /// Cuts off the vhost's streams that were let in with a pass that is not valid any more.
    pub(super) fn cut_revoked(&mut self, now: Instant, machine: &mut Exchange, next: Number, vhost: VhostId) {
        self.follow(now, machine, next);
        self.connections.cut_where(|connection| {
            connection.owned.pass.is_some_and(|pass| pass.vhost == vhost && !machine.is_valid(pass))
        });
    }

    /// Cuts off who has sent more than `max` bytes that are not read yet.
    pub(super) fn cut_unread(&mut self, now: Instant, machine: &mut Exchange, next: Number, max: u64) {
        self.follow(now, machine, next);
        self.connections.cut_where(|connection| {
            connection.bytes_received().saturating_sub(connection.owned.bytes_read) > max
        });
    }
}

fn asked(frame: &[u8]) -> Asked<'_> {
    match frame {
        [1, topic @ ..] => Asked::Subscribe(topic),
        [0, topic @ ..] => Asked::Unsubscribe(topic),
        _ => Asked::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_asks() {
        assert!(matches!(asked(b"\x01/moon:a"), Asked::Subscribe(b"/moon:a")));
        assert!(matches!(asked(b"\x01"), Asked::Subscribe(b"")));
        assert!(matches!(asked(b"\x00/moon:a"), Asked::Unsubscribe(b"/moon:a")));
        assert!(matches!(asked(b""), Asked::Other));
        assert!(matches!(asked(b"\x02/moon:a"), Asked::Other));
    }
}
