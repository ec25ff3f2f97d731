//! The only source of randomness: counter-based streams named for what they decide.
//!
//! A stream depends on the seed, its name and its indices alone, never on how many numbers other
//! streams gave or on the number of threads.

use rand::Rng;
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

/// A standard normal number (Box and Muller, 1958).
pub fn normal(stream: &mut Stream) -> f64 {
    let radius = (-2.0 * (1.0 - stream.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * stream.random::<f64>()).cos()
}

/// A number of the beta distribution whose parameters are both `alpha`, which is above 0: as the
/// share of one of two gamma distributed numbers (Marsaglia and Tsang, 2000).
pub fn beta(stream: &mut Stream, alpha: f64) -> f64 {
    let [a, b] = [(); 2].map(|()| log_gamma(stream, alpha));
    1.0 / (1.0 + (b - a).exp())
}

/// Logarithm of a gamma distributed number: those of small `alpha` are often too small themselves.
fn log_gamma(stream: &mut Stream, alpha: f64) -> f64 {
    // One of alpha + 1 times a power of an even number is one of alpha.
    let d = alpha + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    let boosted = loop {
        let x = normal(stream);
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - stream.random::<f64>();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            break d.ln() + v.ln();
        }
    };
    boosted + (1.0 - stream.random::<f64>()).ln() / alpha
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

    #[test]
    fn streams_differ_by_seed_name_and_index() {
        let first = |seed, name, indices: &[u64]| stream(seed, name, indices).random::<u64>();
        let reference = first(1, "shuffle", &[0]);
        assert_eq!(reference, first(1, "shuffle", &[0]));
        assert_ne!(reference, first(2, "shuffle", &[0]));
        assert_ne!(reference, first(1, "dropout", &[0]));
        assert_ne!(reference, first(1, "shuffle", &[1]));
    }

    #[test]
    fn beta_numbers_have_their_mean_and_variance() {
        for alpha in [0.05, 0.2, 1.0, 4.0] {
            let mut stream = stream(1, "beta", &[]);
            let drawn: Vec<f64> = (0..20_000).map(|_| beta(&mut stream, alpha)).collect();
            assert!(drawn.iter().all(|share| (0.0..=1.0).contains(share)));
            let mean = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|share| (share - 0.5).powi(2)).sum::<f64>() / 20_000.0;
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: {mean}");
            assert!(
                (variance - expected).abs() < 0.02 * expected.max(0.05),
                "{alpha}: {variance}"
            );
        }
    }
}
