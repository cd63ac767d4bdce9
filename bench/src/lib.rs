//! The whole stack as real processes: for the end-to-end tests, which drive it through the public
//! REST API only, and for the benchmarks, which put peers beside it in the same run.

pub mod counting;
pub mod edge;
#[cfg(feature = "fuzz")]
#[expect(clippy::expect_used, reason = "what is expected and is not so is a finding")]
pub mod fuzz;
pub mod hostile;
pub mod ports;
pub mod process;
pub mod publish;
pub mod report;
pub mod rest;
pub mod routes;
pub mod sample;
pub mod stack;
pub mod stub;
pub mod upstream;
pub mod xds;

/// Every program and test that speaks TLS-capable HTTP calls this first; more than once is fine.
pub fn install_crypto() {
    // An error means that a provider is there already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
