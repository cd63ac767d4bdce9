//! Claims about what is judged alike.

mod query;
mod regexes;
mod table;
mod texts;
