//! The calls of the last window, in slots of a 63rd of it. Each slot has the time of its last call,
//! and all its calls count until a window after that: a call counts for at least a window, and for
//! at most a 63rd longer. Calls that share no slot count exactly.

use super::SECOND;

/// The number of slots: those of a window, and the one that it begins in.
const SLOTS: usize = 64;

/// A century: longer windows are treated as this long, so that sums of times stay in range.
const LONGEST: i64 = 100 * 365 * 86_400 * SECOND;

/// How much later than it read the clock a call may arrive here.
const LATE: i64 = SECOND;

/// The length of a window and of its slots, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    window: i64,
    slot: i64,
}

impl Span {
    /// A window of 0 would be no limit at all.
    pub(crate) fn of_seconds(seconds: u64) -> Self {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).max(1);
        let window = seconds.saturating_mul(SECOND).min(LONGEST);
        let slots = SLOTS as i64 - 1;
        Self { window, slot: window / slots + i64::from(window % slots != 0) }
    }

    /// The number of the slot that contains a time.
    fn number(self, at: i64) -> i64 {
        at.div_euclid(self.slot)
    }

    fn start(self, number: i64) -> i64 {
        number.saturating_mul(self.slot)
    }

    /// The last nanosecond of a slot.
    fn last(self, number: i64) -> i64 {
        self.start(number.saturating_add(1)).saturating_sub(1)
    }

    /// The unit of times within a slot, of which a slot has at most `u32::MAX`.
    fn unit(self) -> i64 {
        (self.slot >> 32) + 1
    }

    fn units(self, behind: i64) -> i64 {
        behind / self.unit() + i64::from(behind % self.unit() != 0)
    }

    fn time(self, units: u32) -> i64 {
        i64::from(units).saturating_mul(self.unit())
    }
}

/// The slot that a call was counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken(i64);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    calls: u32,
    /// The time of the last call, in units after the start of the slot, rounded up.
    last: u32,
}

/// The calls that still count.
#[derive(Debug)]
pub(super) struct Ring {
    span: Span,
    /// The number of the newest slot; slots are stored at the remainder of their number.
    newest: i64,
    /// No slot before this one has calls that count.
    oldest: i64,
    /// The latest time seen. Time never goes back here.
    latest: i64,
    used: u64,
    sums: Sums,
    slots: [Slot; SLOTS],
}

/// The calls of each eighth of the slots, the newest first.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// False from when a slot begins or ends until they are summed up again.
    are_right: bool,
    eighths: [u32; 8],
}

impl Ring {
    pub(super) fn new(span: Span, now: i64) -> Self {
        let newest = span.number(now);
        let slots = [Slot::default(); SLOTS];
        let sums = Sums::default();
        Self { span, newest, oldest: newest, latest: now, used: 0, sums, slots }
    }

    /// The number of calls that count.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Advances to this time and returns the ring's time. If the clock was set back the calls move
    /// with it: they count for as long as they would have.
    pub(super) fn turn_to(&mut self, now: i64) -> i64 {
        let before = (self.oldest, self.newest);
        if now.saturating_add(LATE) < self.latest {
            self.put_back(now);
        }
        self.latest = self.latest.max(now);
        while self.oldest <= self.newest && self.end_of(self.oldest) <= self.latest {
            let calls = std::mem::take(self.slot(self.oldest)).calls;
            self.used = self.used.saturating_sub(u64::from(calls));
            self.oldest += 1;
        }
        self.newest = self.span.number(self.latest);
        if self.used == 0 {
            self.oldest = self.newest;
        }
        self.sums.are_right &= before == (self.oldest, self.newest);
        self.latest
    }

    fn put_back(&mut self, now: i64) {
        let newest = self.span.number(now);
        let by = newest - self.newest;
        self.slots.rotate_right(by.rem_euclid(SLOTS as i64) as usize);
        self.oldest += by;
        self.newest = newest;
        self.latest = now;
        self.sums.are_right = false;
    }

