//! Claims about what is judged alike.

mod hosts;
mod query;
mod regexes;
mod table;
mod texts;
