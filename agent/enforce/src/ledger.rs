//! Where counts are stored so that they survive the process. The engine counts; its embedder
//! implements the storage.

use std::fmt;

/// Two numbers that are stored together.
pub type Pair = [u64; 2];

/// The place of a stored count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(pub u32);

/// Stores counts. Called for every counted call before it is answered, so nothing here may wait or
/// fail: what cannot be stored now stays in memory, and
/// [`Engine::keep_all`](crate::Engine::keep_all) stores it later.
pub trait Ledger: fmt::Debug + Send + Sync {
    /// The place of this name, with its stored count. `None` if there is no space now.
    fn place(&self, name: &str) -> Option<(Place, Pair)>;

    /// Stores the count.
    fn keep(&self, place: Place, count: Pair);

    /// Stores the committed part of the count.
    fn keep_committed(&self, place: Place, count: Pair);

    /// Drops the committed part of all counts: they continue with the rest.
    fn rebase(&self);

    /// The place is no longer in use; the name may come back.
    fn release(&self, place: Place);

    /// Frees the place; the name does not come back.
    fn free(&self, place: Place);
}
