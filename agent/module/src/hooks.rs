//! The functions that Envoy calls.
//!
//! Envoy is built without a way to handle a panic of ours, so each runs in a [`guard`]. Envoy also
//! re-enters a stream: an answer runs the hooks for the response before it returns. So nothing here
//! holds `&mut` of a stream's state.
#![expect(unsafe_code, reason = "functions with C names, called by Envoy")]

mod early;
mod http;

use std::ffi::{c_char, c_void};

use crate::abi::{self, Callbacks, EarlyCallbacks};
use crate::faults::guard;

/// Called once, when Envoy loads the library. Null makes Envoy refuse it.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    guard(std::ptr::null(), || {
        // Without its callbacks there is nothing to write to a log with: Envoy says that the
        // initialisation failed.
        let Ok(callbacks) = Callbacks::resolve() else { return std::ptr::null() };
        abi::install(callbacks, EarlyCallbacks::resolve().ok());
        abi::stay_loaded(envoy_dynamic_module_on_program_init as *const c_void);
        abi::C_VERSION.as_ptr()
    })
}

#[cfg(test)]
mod tests;