    /// Counts a call at the time that [`Ring::turn_to`] returned. `None` if the slot is full.
    pub(super) fn add(&mut self, now: i64) -> Option<Taken> {
        let number = self.newest;
        let behind = now.saturating_sub(self.span.start(number));
        let last = u32::try_from(self.span.units(behind)).unwrap_or(u32::MAX);
        let slot = self.slot(number);
        slot.calls = slot.calls.checked_add(1)?;
        slot.last = slot.last.max(last);
        self.used += 1;
        // The newest slot is in the first eighth.
        let [first, ..] = &mut self.sums.eighths;
        *first = first.saturating_add(1);
        Some(Taken(number))
    }

    /// Removes a call.
    pub(super) fn remove(&mut self, Taken(number): Taken) {
        if self.calls(number) > 0 {
            self.slot(number).calls -= 1;
            self.used = self.used.saturating_sub(1);
            self.sums.are_right = false;
        }
    }

    /// Nanoseconds until this many more calls no longer count.
    pub(super) fn wait_for(&self, calls: u64, now: i64) -> i64 {
        let mut freed = 0_u64;
        let enough = (self.oldest..=self.newest).find(|number| {
            freed += u64::from(self.calls(*number));
            freed >= calls
        });
        enough.map_or(0, |number| self.end_of(number).saturating_sub(now).max(0))
    }

    /// Whether none of its calls counts at this time.
    pub(super) fn is_over(&self, now: i64) -> bool {
        let mut numbers = self.oldest..=self.newest;
        numbers.all(|number| self.calls(number) == 0 || self.end_of(number) <= now)
    }

    /// The calls of a slot.
    fn calls(&self, number: i64) -> u32 {
        let there = (self.oldest..=self.newest).contains(&number);
        self.slots.get(index(number)).filter(|_| there).map_or(0, |slot| slot.calls)
    }

    fn slot(&mut self, number: i64) -> &mut Slot {
        #[expect(clippy::indexing_slicing, reason = "a remainder of the length")]
        &mut self.slots[index(number)]
    }

    /// The time from which on the calls of a slot no longer count.
    fn end_of(&self, number: i64) -> i64 {
        let last = self.slots.get(index(number)).map_or(0, |slot| slot.last);
        let last = self.span.start(number).saturating_add(self.span.time(last));
        last.min(self.span.last(number)).saturating_add(self.span.window)
    }

    /// The time of the latest call, and the calls of each eighth of the slots, the newest first.
    /// With each call its rate is stored, so sums are kept while no slot begins or ends.
    pub(super) fn eighths(&mut self) -> (i64, [u32; 8]) {
        if !self.sums.are_right {
            self.sums = Sums { are_right: true, eighths: self.summed() };
        }
        (self.latest, self.sums.eighths)
    }

    fn summed(&self) -> [u32; 8] {
        let mut eighths = [0_u32; 8];
        for number in self.oldest..=self.newest {
            let eighth = usize::try_from((self.newest - number) / EIGHTH).ok();
            if let Some(sum) = eighth.and_then(|eighth| eighths.get_mut(eighth)) {
                *sum = sum.saturating_add(self.calls(number));
            }
        }
        eighths
    }

    /// A ring with the calls of each eighth, placed at its last moment.
    pub(super) fn of_eighths(span: Span, latest: i64, eighths: [u64; 8]) -> Self {
        let mut ring = Self::new(span, latest);
        ring.oldest = ring.newest - SLOTS as i64 + 1;
        for (number, calls) in (0..8).zip(eighths) {
            let newest = ring.newest - number * EIGHTH;
            let last = if number == 0 { latest } else { span.last(newest) };
            let last = u32::try_from(span.units(last - span.start(newest))).unwrap_or(u32::MAX);
            let calls = u32::try_from(calls).unwrap_or(u32::MAX);
            *ring.slot(newest) = Slot { calls, last };
            ring.used += u64::from(calls);
        }
        ring
    }
}

const EIGHTH: i64 = SLOTS as i64 / 8;

fn index(number: i64) -> usize {
    number.rem_euclid(SLOTS as i64) as usize
}
