//! The one source of chance: everything that a simulation decides by lot comes from its seed.
//!
//! The generator is SplitMix64, written out: a seed that found a fault must mean the same run
//! whatever becomes of a library, and unoptimised builds spend their time on the broker.

/// Decides by lot.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// The lots of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        assert!(least <= most, "a range with numbers in it");
        match (most - least).checked_add(1) {
            // The bias is far below what a simulation could notice.
            Some(count) => least + self.next() % count,
            None => self.next(),
        }
    }

    /// An index below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// `true` in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// `true` in so many of a thousand cases.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.next() % 1000 < permille
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// A number from 1 to `most` that is small more often than not.
    pub fn small(&mut self, most: u64) -> u64 {
        let bits = 64 - most.leading_zeros();
        let ceiling = 1u64 << self.between(0, u64::from(bits));
        self.between(1, ceiling.min(most).max(1))
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lots_are_within_their_bounds_and_reach_them() {
        let mut chance = Chance::new(1);
        let lots: Vec<_> =
            (0..1_000).map(|_| (chance.between(3, 5), chance.small(9), chance.below(2))).collect();
        assert!(lots.iter().all(|(a, b, c)| (3..=5).contains(a) && (1..=9).contains(b) && *c < 2));
        assert!(
            lots.iter().any(|(a, b, _)| (*a, *b) == (3, 1))
                && lots.iter().any(|(a, b, _)| (*a, *b) == (5, 9))
        );
        assert_eq!(
            Chance::new(0).between(0, u64::MAX),
            0xe220_a839_7b1d_cdaf,
            "as the generator's authors say"
        );
    }
}
