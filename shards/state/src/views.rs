//! The views of a shard: channels, each in one encoding, as their subscribers here receive them.
//!
//! A channel's views form a chain that begins in the maps, where an open channel is found by its name and by its
//! owner's reference. There is a view for every encoding in which a session of this shard subscribes the channel.

use webrocket_wire::ChannelName;

use crate::{
    channels::ChannelKey,
    encoding::Encoding,
    ids::{ChannelRef, ShardId},
    log::{Cursor, Log},
    slots::{SessionSlot, Slots, ViewSlot},
    vhost::VhostId,
};

/// A channel in one encoding as one shard sees it.
#[derive(Debug)]
pub struct View {
    /// Vhost and name.
    pub key: ChannelKey,
    /// The shard that owns the channel.
    pub owner: ShardId,
    /// The channel at its owner.
    pub channel: ChannelRef,
    /// What its log holds.
    pub encoding: Encoding,
    /// The channel's next view, in another encoding.
    next: Option<ViewSlot>,
    /// The channel is closed; its subscribers are being told.
    is_detached: bool,
    /// What its subscribers still have to take.
    pub log: Log,
    /// Those who subscribe nothing else.
    pub followers: Vec<Entry>,
    /// Those who subscribe other channels too.
    pub visitors: Vec<Entry>,
    /// Where the flush of the followers stands.
    pub flush: ViewFlush,
}

/// A subscriber in a view's list, and which of its subscriptions that is.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The session.
    pub session: SessionSlot,
    /// The index among its subscriptions.
    pub back: u32,
}

/// Where the flush of a view's followers stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewFlush {
    /// Nothing to flush.
    Clean,
    /// In the queue, not begun.
    Queued,
    /// Followers below an index are still to be flushed.
    Running {
        /// Followers from this index on are done.
        below: usize,
        /// Something came since.
        again: bool,
    },
}

impl View {
    /// The channel's next view, in another encoding.
    #[must_use]
    pub fn next(&self) -> Option<ViewSlot> {
        self.next
    }

    /// Whether its channel is closed: its subscribers are being told.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.is_detached
    }

    /// Its channel's name.
    #[must_use]
    pub fn name(&self) -> &ChannelName {
        &self.key.1
    }

    /// How many sessions of this shard subscribe it.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.followers.len() + self.visitors.len()
    }

    /// Some subscriber's slot.
    #[must_use]
    pub fn any_subscriber(&self) -> Option<SessionSlot> {
        self.followers.last().or(self.visitors.last()).map(|entry| entry.session)
    }

    /// The list of those with this sort of cursor.
    pub fn list(&mut self, cursor: Cursor) -> &mut Vec<Entry> {
        match cursor {
            Cursor::Follower => &mut self.followers,
            Cursor::Visitor => &mut self.visitors,
        }
    }
}

/// A [`ChannelKey`] whose name is borrowed.
#[derive(Hash)]
struct NamedChannel<'a> {
    vhost: VhostId,
    name: &'a str,
}

impl hashbrown::Equivalent<ChannelKey> for NamedChannel<'_> {
    fn equivalent(&self, (vhost, name): &ChannelKey) -> bool {
        self.vhost == *vhost && self.name == name.as_str()
    }
}

/// The views of a shard.
#[derive(Debug, Default)]
pub struct Views {
    slots: Slots<ViewSlot, View>,
    /// Of each open channel one of its views, from which `next` leads to the others, with its encoding.
    by_key: hashbrown::HashMap<ChannelKey, (ViewSlot, Encoding), ahash::RandomState>,
    /// The same by the owner's reference.
    by_channel: hashbrown::HashMap<(ShardId, ChannelRef), ViewSlot, ahash::RandomState>,
    /// How many views of closed channels there are still.
    detached: usize,
}

impl Views {
    /// The view in a slot, whichever it is by now.
    pub fn at(&mut self, view: ViewSlot) -> Option<&mut View> {
        self.slots.at(view).map(|(view, _)| view)
    }

