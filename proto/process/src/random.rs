//! Random numbers. Nothing else of a program asks for them.

use rand::distr::{Distribution, StandardUniform};

/// From the system's randomness, good for keys.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    rand::random()
}
