//! What this agent has seen of the control plane's history, on disk: it is told nothing by a database
//! that went back behind that.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

use crate::lkg::{Lkg, Loaded, Table};

/// Shows it in every call.
pub(super) const HEADER: &str = "imp-history";

const FACT: &str = "history";

/// Longer ones are not ours.
const LONGEST: usize = 256;

/// The newest point that was told. Clones are one.
#[derive(Clone, Debug)]
pub struct Seen {
    lkg: Lkg,
    point: Arc<Mutex<Option<String>>>,
}

impl Seen {
    /// As it was on disk.
    pub fn restore(lkg: Lkg, loaded: &Loaded) -> Self {
        let point = loaded.get(Table::Facts, FACT);
        let point = point.and_then(|point| std::str::from_utf8(point).ok()).map(str::to_owned);
        Self { lkg, point: Arc::new(Mutex::new(point)) }
    }

    /// A newer one.
    pub(crate) fn told(&self, point: &str) {
        if point.is_empty()
            || point.len() > LONGEST
            || point.parse::<MetadataValue<Ascii>>().is_err()
        {
            return;
        }
        let mut known = self.point.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(point) {
            *known = Some(point.to_owned());
            self.lkg.put(Table::Facts, FACT, point.to_owned());
        }
    }

    /// Brings it to the disk once more.
    pub(super) fn keep(&self) {
        let known = self.point.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(point) = known.as_ref() {
            self.lkg.put(Table::Facts, FACT, point.clone());
        }
    }

    /// What every call shows.
    pub(super) fn header(&self) -> Option<MetadataValue<Ascii>> {
        let known = self.point.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_deref().and_then(|point| point.parse().ok())
    }
}

/// Whether a call was refused because the database went back.
pub(super) fn went_back(status: &Status) -> bool {
    let reason = status.metadata().get("imp-reason").and_then(|reason| reason.to_str().ok());
    reason == Some("control_went_back")
}
