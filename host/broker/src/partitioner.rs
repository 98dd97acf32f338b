//! Which partition a key goes to: Kafka's default, so that moving to Kafka moves no key.

use clickmill_schemas::PartitionId;

/// Kafka's `murmur2` (seed 0x9747b28c) of `key`.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h = 0x9747_b28c ^ (key.len() as u32);
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, b) in rest.iter().enumerate() {
            h ^= u32::from(*b) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of `key` among `partitions` (taken as 1 where 0).
#[must_use]
pub fn partition_for(key: &[u8], partitions: u32) -> PartitionId {
    PartitionId((murmur2(key) & 0x7fff_ffff) % partitions.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's own UtilsTest.testMurmur2.
    #[test]
    fn murmur2_gives_the_hashes_of_kafkas_own_test() {
        let cases: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("string-f-24-chars-length", 124_730_809),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key:?}");
        }
    }

    #[test]
    fn every_key_has_a_partition_that_exists() {
        for n in 0..2_000u32 {
            let key = n.to_string();
            for partitions in [0, 1, 2, 3, 7, 256] {
                assert!(partition_for(key.as_bytes(), partitions).0 < partitions.max(1));
            }
        }
    }
}
