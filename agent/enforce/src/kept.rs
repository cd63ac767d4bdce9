//! A number that is in the ledger before the call that changed it goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::ledger::{Ledger, Pair, Place};

/// Ledgers have room for names of this length.
const LONGEST: usize = 190;

/// Where a meter is kept: nowhere, by default.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    inner: Option<Inner>,
}

#[derive(Debug)]
struct Inner {
    ledger: Arc<dyn Ledger>,
    name: String,
    /// None: there was no room. Locked while the number changes, so that an older one never follows
    /// a newer one into the ledger.
    place: Mutex<Option<Place>>,
}

/// The right to change the number.
pub(crate) struct Turn<'a>(Option<(&'a Inner, MutexGuard<'a, Option<Place>>)>);

impl Kept {
    /// The place of this name, and what is kept there.
    pub(crate) fn open(ledger: &Arc<dyn Ledger>, name: &str) -> (Self, Pair) {
        let name = short(name);
        let placed = ledger.place(&name);
        let pair = placed.map_or([0, 0], |(_, pair)| pair);
        let place = Mutex::new(placed.map(|(place, _)| place));
        (Self { inner: Some(Inner { ledger: ledger.clone(), name, place }) }, pair)
    }

    /// Waits for the one that changes the number now, if it is kept at all.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn(
            self.inner
                .as_ref()
                .map(|inner| (inner, inner.place.lock().unwrap_or_else(PoisonError::into_inner))),
        )
    }
}

impl Turn<'_> {
    /// Keeps the number.
    pub(crate) fn keep(&self, pair: impl FnOnce() -> Pair) {
        if let Some((inner, place)) = &self.0
            && let Some(place) = **place
        {
            inner.ledger.keep(place, pair());
        }
    }

    /// The same, also when there was no room before.
    pub(crate) fn keep_at_last(&mut self, pair: impl FnOnce() -> Pair) {
        if let Some((inner, place)) = &mut self.0
            && place.is_none()
        {
            **place = inner.ledger.place(&inner.name).map(|(place, _): (Place, Pair)| place);
        }
        self.keep(pair);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let place = self.place.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = place.take() {
            self.ledger.release(place);
        }
    }
}

fn short(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    // What comes first tells what kind of number it is.
    let (head, rest) = name.split_at(name.floor_char_boundary(LONGEST - 65));
    let digest = Sha256::digest(rest.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{head}#{digest}")
}
