//! Random numbers. Nothing else in a program generates them.

use rand::distr::{Distribution, StandardUniform};

/// From the system's random source, suitable for keys.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    rand::random()
}
