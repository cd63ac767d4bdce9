//! What control plane and agent do alike as processes: the log and its spans, a directory that is theirs
//! alone, errors about the files that they start from, the signal to stop, the time, random numbers. No
//! product word.

pub mod clock;
pub mod directory;
pub mod file;
pub mod log;
pub mod random;
mod stop;
pub mod traces;

pub use stop::stop_signal;
