//! How a browser ends, or is ended.

use webrocket_wire::handshake::Dialect;

use super::{
    Browser, Kind, Surroundings,
    stage::{ENDINGS, Ending, Stage},
};
use crate::{
    frames,
    net::Actor,
    oracles::{End, Guarantee, Ledger},
    request::Request,
};

impl Browser {
    pub(super) fn die(&mut self, ledger: &mut Ledger) {
        self.is_dead = true;
        ledger.depart(self.id);
        self.forget_windows(ledger);
    }

    pub(super) fn forget_windows(&mut self, ledger: &mut Ledger) {
        for window in std::mem::take(&mut self.windows).into_values() {
            ledger.windows[window].end = End::Otherwise;
        }
    }

    /// The session has read that it left these channels: their owners must know.
    pub(super) fn has_left<'a>(
        &self,
        around: &mut Surroundings<'_>,
        channels: impl IntoIterator<Item = &'a &'static str>,
    ) {
        let Some(session) = around.net.sockets[self.socket].session else { return };
        // What it has asked to subscribe again, it may subscribe again.
        let is_asked = |channel: &str| {
            let mut requests = self.pending.iter().map(|pending| &pending.request);
            requests
                .any(|request| matches!(request, Request::Subscribe { channel: of, .. } if *of == channel))
        };
        let left = channels.into_iter().filter(|channel| !is_asked(channel));
        around.ledger.leaves_read.extend(left.map(|channel| (session, *channel)));
    }

    /// Begins to leave, in some way.
    pub fn leave(&mut self, around: &mut Surroundings<'_>) {
        let ending = *around.chance.pick(&ENDINGS);
        self.leave_by(around, ending);
    }

    fn leave_by(&mut self, around: &mut Surroundings<'_>, ending: Ending) {
        let Surroundings { net, chance, ledger, .. } = around;
        net.wake(Actor::Browser(self.id), 1);
        self.stage = Stage::Leaving(ending);
        ledger.depart(self.id);
        for window in self.windows.values() {
            ledger.windows[*window].end = End::Otherwise;
        }
        let mut bytes = Vec::new();
        match ending {
            Ending::Orderly(code) => {
                let code = code.map(u16::to_be_bytes);
                frames::frame(
                    &mut bytes,
                    chance,
                    frames::CLOSE,
                    true,
                    code.as_ref().map_or(&[], |code| code),
                );
            }
            Ending::Asked => {
                let speaks = self.dialect == Dialect::Wwfp && around.chance.percent(70);
                let farewell = speaks.then(|| around.ledger.compose_farewell());
                return self.ask(around, Request::Leave { farewell });
            }
            Ending::Reset => {
                let socket = &mut net.sockets[self.socket];
                socket.is_reset = true;
                socket.to_server.lose();
                socket.to_browser.lose();
                net.readable(self.socket);
                self.end(ledger);
            }
            Ending::Silent => self.end(ledger),
            Ending::HalfClosed => self.is_fin_due = true,
            Ending::Offence(1002) => bytes.extend_from_slice(&[0x81, 1, b'a']),
            Ending::Offence(1003) => frames::frame(&mut bytes, chance, frames::BINARY, true, b"1234"),
            Ending::Offence(1007) => frames::frame(&mut bytes, chance, 1, true, b"{\"\xff\":1}"),
            Ending::Offence(_) => {
                bytes.extend_from_slice(&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4, 5]);
            }
        }
        self.outgoing.extend(bytes);
    }

    pub(super) fn end(&mut self, ledger: &mut Ledger) {
        self.stage = Stage::Ended;
        ledger.depart(self.id);
        self.forget_windows(ledger);
    }

    /// The server sends nothing more.
    pub(super) fn at_end(&mut self, around: &mut Surroundings<'_>) {
        let is_fair = around.scenario.is_slow()
            || match self.stage {
                Stage::Connecting => self.kind != Kind::Browser || around.mood.is_stopping,
                Stage::Open | Stage::Leaving(Ending::Asked | Ending::Offence(_)) => false,
                Stage::Leaving(_) | Stage::Closed | Stage::Ended => true,
            };
        around.ledger.check(around.net.now, Guarantee::NobodyIsClosedWithoutReason, || {
            (!is_fair).then(|| format!("the connection of {} ends without a word", self.describe(around.net)))
        });
        self.is_fin_due = true;
        self.outgoing.clear();
        self.write(around);
        self.end(around.ledger);
    }

    pub(super) fn refused(&mut self, around: &mut Surroundings<'_>, status: u16) {
        let is_fair = match status {
            404 => self.kind == Kind::Lost || around.scenario.vhosts_change,
            429 => around.scenario.settings.connections_per_address_max > 0 && !around.mood.is_deserted,
            503 => around.mood.is_stopping,
            _ => false,
        };
        around.ledger.check(around.net.now, Guarantee::NobodyIsClosedWithoutReason, || {
            (!is_fair).then(|| format!("browser {} is refused with {status}", self.id))
        });
        self.pending.clear();
        self.is_fin_due = true;
        self.outgoing.clear();
        self.stage = Stage::Closed;
    }

    pub(super) fn closed(&mut self, around: &mut Surroundings<'_>, code: u16) {
        let only_the_last_is_open = match self.dialect {
            Dialect::Classic => {
                self.pending.len() == 1
                    && self.pending.iter().all(|pending| matches!(pending.request, Request::Leave { .. }))
            }
            Dialect::Wwfp => self.pending.is_empty() && self.is_dismissed,
        };
        if code == 1000 && self.stage == Stage::Leaving(Ending::Asked) {
            self.has_left(around, self.windows.keys());
        }
        let is_fair = match code {
            1000 | 1005 => match self.stage {
                Stage::Leaving(Ending::Orderly(sent)) => sent.unwrap_or(1005) == code,
                Stage::Leaving(Ending::Asked) => code == 1000 && only_the_last_is_open,
                _ => false,
            },
            4008 => around.scenario.is_slow(),
            4004 => around.scenario.vhosts_change,
            1012 => around.mood.is_stopping,
            code => self.stage == Stage::Leaving(Ending::Offence(code)),
        };
        around.ledger.check(around.net.now, Guarantee::NobodyIsClosedWithoutReason, || {
            (!is_fair).then(|| format!("closes with {code}: {}", self.describe(around.net)))
        });
        around.net.note(u64::from(code));
        if !matches!(self.stage, Stage::Leaving(Ending::Orderly(_) | Ending::HalfClosed)) {
            self.control(around, frames::CLOSE, &code.to_be_bytes());
        }
        around.ledger.depart(self.id);
        self.forget_windows(around.ledger);
        self.pending.clear();
        self.is_fin_due = true;
        self.stage = Stage::Closed;
    }
}
