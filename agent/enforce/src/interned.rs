//! Texts and limits that many subscriptions have in common.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::calendar::Unit;
use crate::id::Id;
use crate::spec::{Spec, Window};

/// What is in use.
#[derive(Debug, Default)]
pub(crate) struct Interned {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    texts: HashSet<Arc<str>>,
    /// The latest limits of each plan, by where the windows of its quotas begin.
    limits: HashMap<PlanUnits, Arc<[Spec]>>,
}

/// A plan, and the units of its quotas.
type PlanUnits = (Id, Box<[Unit]>);

/// The units of all quotas.
fn units(limits: &[Spec]) -> Box<[Unit]> {
    let unit = |limit: &Spec| match &limit.window {
        Window::Calendar(calendar) => Some(calendar.unit()),
        Window::Rolling { .. } => None,
    };
    limits.iter().filter_map(unit).collect()
}

impl Interned {
    /// Replaces a text by an equal one that others hold, too.
    pub(crate) fn text(&self, text: &mut Arc<str>) {
        let mut known = self.known();
        match known.texts.get(text) {
            Some(held) => *text = held.clone(),
            None => drop(known.texts.insert(text.clone())),
        }
    }

    /// The same for the limits of a plan.
    pub(crate) fn limits(&self, plan: &Id, limits: &mut Arc<[Spec]>) {
        let key = (plan.clone(), units(limits));
        let mut known = self.known();
        match known.limits.get(&key) {
            Some(held) if held == limits => *limits = held.clone(),
            _ => drop(known.limits.insert(key, limits.clone())),
        }
    }

    /// Drops what nobody else holds.
    pub(crate) fn evict_idle(&self) {
        let mut known = self.known();
        known.limits.retain(|_, limits| Arc::strong_count(limits) > 1);
        known.texts.retain(|text| Arc::strong_count(text) > 1);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use imp_proto::config as pb;

    use super::*;

    #[test]
    fn limits_of_each_anchor_are_shared() {
        let interned = Interned::default();
        let share = |anchor_day| {
            let window = pb::limit::Window::CalendarMonth.into();
            let message = pb::Limit { anchor_day, window, amount: 1, ..Default::default() };
            let mut limits = Arc::from([Spec::parse(&message, None)].as_slice());
            interned.limits(&"plan".into(), &mut limits);
            limits
        };
        // The 11th and the 12th of January 1970, and the 11th of February.
        let [eleventh, twelfth, again] = [10, 11, 41].map(share);
        assert!(!Arc::ptr_eq(&eleventh, &twelfth) && Arc::ptr_eq(&eleventh, &again));
        assert_eq!(interned.known().limits.len(), 2);
    }

    #[test]
    fn equal_texts_and_limits_are_one_until_nobody_holds_them() {
        let interned = Interned::default();
        let share = || {
            let (mut text, mut limits) =
                (Arc::from("plan"), Arc::from([Spec::rate("a", 1, 60)].as_slice()));
            interned.text(&mut text);
            interned.limits(&"plan".into(), &mut limits);
            (text, limits)
        };
        let (one, other) = (share(), share());
        assert!(Arc::ptr_eq(&one.0, &other.0) && Arc::ptr_eq(&one.1, &other.1));
        interned.evict_idle();
        assert_eq!(interned.known().texts.len(), 1);
        let mut newer = Arc::from([Spec::rate("a", 2, 60)].as_slice());
        interned.limits(&"plan".into(), &mut newer);
        assert_eq!(newer[0].amount, 2, "a plan whose limits have changed");
        drop((one, other, newer));
        interned.evict_idle();
        let known = interned.known();
        assert_eq!((known.texts.len(), known.limits.len()), (0, 0));
    }
}
