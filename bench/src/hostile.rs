//! One tenant at every cap at once, and its effect on another one.

mod attack;
mod quiet;

pub use attack::Attack;
pub use quiet::Quiet;
