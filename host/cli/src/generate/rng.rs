//! Random numbers that are the same on every machine and in every release.
//!
//! xoshiro256++ and SplitMix64 by Blackman and Vigna (public domain), as published on prng.di.unimi.it. Kept here, in
//! forty lines, because `--seed` promises the same file for good, which a crate's generator may change.

/// The increment of SplitMix64; odd, so `seed + row * GAMMA` is another number for every row.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function: a bijection of the 64-bit numbers.
#[must_use]
pub const fn mix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The `n`th number of the SplitMix64 stream of `seed`; no two of a stream are equal.
#[must_use]
pub const fn nth(seed: u64, n: u64) -> u64 {
    mix64(seed.wrapping_add(n.wrapping_add(1).wrapping_mul(GAMMA)))
}

/// MurmurHash3's 32-bit finalizer: a bijection of the 32-bit numbers.
#[must_use]
pub const fn mix32(mut z: u32) -> u32 {
    z = (z ^ (z >> 16)).wrapping_mul(0x85eb_ca6b);
    z = (z ^ (z >> 13)).wrapping_mul(0xc2b2_ae35);
    z ^ (z >> 16)
}

/// xoshiro256++.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// Seeded with the first four numbers of SplitMix64, as its authors advise.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self([nth(seed, 0), nth(seed, 1), nth(seed, 2), nth(seed, 3)])
    }

    pub const fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.0;
        let out = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let t = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= t;
        *s3 = s3.rotate_left(45);
        out
    }

    /// Two independent numbers for the price of one.
    pub const fn next_pair(&mut self) -> (u32, u32) {
        let n = self.next_u64();
        ((n >> 32) as u32, n as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation with the state 1, 2, 3, 4 (as in rand_xoshiro's tests), and SplitMix64's with 0.
    #[test]
    fn the_generators_give_the_numbers_of_their_reference() {
        let mut rng = Rng([1, 2, 3, 4]);
        let first: Vec<u64> = (0..4).map(|_| rng.next_u64()).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
        assert_eq!(nth(0, 0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(nth(0, 1), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn thirty_two_bit_mixing_repeats_no_number() {
        let mut seen: Vec<u32> = (0..100_000).map(mix32).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100_000);
    }
}
