//! Where counts are kept so that they outlive the process. The engine counts; who embeds it keeps.

use std::fmt;

/// Two numbers that are kept together.
pub type Pair = [u64; 2];

/// Where a count is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(pub u32);

/// Keeps counts. Called for every call that is counted, before it is answered, so nothing here may
/// wait, and nothing here can fail: what cannot be kept now goes on in memory, and
/// [`Engine::keep_all`](crate::Engine::keep_all) brings it here later.
pub trait Ledger: fmt::Debug + Send + Sync {
    /// The place of this name, and what is kept there. None: there is no room now.
    fn place(&self, name: &str) -> Option<(Place, Pair)>;

    /// Keeps the count.
    fn keep(&self, place: Place, count: Pair);

    /// Keeps how much of the count is known elsewhere.
    fn keep_committed(&self, place: Place, count: Pair);

    /// What was committed before counts for nothing any more: counts begin at what was not.
    fn rebase(&self);

    /// Nobody counts there now; the name may come back.
    fn release(&self, place: Place);

    /// The name does not come back.
    fn free(&self, place: Place);
}
