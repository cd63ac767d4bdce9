//! Starts the state of the process.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{ConfigError, Paths};
use crate::feed::{self, Applier};
use crate::state::State;
use crate::{envoy, snapshot};

/// The process's state, and where it is from.
static RUNNING: Mutex<Option<(Paths, Arc<State>)>> = Mutex::new(None);

/// The state of this process; the first caller starts it.
pub(crate) fn shared(paths: &Paths) -> Result<Arc<State>, ConfigError> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    match &*running {
        Some((of, state)) if of == paths => Ok(state.clone()),
        Some((of, _)) => Err(ConfigError::Elsewhere(of.clone())),
        None => {
            let state = start(paths)?;
            *running = Some((paths.clone(), state.clone()));
            Ok(state)
        }
    }
}

/// Blocks while the file is read: listeners open afterwards.
fn start(paths: &Paths) -> Result<Arc<State>, ConfigError> {
    if envoy::is_validation() {
        return Ok(Arc::default());
    }
    let state = Arc::new(counted(paths));
    let mut applier = Applier::new(state.clone());
    if let Some(path) = &paths.snapshot {
        match snapshot::load(path, &mut applier) {
            Ok(()) => {
                let (history, version) = applier.holds();
                envoy::info(&format!("started from version {version} of {history} in the file"));
            }
            Err(error) => envoy::warn(&format!("not started from a file: {error}")),
        }
    }
    if let Some(socket) = &paths.feed {
        feed::start(socket.clone(), applier).map_err(ConfigError::Thread)?;
    }
    Ok(state)
}

/// Without a place for counts, calls are still decided and limited; nobody is told of them.
fn counted(paths: &Paths) -> State {
    let Some(directory) = &paths.counters else { return State::default() };
    State::counted_in(directory).unwrap_or_else(|error| {
        let directory = directory.display();
        envoy::error(&format!("CALLS ARE NOT COUNTED: {directory}: {error}"));
        State::default()
    })
}