    /// The view of a channel in an encoding, by the channel's name.
    #[must_use]
    #[inline]
    pub fn find(&self, key: &ChannelKey, encoding: Encoding) -> Option<ViewSlot> {
        self.in_encoding(*self.by_key.get(key)?, encoding)
    }

    /// The first of a channel's views, by its owner's reference; [`View::next`] leads to the others.
    #[must_use]
    pub fn first(&self, owner: ShardId, channel: ChannelRef) -> Option<ViewSlot> {
        self.by_channel.get(&(owner, channel)).copied()
    }

    /// The view of a vhost's channel of that name in an encoding.
    #[must_use]
    pub fn named(&self, vhost: VhostId, name: &str, encoding: Encoding) -> Option<ViewSlot> {
        self.in_encoding(*self.by_key.get(&NamedChannel { vhost, name })?, encoding)
    }

    #[inline]
    fn in_encoding(&self, (first, of): (ViewSlot, Encoding), encoding: Encoding) -> Option<ViewSlot> {
        if of == encoding { Some(first) } else { self.in_other_encoding(first, encoding) }
    }

    #[cold]
    fn in_other_encoding(&self, first: ViewSlot, encoding: Encoding) -> Option<ViewSlot> {
        let mut views = std::iter::successors(Some(first), |view| self.slots[*view].next);
        views.find(|view| self.slots[*view].encoding == encoding)
    }

    /// Whether subscribers of closed channels are still to be told.
    #[must_use]
    pub fn has_detached(&self) -> bool {
        self.detached > 0
    }

    /// The view of a channel in an encoding, made where there is none.
    pub fn find_or_create(
        &mut self,
        key: &ChannelKey,
        owner: ShardId,
        channel: ChannelRef,
        encoding: Encoding,
    ) -> ViewSlot {
        let next = self.first(owner, channel);
        if let Some(view) =
            next.and_then(|first| self.in_encoding((first, self.slots[first].encoding), encoding))
        {
            return view;
        }
        let (view, _) = self.slots.insert(View {
            key: key.clone(),
            owner,
            channel,
            encoding,
            next,
            is_detached: false,
            log: Log::default(),
            followers: Vec::new(),
            visitors: Vec::new(),
            flush: ViewFlush::Clean,
        });
        self.by_channel.insert((owner, channel), view);
        self.by_key.insert(key.clone(), (view, encoding));
        view
    }

    /// Whether the slot still holds the view that had this generation.
    #[must_use]
    pub fn holds(&self, view: ViewSlot, generation: u32) -> bool {
        self.slots.peek(view, generation).is_some()
    }

    /// The generation of the view in a slot.
    pub fn generation(&mut self, view: ViewSlot) -> u32 {
        self.slots.at(view).map(|(_, generation)| generation).expect("a used slot")
    }

    /// Takes a closed channel's views out of the maps: new subscribers get new ones. Each goes with its last
    /// subscriber. Returns the views with their generations.
    pub fn detach(&mut self, owner: ShardId, channel: ChannelRef) -> Vec<(ViewSlot, u32)> {
        let mut detached = Vec::new();
        let mut next = self.by_channel.remove(&(owner, channel));
        if let Some(first) = next {
            let key = &self.slots[first].key;
            if self.by_key.get(key).is_some_and(|(view, _)| *view == first) {
                self.by_key.remove(key);
            }
        }
        while let Some(view) = next {
            let generation = self.generation(view);
            detached.push((view, generation));
            let place = &mut self.slots[view];
            place.is_detached = true;
            self.detached += 1;
            next = place.next.take();
        }
        detached
    }

    /// Removes a view.
    pub fn remove(&mut self, view: ViewSlot) {
        self.unchain(view);
        let generation = self.generation(view);
        self.slots.remove(view, generation);
    }

