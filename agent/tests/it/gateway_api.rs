//! Delivery by Gateway API: on an API server of the tests' own, and on a real one.

mod api_server;
mod driver;
mod fallback;
mod real;
