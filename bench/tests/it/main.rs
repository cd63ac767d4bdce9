//! The repository's own rules, and the whole stack on a real Envoy, driven through the public REST
//! API.

mod alone;
mod definitions;
mod demo;
mod dns;
mod fanout;
mod floor;
mod flows;
mod inside;
mod key_locations;
mod module;
mod operator;
mod outage;
mod places;
mod poison;
mod policies;
mod quota;
mod scale;
mod still;
mod tarball;
mod tidy;
mod tls;
mod traces;
mod trailers;
mod trouble;
