//! Claims about what is judged alike.

mod paths;
#[path = "../reference.rs"]
mod reference;
mod regexes;
mod routes;
mod table;
mod texts;
