//! The content of a table of routes.

use super::route::Route;
use crate::ir;

/// A publish with its routes, rendered by [`super::scope::routes`].
pub(crate) trait Member {
    fn publish(&self) -> &ir::Publish;
    fn routes(&self) -> &[Route];
    /// 0 unless Envoys rejected it and it is retried.
    fn stamp(&self) -> u32;
}
