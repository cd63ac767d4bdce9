//! Headers for callers of admitted calls.

use crate::few::{Few, Line};

/// How many there are at most: `ratelimit-policy` and `ratelimit`.
const MOST: usize = 2;

/// The value of one. That of two limits fits.
pub(crate) type Header = Line<88>;

/// Their names and values.
pub type Headers = Few<(&'static str, Header), MOST>;
