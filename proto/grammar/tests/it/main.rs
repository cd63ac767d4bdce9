//! The table of caps against what is written about it.

mod table;
