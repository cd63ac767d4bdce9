//! The scope's key, written before the first route lookup. Nothing later may write it: filters are
//! chosen with the first route.

use std::ffi::c_void;
use std::sync::Arc;

use imp_grammar::headers::SCOPE_HOST;

use crate::abi::{Buffer, Pointer};
use crate::envoy::{self, Early};
use crate::faults::{self, guard};
use crate::host::{no_host, without_dot};
use crate::hosts::ServerName;
use crate::space::Space;
use crate::state::State;
use crate::{config, start};

/// The extension's name in Envoy's configuration.
const NAME: &str = "host";

pub(super) struct ScopeKey {
    pub(super) config: config::ScopeKey,
    pub(super) state: Arc<State>,
}

impl ScopeKey {
    fn write(&self, early: Early) {
        #[cfg(test)]
        self.state.may_fail();
        // What judged the call before has refused it with a key that no scope has.
        let mut space = Space::new();
        let mut free = space.free();
        let judged = early.header(SCOPE_HOST, &mut free);
        let is_refused = |key: &str| key.starts_with('!') && key != no_host::MISDIRECTED;
        if judged.as_deref().is_some_and(is_refused) {
            return;
        }
        let name = self.config.tls.then(|| early.server_name());
        let name = match &name {
            None => ServerName::NoTls,
            Some(name) => ServerName::Tls(name.as_deref()),
        };
        let authority = early.header(":authority", &mut free).unwrap_or_default();
        let key = match self.state.is_loaded() {
            true => self.state.hosts.key(self.config.port, &authority, name),
            false => no_host::NOT_LOADED.into(),
        };
        early.set_header(SCOPE_HOST, &key);
        // Envoy leaves the dot to the module: it would take one of two.
        if let Some(without) = without_dot(&authority).filter(|_| key != no_host::MALFORMED) {
            early.set_header(":authority", &without);
        }
    }
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_early_header_mutation_config_new(
    _envoy: Pointer,
    name: Buffer,
    json: Buffer,
) -> *const c_void {
    guard(std::ptr::null(), || {
        // SAFETY: Envoy's bytes are valid while this hook runs.
        let (name, json) = unsafe { (name.copied(), json.copied()) };
        let made = config::parse::<config::ScopeKey>(NAME, &name, &json)
            .and_then(|config| Ok(ScopeKey { state: start::shared(&config.state)?, config }));
        match made {
            Ok(made) => Box::into_raw(Box::new(made)).cast_const().cast(),
            Err(error) => {
                envoy::error(&format!("early header mutation refused: {error}"));
                std::ptr::null()
            }
        }
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_early_header_mutation_config_destroy(
    config: *const c_void,
) {
    // SAFETY: made by the hook above, and Envoy destroys it once.
    guard((), || drop(unsafe { Box::from_raw(config.cast_mut().cast::<ScopeKey>()) }));
}

/// Returns true: later mutations run, too.
#[unsafe(no_mangle)]
pub(super) extern "C" fn envoy_dynamic_module_on_early_header_mutation_mutate(
    config: *const c_void,
    context: Pointer,
) -> bool {
    // SAFETY: Envoy's pointer for this call.
    let Some(early) = (unsafe { Early::of(context) }) else { return true };
    let done = guard(false, || {
        // SAFETY: made by the first hook, and destroyed after the last call.
        let key = unsafe { &*config.cast::<ScopeKey>() };
        key.write(early);
        true
    });
    if !done {
        // SAFETY: as above.
        guard((), || unsafe { faults::count(&(*config.cast::<ScopeKey>()).state) });
        guard((), || early.set_header(SCOPE_HOST, no_host::MALFORMED));
    }
    true
}
