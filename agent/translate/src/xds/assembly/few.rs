//! A set that mostly has one element, which then costs no allocation.

use std::collections::BTreeSet;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Few<T> {
    #[default]
    None,
    One(T),
    Many(BTreeSet<T>),
}

impl<T: Ord + Clone> Few<T> {
    pub(super) fn len(&self) -> usize {
        match self {
            Few::None => 0,
            Few::One(_) => 1,
            Few::Many(all) => all.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether it is new.
    pub(super) fn insert(&mut self, item: T) -> bool {
        match self {
            Few::None => *self = Few::One(item),
            Few::One(one) if *one == item => return false,
            Few::One(one) => {
                let both = BTreeSet::from([one.clone(), item]);
                *self = Few::Many(both);
            }
            Few::Many(all) => return all.insert(item),
        }
        true
    }

    /// Returns whether it was there.
    pub(super) fn remove(&mut self, item: &T) -> bool {
        match self {
            Few::None => false,
            Few::One(one) if one == item => {
                *self = Few::None;
                true
            }
            Few::One(_) => false,
            Few::Many(all) => {
                let was_there = all.remove(item);
                if all.len() == 1
                    && let Some(last) = all.pop_first()
                {
                    *self = Few::One(last);
                }
                was_there
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, many) = match self {
            Few::None => (None, None),
            Few::One(one) => (Some(one), None),
            Few::Many(all) => (None, Some(all.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_set_that_it_stands_for() {
        let (mut few, mut set) = (Few::None, BTreeSet::new());
        let steps = [1, 1, 2, 3, -3, 3, -1, -1, -9, 1, -2, -3, -1, -1, 4, -4];
        for step in steps {
            let item: i32 = step;
            match item < 0 {
                true => assert_eq!(few.remove(&-item), set.remove(&-item), "{step}"),
                false => assert_eq!(few.insert(item), set.insert(item), "{step}"),
            }
            assert!(few.iter().eq(set.iter()), "{few:?}");
            assert_eq!((few.len(), few.is_empty()), (set.len(), set.is_empty()));
            assert_eq!(few.first(), set.first());
            assert_eq!(matches!(few, Few::Many(_)), set.len() > 1);
        }
    }
}
