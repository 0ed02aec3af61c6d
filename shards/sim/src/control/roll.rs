//! The channels as the shards list them, against what browsers say.

use std::collections::BTreeSet;

use webrocket_state::{
    Command, VhostId,
    command::{ChannelInfo, Described},
};
use webrocket_wire::{ChannelKind, presence};

use super::{Ask, Control};
use crate::{
    answer,
    net::Net,
    oracles::{Audiences, Guarantee, Ledger, Present},
    time::Micros,
};

impl Control {
    /// Asks all shards for all their channels; [`Control::check_channels`] judges the answers.
    pub fn list_channels(&mut self, net: &mut Net) {
        self.listed.clear();
        let ids: Vec<_> = self.known.iter().flat_map(|known| &known.snapshot).map(|vhost| vhost.id).collect();
        for vhost in ids {
            for shard in 0..net.commands.len() {
                let ticket = self.ticket(Ask::List(vhost));
                self.send(net, shard, 0, Command::ListChannels { ticket, vhost });
            }
        }
    }

    /// Whether the channels are those that were opened, with these subscribers besides.
    pub fn check_channels(
        &self,
        at: Micros,
        ledger: &mut Ledger,
        guarantee: Guarantee,
        audiences: &Audiences,
    ) {
        let none = BTreeSet::new();
        for (index, known) in self.known.iter().enumerate() {
            let Some(vhost) = &known.snapshot else { continue };
            let listed = || self.listed.iter().filter(|((of, _), _)| *of == vhost.id);
            for (_, info) in listed() {
                let name = crate::answer::channel(info.name.as_str());
                let audience = name.and_then(|name| audiences.get(&(index, name)));
                let (count, visible) =
                    audience.map_or((0, none.clone()), |all| (all.subscribers, all.visible.clone()));
                let opened = known.opened.contains(&info.name);
                let fits = info.subscribers == count && info.opened == opened && (opened || count > 0);
                ledger.check(at, guarantee, || {
                    (!fits).then(|| format!("{info:?}, but browsers say {count}, opened: {opened}"))
                });
                let present = present(info);
                let uids: BTreeSet<_> = present.keys().cloned().collect();
                ledger.check(at, Guarantee::MembersAreThoseWhoSubscribe, || {
                    (uids != visible).then(|| format!("{info:?}, but browsers say {visible:?}"))
                });
                for window in audience.iter().flat_map(|audience| &audience.windows) {
                    let knowledge = ledger.windows[*window].knowledge.as_ref();
                    let known = knowledge.and_then(|knowledge| knowledge.present.clone());
                    ledger.check(at, Guarantee::MembersAreThoseWhoSubscribe, || {
                        known
                            .filter(|known| *known != present)
                            .map(|known| format!("a subscriber knows {known:?}, the owner {info:?}"))
                    });
                }
            }
            let expected = known.opened.len() as u64
                + audiences
                    .iter()
                    .filter(|((of, name), audience)| {
                        *of == index
                            && audience.subscribers > 0
                            && !known.opened.iter().any(|known| known.as_str() == *name)
                    })
                    .count() as u64;
            let (found, counted) = (listed().count() as u64, u64::from(vhost.channels.get()));
            ledger.check(at, guarantee, || {
                (found != expected || counted != expected).then(|| {
                    format!("{}: {found} channels, counted {counted}, but should be {expected}", vhost.path)
                })
            });
        }
        for count in &self.gone {
            ledger.check(at, guarantee, || {
                (count.get() != 0).then(|| format!("a vhost is gone, {} channels are counted", count.get()))
            });
        }
    }

    /// A shard lists its channels; of presence channels their members are asked for.
    pub(super) fn listed(&mut self, net: &mut Net, vhost: VhostId, channels: Vec<ChannelInfo>) {
        for info in channels {
            if info.kind() == ChannelKind::Presence {
                let ticket = self.ticket(Ask::Describe(vhost));
                let (owner, channel) = (self.directory.owner(vhost, &info.name), info.name.clone());
                self.send(net, owner.index(), 0, Command::DescribeChannel { ticket, vhost, channel });
            }
            self.listed.insert((vhost, info.name.clone()), info);
        }
    }

    /// A shard describes a channel.
    pub(super) fn described(&mut self, vhost: VhostId, described: Described) {
        if let Ok(info) = described {
            self.listed.insert((vhost, info.name.clone()), info);
        }
    }
}

/// Who is present, as the owner describes it.
fn present(info: &ChannelInfo) -> Present {
    let entries = info.members.iter().flatten().map(|member| {
        let entry = serde_json::from_str(&presence::list([member])).ok();
        let entry = entry.and_then(|entry| answer::member(&entry)).expect("an entry is a member");
        assert_eq!(entry.uid, *member.uid, "an entry names its member");
        (entry.uid, entry.data)
    });
    entries.collect()
}
