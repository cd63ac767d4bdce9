//! Claims about what is measured.

mod bounds;
mod policies;
