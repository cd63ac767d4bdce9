//! The whole stack as real processes: for end-to-end tests, which use only the public REST API, and
//! for benchmarks, which compare it with peers in the same run.

pub mod counting;
pub mod edge;
#[cfg(feature = "kube")]
pub mod eg;
#[cfg(feature = "enforce")]
pub mod enforce;
#[cfg(feature = "fuzz")]
#[expect(clippy::expect_used, reason = "what is expected and is not so is a finding")]
pub mod fuzz;
pub mod hostile;
#[cfg(feature = "kube")]
pub mod kube;
pub mod ports;
pub mod process;
pub mod publish;
pub mod report;
pub mod rest;
pub mod routes;
pub mod sample;
pub mod scale;
pub mod stack;
pub mod stub;
pub mod upstream;
pub mod xds;

/// Must be called first by every program and test that uses HTTP with TLS; idempotent.
pub fn install_crypto() {
    // An error means that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
