//! The renderer for Gateway API: which calls its objects match, and what it refuses.

mod precedence;
mod refusals;
mod schemas;
