//! A hash for maps whose keys are ids of the control plane: what they contain is not up to callers.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes hashers.
pub(crate) type Fast = BuildHasherDefault<Mixer>;

/// Multiplies each eight bytes in, and folds the product.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mixer(u64);

/// Odd, with as many ones as zeros.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Mixer {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ FACTOR) * u128::from(FACTOR.rotate_left(17) | 1);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.mix(u64::from_le_bytes(word) ^ (rest.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn ids_that_differ_little_are_spread() {
        let ids: Vec<String> = (0..100_000).map(|n| format!("0000-7000-8000-{n:012x}")).collect();
        let hashes: Vec<u64> = ids.iter().map(|id| Fast::default().hash_one(id)).collect();
        let different: HashSet<&u64> = hashes.iter().collect();
        assert_eq!(different.len(), ids.len());
        // The low bits choose a bucket, the highest a shard.
        for part in [|hash: u64| hash & 255, |hash: u64| hash >> 56] {
            let mut counts = [0; 256];
            hashes.iter().for_each(|hash| counts[part(*hash) as usize] += 1);
            assert!(counts.iter().all(|count| (250..550).contains(count)), "{counts:?}");
        }
        assert_ne!(Fast::default().hash_one("a"), Fast::default().hash_one("a\0"));
    }
}
