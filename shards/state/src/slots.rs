//! Slots with generations: small indexes that are given anew, and references that notice it.

/// How many slots are allocated at once. Growing moves nothing, so it never takes long.
const CHUNK: usize = 256;

/// A slab whose entries are named by slot and generation.
#[derive(Debug)]
pub struct Slots<T> {
    chunks: Vec<Box<[Slot<T>; CHUNK]>>,
    /// How many slots were ever given.
    given: usize,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), given: 0, free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Puts an entry into a free slot; returns the slot and its generation.
    pub fn insert(&mut self, entry: T) -> (u32, u32) {
        let slot = self.free.pop().unwrap_or_else(|| self.give());
        let place = self.place_mut(slot).expect("a given slot");
        place.entry = Some(entry);
        (slot, place.generation)
    }

    fn give(&mut self) -> u32 {
        if self.given == self.chunks.len() * CHUNK {
            let chunk: Vec<Slot<T>> = (0..CHUNK).map(|_| Slot { generation: 0, entry: None }).collect();
            let Ok(chunk) = chunk.into_boxed_slice().try_into() else {
                unreachable!("made with that length")
            };
            self.chunks.push(chunk);
        }
        self.given += 1;
        u32::try_from(self.given - 1).expect("fewer than 2^32 slots")
    }

    fn place(&self, slot: u32) -> Option<&Slot<T>> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK).map(|chunk| &chunk[slot % CHUNK])
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / CHUNK).map(|chunk| &mut chunk[slot % CHUNK])
    }

    /// The entry, unless it is gone.
    pub fn entry(&mut self, slot: u32, generation: u32) -> Option<&mut T> {
        let place = self.place_mut(slot)?;
        if place.generation == generation { place.entry.as_mut() } else { None }
    }

    /// The entry, unless it is gone.
    #[must_use]
    pub fn peek(&self, slot: u32, generation: u32) -> Option<&T> {
        let place = self.place(slot)?;
        if place.generation == generation { place.entry.as_ref() } else { None }
    }

    /// Whatever stands in the slot now.
    pub fn at(&mut self, slot: u32) -> Option<(&mut T, u32)> {
        let place = self.place_mut(slot)?;
        let generation = place.generation;
        place.entry.as_mut().map(|entry| (entry, generation))
    }

    /// Takes the entry out; its slot may be given anew.
    pub fn remove(&mut self, slot: u32, generation: u32) -> Option<T> {
        let place = self.place_mut(slot)?;
        if place.generation != generation {
            return None;
        }
        let entry = place.entry.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        Some(entry)
    }

    /// How many slots there are, free ones included.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.given).expect("fewer than 2^32 slots")
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

impl<T> std::ops::Index<u32> for Slots<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        self.place(slot).and_then(|place| place.entry.as_ref()).expect("a used slot")
    }
}

impl<T> std::ops::IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.place_mut(slot).and_then(|place| place.entry.as_mut()).expect("a used slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_reference_finds_nothing() {
        let mut slots = Slots::default();
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
