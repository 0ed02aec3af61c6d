//! Slots with generations: small indexes that are given anew, and references that notice it.

use std::marker::PhantomData;

/// How many slots are allocated at once. Growing moves nothing, so it never takes long.
const CHUNK: usize = 256;

/// A slot of one sort of table, so that nobody looks it up in another.
pub trait SlotIndex: Copy + Eq {
    /// The slot of that index.
    fn new(index: u32) -> Self;

    /// Its index, counted from 0.
    fn index(self) -> usize;
}

macro_rules! slot_index {
    ($($(#[$doc:meta])* $Name:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
            pub struct $Name(pub u32);

            impl $Name {
                /// As an index, counted from 0.
                #[must_use]
                pub fn index(self) -> usize {
                    self.0 as usize
                }
            }

            impl SlotIndex for $Name {
                fn new(index: u32) -> Self {
                    Self(index)
                }

                fn index(self) -> usize {
                    self.0 as usize
                }
            }
        )*
    };
}

slot_index! {
    /// Where a shard holds a session.
    SessionSlot;
    /// Where a shard holds its view of a channel.
    ViewSlot;
    /// Where a channel's owner holds it.
    ChannelSlot;
    /// Where the exchange holds a worker.
    WorkerSlot;
}

/// A slab whose entries are named by slot and generation. `K` is what its slots are called.
#[derive(Debug)]
pub struct Slots<K, T> {
    chunks: Vec<Box<[Slot<T>; CHUNK]>>,
    /// How many slots were ever given.
    given: usize,
    free: Vec<K>,
    key: PhantomData<fn(K)>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

impl<K, T> Default for Slots<K, T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), given: 0, free: Vec::new(), key: PhantomData }
    }
}

impl<K: SlotIndex, T> Slots<K, T> {
    /// Puts an entry into a free slot; returns the slot and its generation.
    pub fn insert(&mut self, entry: T) -> (K, u32) {
        let slot = self.free.pop().unwrap_or_else(|| self.give());
        let place = self.place_mut(slot).expect("a given slot");
        place.entry = Some(entry);
        (slot, place.generation)
    }

    fn give(&mut self) -> K {
        if self.given == self.chunks.len() * CHUNK {
            let chunk: Vec<Slot<T>> = (0..CHUNK).map(|_| Slot { generation: 0, entry: None }).collect();
            let Ok(chunk) = chunk.into_boxed_slice().try_into() else {
                unreachable!("made with that length")
            };
            self.chunks.push(chunk);
        }
        self.given += 1;
        K::new(u32::try_from(self.given - 1).expect("fewer than 2^32 slots"))
    }

    fn place(&self, slot: K) -> Option<&Slot<T>> {
        let slot = slot.index();
        self.chunks.get(slot / CHUNK).map(|chunk| &chunk[slot % CHUNK])
    }

    fn place_mut(&mut self, slot: K) -> Option<&mut Slot<T>> {
        let slot = slot.index();
        self.chunks.get_mut(slot / CHUNK).map(|chunk| &mut chunk[slot % CHUNK])
    }

    /// The entry, unless it is gone.
    pub fn entry(&mut self, slot: K, generation: u32) -> Option<&mut T> {
        let place = self.place_mut(slot)?;
        if place.generation == generation { place.entry.as_mut() } else { None }
    }

    /// The entry, unless it is gone.
    #[must_use]
    pub fn peek(&self, slot: K, generation: u32) -> Option<&T> {
        let place = self.place(slot)?;
        if place.generation == generation { place.entry.as_ref() } else { None }
    }

    /// Whatever stands in the slot now.
    pub fn at(&mut self, slot: K) -> Option<(&mut T, u32)> {
        let place = self.place_mut(slot)?;
        let generation = place.generation;
        place.entry.as_mut().map(|entry| (entry, generation))
    }

    /// Takes the entry out; its slot may be given anew.
    pub fn remove(&mut self, slot: K, generation: u32) -> Option<T> {
        let place = self.place_mut(slot)?;
        if place.generation != generation {
            return None;
        }
        let entry = place.entry.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        Some(entry)
    }

    /// The slots from `first` on, free ones included.
    pub fn from(&self, first: K) -> impl Iterator<Item = K> + use<K, T> {
        let end = u32::try_from(self.given).expect("fewer than 2^32 slots");
        let first = u32::try_from(first.index()).expect("made from one");
        (first..end).map(K::new)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.given - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: SlotIndex, T> std::ops::Index<K> for Slots<K, T> {
    type Output = T;

    fn index(&self, slot: K) -> &T {
        self.place(slot).and_then(|place| place.entry.as_ref()).expect("a used slot")
    }
}

impl<K: SlotIndex, T> std::ops::IndexMut<K> for Slots<K, T> {
    fn index_mut(&mut self, slot: K) -> &mut T {
        self.place_mut(slot).and_then(|place| place.entry.as_mut()).expect("a used slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_reference_finds_nothing() {
        let mut slots = Slots::<SessionSlot, _>::default();
        let (slot, generation) = slots.insert("a");
        assert_eq!(slots.remove(slot, generation), Some("a"));
        assert_eq!(slots.remove(slot, generation), None);
        let (again, newer) = slots.insert("b");
        assert_eq!((again, newer), (slot, generation + 1));
        assert_eq!(slots.entry(slot, generation), None);
        assert_eq!(slots.peek(slot, newer), Some(&"b"));
        assert_eq!(slots.len(), 1);
    }
}
