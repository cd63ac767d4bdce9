//! Tests of the module in a real Envoy.
