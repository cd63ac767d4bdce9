//! Numbers that are stored in the ledger before the call that changed them continues.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::ledger::{Ledger, Pair, Place};

/// The longest name in a ledger.
const LONGEST: usize = 190;

/// Where the meters of one account are stored.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) owner: Arc<str>,
}

impl Home {
    pub(crate) fn new(ledger: &Arc<dyn Ledger>, owner: impl Into<Arc<str>>) -> Self {
        Self { ledger: ledger.clone(), owner: owner.into() }
    }
}

/// Where a meter is stored; by default nowhere.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    inner: Option<Inner>,
}

#[derive(Debug)]
struct Inner {
    ledger: Arc<dyn Ledger>,
    name: String,
    /// `None` if there was no space. Locked while the number changes, so that an older number never
    /// overwrites a newer one in the ledger.
    place: Mutex<Option<Place>>,
}

/// The exclusive right to change the number.
pub(crate) struct Turn<'a>(Option<(&'a Inner, MutexGuard<'a, Option<Place>>)>);

impl Kept {
    /// Opens the place of this name, with the number stored there.
    pub(crate) fn open(ledger: &Arc<dyn Ledger>, name: &str) -> (Self, Pair) {
        let name = short(name);
        let placed = ledger.place(&name);
        let pair = placed.map_or([0, 0], |(_, pair)| pair);
        let place = Mutex::new(placed.map(|(place, _)| place));
        (Self { inner: Some(Inner { ledger: ledger.clone(), name, place }) }, pair)
    }

    /// Waits until no other thread changes the number, if it is stored at all.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn(
            self.inner
                .as_ref()
                .map(|inner| (inner, inner.place.lock().unwrap_or_else(PoisonError::into_inner))),
        )
    }
}

impl Turn<'_> {
    /// Stores the number.
    pub(crate) fn keep(&self, pair: impl FnOnce() -> Pair) {
        if let Some((inner, place)) = &self.0
            && let Some(place) = **place
        {
            inner.ledger.keep(place, pair());
        }
    }

    /// Stores the number, also if there was no space before.
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
    // The prefix tells what kind of number it is.
    let (head, rest) = name.split_at(name.floor_char_boundary(LONGEST - 65));
    let digest = Sha256::digest(rest.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{head}#{digest}")
}
