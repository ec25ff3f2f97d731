//! The only source of randomness: counter-based streams named for what they decide.
//!
//! A stream depends on the seed, its name and its indices alone, never on how many numbers other
//! streams gave or on the number of threads.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A stream of random numbers, the same on every machine.
pub type Stream = ChaCha8Rng;

/// The stream of `name` and `indices` under `seed`, for example
/// `stream(seed, "augment", &[epoch, picture])`.
pub fn stream(seed: u64, name: &str, indices: &[u64]) -> Stream {
    ChaCha8Rng::from_seed(key(seed, name, indices))
}

/// A derived seed, to hand to a part that makes streams of its own.
pub fn derive(seed: u64, name: &str, indices: &[u64]) -> u64 {
    let key = key(seed, name, indices);
    u64::from_le_bytes(std::array::from_fn(|i| key[i]))
}

fn key(seed: u64, name: &str, indices: &[u64]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    for index in indices {
        hasher.update(&index.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_differ_by_seed_name_and_index() {
        let first = |seed, name, indices: &[u64]| stream(seed, name, indices).random::<u64>();
        let reference = first(1, "shuffle", &[0]);
        assert_eq!(reference, first(1, "shuffle", &[0]));
        assert_ne!(reference, first(2, "shuffle", &[0]));
        assert_ne!(reference, first(1, "dropout", &[0]));
        assert_ne!(reference, first(1, "shuffle", &[1]));
    }
}
