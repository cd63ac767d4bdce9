//! Claims about what is judged alike.

mod regexes;
mod table;
mod texts;
