//! What a table of routes is made of.

use super::route::Route;
use crate::ir;

/// A publish with its routes, rendered by [`super::scope::routes`].
pub(crate) trait Member {
    fn publish(&self) -> &ir::Publish;
    fn routes(&self) -> &[Route];
    /// Not 0 when Envoys have refused it, and it is tried again.
    fn stamp(&self) -> u32;
}
