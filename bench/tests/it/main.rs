//! The house's own rules, and the whole stack on a real Envoy.

mod tidy;
