//! What control plane and agent share as processes: logging and spans, private directories, errors
//! about files, metrics, the stop signal, time, random numbers. Independent of the product.

pub mod clock;
pub mod directory;
pub mod file;
pub mod log;
pub mod metrics;
pub mod random;
mod stop;
pub mod traces;

pub use stop::stop_signal;