    fn unchain(&mut self, view: ViewSlot) {
        let View { key, owner, channel, next, is_detached, .. } = &self.slots[view];
        if *is_detached {
            self.detached -= 1;
            return;
        }
        let (by_channel, next) = ((*owner, *channel), *next);
        let first =
            self.by_channel.get(&by_channel).copied().expect("an open channel's view is in its chain");
        if first != view {
            let mut before = first;
            while self.slots[before].next != Some(view) {
                before = self.slots[before].next.expect("the view is in the chain");
            }
            self.slots[before].next = next;
            return;
        }
        let is_named = self.by_key.get(key).is_some_and(|(first, _)| *first == view);
        match next {
            Some(next) => {
                self.by_channel.insert(by_channel, next);
                if is_named {
                    self.by_key.insert(key.clone(), (next, self.slots[next].encoding));
                }
            }
            None => {
                self.by_channel.remove(&by_channel);
                if is_named {
                    self.by_key.remove(key);
                }
            }
        }
    }
}

impl std::ops::Index<ViewSlot> for Views {
    type Output = View;

    fn index(&self, view: ViewSlot) -> &View {
        &self.slots[view]
    }
}

impl std::ops::IndexMut<ViewSlot> for Views {
    fn index_mut(&mut self, view: ViewSlot) -> &mut View {
        &mut self.slots[view]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::slots::ChannelSlot;

    const OWNER: ShardId = ShardId(1);

    /// The channel that is called so: a namesake of another generation is another channel.
    fn channel(number: u8, generation: u32) -> (ChannelKey, ChannelRef) {
        let key = (VhostId(0), format!("c{number}").parse().unwrap());
        (key, ChannelRef { slot: ChannelSlot(number.into()), generation })
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Somebody who receives in this encoding subscribes a channel.
        Need(u8, u8),
        /// Nobody does any more.
        Remove(usize),
        /// The channel is closed, and opened anew.
        Close(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3u8, 0..4u8).prop_map(|(channel, encoding)| Step::Need(channel, encoding)),
            2 => any::<usize>().prop_map(Step::Remove),
            1 => (0..3u8).prop_map(Step::Close),
        ]
    }

    proptest! {
        #[test]
        fn an_open_channel_has_one_view_in_each_encoding_that_is_needed(
            steps in proptest::collection::vec(step(), 1..80),
        ) {
            let (mut views, mut generations) = (Views::default(), [0; 3]);
            // Of open channels: by number and encoding; then the views of closed ones.
            let mut open: BTreeMap<(u8, u8), ViewSlot> = BTreeMap::new();
            let mut closed: Vec<ViewSlot> = Vec::new();
            for step in steps {
                match step {
                    Step::Need(number, encoding) => {
                        let (key, of) = channel(number, generations[usize::from(number)]);
                        let view = views.find_or_create(&key, OWNER, of, Encoding::numbered(encoding));
                        prop_assert_eq!(*open.entry((number, encoding)).or_insert(view), view);
                    }
                    Step::Remove(which) if !open.is_empty() => {
                        let which = *open.keys().nth(which % open.len()).unwrap();
                        views.remove(open.remove(&which).unwrap());
                    }
                    Step::Remove(which) if !closed.is_empty() => {
                        views.remove(closed.swap_remove(which % closed.len()));
                    }
                    Step::Remove(_) => {}
                    Step::Close(number) => {
                        let generation = &mut generations[usize::from(number)];
                        let mut detached: Vec<_> =
                            views.detach(OWNER, channel(number, *generation).1).into_iter().map(|(view, _)| view).collect();
                        *generation += 1;
                        detached.sort_unstable();
                        let mut expected: Vec<_> = open.extract_if(.., |(of, _), _| *of == number).map(|(_, view)| view).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(&detached, &expected);
                        closed.extend(detached);
                    }
                }
                prop_assert_eq!(views.has_detached(), !closed.is_empty());
                for number in 0..3 {
                    let (key, of) = channel(number, generations[usize::from(number)]);
                    let mut chain: Vec<_> =
                        std::iter::successors(views.first(OWNER, of), |view| views[*view].next()).collect();
                    chain.sort_unstable();
                    let mut expected: Vec<_> = open.range((number, 0)..=(number, 3)).map(|(_, view)| *view).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(chain, expected);
                    for encoding in 0..4 {
                        let expected = open.get(&(number, encoding)).copied();
                        prop_assert_eq!(views.find(&key, Encoding::numbered(encoding)), expected);
                    }
                }
            }
        }
    }
}
