//! The last seen point of the control plane's history, on disk. A database that was restored to an
//! earlier point must not update this agent.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

use crate::lkg::{Lkg, Loaded, Table};

/// The header that every call carries.
pub(super) const HEADER: &str = "imp-history";

const FACT: &str = "history";

/// A longer value is invalid.
const LONGEST: usize = 256;

/// The newest point received. Clones share it.
#[derive(Clone, Debug)]
pub struct Seen {
    lkg: Lkg,
    point: Arc<Mutex<Option<String>>>,
}

impl Seen {
    /// Restores it from disk.
    pub fn restore(lkg: Lkg, loaded: &Loaded) -> Self {
        let point = loaded.get(Table::Facts, FACT);
        let point = point.and_then(|point| std::str::from_utf8(point).ok()).map(str::to_owned);
        Self { lkg, point: Arc::new(Mutex::new(point)) }
    }

    /// Records a newer point.
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

    /// Stores it again.
    pub(super) fn keep(&self) {
        let known = self.point.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(point) = known.as_ref() {
            self.lkg.put(Table::Facts, FACT, point.clone());
        }
    }

    /// The header's value for a call.
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
