//! Claims to come.
