//! Claims about what is judged alike.

mod hosts;
mod paths;
mod query;
#[path = "../reference.rs"]
mod reference;
mod regexes;
mod routes;
mod table;
mod texts;
