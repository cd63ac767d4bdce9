//! Tests of measured sizes.

mod bounds;
mod policies;
