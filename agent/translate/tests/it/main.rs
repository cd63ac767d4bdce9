//! Claims about the translation: what is rendered, what changes with a change, and that the real
//! Envoy takes it and does what it says.

mod fixtures;

mod assembly;
mod envoy;
mod golden;
mod parse;
mod random;
