//! Claims about what is judged alike.

#[path = "../generated.rs"]
mod generated;
mod paths;
#[path = "../reference.rs"]
mod reference;
mod regexes;
mod routes;
mod table;
mod texts;
