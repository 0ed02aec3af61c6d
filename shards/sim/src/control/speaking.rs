//! What the backend says: it broadcasts, and speaks to single sessions.

use webrocket_state::{
    Command,
    command::{Found, Heard},
};
use webrocket_wire::{ChannelName, Data, Json, Publication};

use super::{Ask, Control};
use crate::{
    chance::Chance,
    net::Net,
    oracles::{BACKEND, Fate, Ledger},
    scenario::{BACKEND_OPEN_MAX, CHANNELS, Scenario},
    time::Micros,
    workload,
};

impl Control {
    /// Speaks if it is time to; when it is the next time.
    pub(super) fn speak(
        &mut self,
        net: &mut Net,
        chance: &mut Chance,
        scenario: &Scenario,
        ledger: &mut Ledger,
    ) -> Option<Micros> {
        let pace = scenario.backend_pace_max?;
        if net.now >= self.backend.due {
            self.backend.due = net.now + chance.between(100, pace);
            if chance.percent(30) {
                self.message(net, chance, ledger);
            } else if self.backend.open < BACKEND_OPEN_MAX {
                self.publish(net, chance, scenario, ledger);
            }
        }
        Some(self.backend.due)
    }

    fn publish(&mut self, net: &mut Net, chance: &mut Chance, scenario: &Scenario, ledger: &mut Ledger) {
        let index = chance.below(self.known.len());
        let Some(vhost) = self.known[index].snapshot.as_ref().map(|vhost| vhost.id) else { return };
        let channel = *chance.pick(&CHANNELS);
        let content = workload::content(chance, scenario);
        let number = ledger.compose(net.now, BACKEND, (index, channel), content);
        let text = ledger.backend_event(number);
        let channel: ChannelName = channel.parse().expect("a valid name");
        let (event, data) = parts(&text);
        let publication = Publication::new(event, Some(data), &channel, None).share();
        let owner = self.directory.owner(vhost, &channel).index();
        let ticket = self.ticket(Ask::Publish(number));
        self.backend.open += 1;
        self.send(net, owner, chance.small(500), Command::Publish { ticket, vhost, channel, publication });
    }

    /// The owner has ordered a broadcast, or refused it.
    pub(super) fn published(&mut self, now: Micros, ledger: &mut Ledger, number: usize, found: Found) {
        self.backend.open -= 1;
        ledger.broadcasts[number].fate = if found.is_ok() { Fate::Acknowledged(now) } else { Fate::Refused };
    }

    /// Speaks to a session that it has heard of, now and then in the wrong vhost.
    fn message(&mut self, net: &mut Net, chance: &mut Chance, ledger: &mut Ledger) {
        if ledger.sids.is_empty() {
            return;
        }
        let (sid, browser) = chance.pick(&ledger.sids).clone();
        let own = ledger.vhost_of(browser);
        let index = if chance.percent(10) { 1 - own } else { own };
        let Some(vhost) = self.known[index].snapshot.as_ref().map(|vhost| vhost.id) else { return };
        let shards = net.commands.len();
        let (number, text) = ledger.compose_message(browser, index == own, shards);
        let (event, data) = parts(&text);
        let message = Publication::direct(event, Some(data)).share();
        let sid = sid.parse().expect("a session identifier is a UUID");
        for shard in 0..shards {
            let ticket = self.ticket(Ask::Message(number));
            let command = Command::DirectMessage { ticket, vhost, sid, message: message.clone() };
            self.send(net, shard, chance.small(500), command);
        }
    }

    /// A shard has delivered a direct message, or does not know the session.
    pub(super) fn messaged(ledger: &mut Ledger, number: usize, heard: Heard) {
        let message = &mut ledger.messages[number];
        message.unanswered -= 1;
        message.found += usize::from(heard.is_ok());
    }
}

/// The event and the data of what a session is to receive. Where it is a broadcast, the data has a member
/// `channel` itself, which the server replaces by its own.
fn parts(text: &str) -> (Json<'_>, Data<'_>) {
    let (event, data) = text[1..text.len() - 1].split_once(':').expect("an event with data");
    (Json::parse(event).expect("a text"), Data::parse(data).expect("an object"))
}
