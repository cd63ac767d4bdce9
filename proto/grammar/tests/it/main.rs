//! Claims about what is judged alike.

mod hosts;
mod regexes;
mod table;
mod texts;
