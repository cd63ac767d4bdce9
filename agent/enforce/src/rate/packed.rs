//! A ring packed into the two numbers that a ledger stores: the time of the latest call in
//! milliseconds (48 bits), then the calls of each eighth of the ring (10 bits each), all rounded
//! up. So a restored rate lets no call pass that should not; one that was used up may hold back a
//! call for an eighth of the window longer.

use super::ring::{Ring, Span};
use crate::ledger::Pair;

const MILLISECOND: i64 = 1_000_000;

const BITS: u32 = 10;

/// Of the ten bits, five are the exponent and five the rest.
const REST: u32 = 5;

/// Two zeros if no call counts.
pub(super) fn pack(ring: Option<&mut Ring>) -> Pair {
    let Some(ring) = ring.filter(|ring| ring.used() > 0) else { return [0, 0] };
    let (latest, eighths) = ring.eighths();
    let latest = latest.div_euclid(MILLISECOND) + i64::from(latest % MILLISECOND != 0);
    let time = u128::try_from(latest).unwrap_or(0) << (8 * BITS);
    let packed =
        eighths.iter().rev().fold(0, |sum, calls| (sum << BITS) | u128::from(up((*calls).into())));
    let both = time | packed;
    [(both >> 64) as u64, both as u64]
}

/// `None` if no call counts.
pub(super) fn unpack([high, low]: Pair, span: Span) -> Option<Ring> {
    if high == 0 && low == 0 {
        return None;
    }
    let both = (u128::from(high) << 64) | u128::from(low);
    let latest = i64::try_from(both >> (8 * BITS)).ok()?.checked_mul(MILLISECOND)?;
    let mut eighths = [0; 8];
    for (number, calls) in (0..8).zip(&mut eighths) {
        *calls = down((both >> (number * BITS)) as u64 & ((1 << BITS) - 1));
    }
    Some(Ring::of_eighths(span, latest, eighths))
}

/// Rounds up to ten bits: exact below 64, above by a 32nd at most.
fn up(calls: u64) -> u64 {
    let calls = calls.min(u64::from(u32::MAX));
    let exponent = u64::from((u64::BITS - calls.leading_zeros()).saturating_sub(REST + 1));
    let (exponent, rest) = match calls.div_ceil(1 << exponent) {
        // Rounded up to one digit more.
        rest if rest == 2 << REST => (exponent + 1, 1 << REST),
        rest => (exponent, rest),
    };
    if rest < 1 << REST { rest } else { ((exponent + 1) << REST) | (rest - (1 << REST)) }
}

fn down(packed: u64) -> u64 {
    let (exponent, rest) = (packed >> REST, packed & ((1 << REST) - 1));
    if exponent == 0 { rest } else { (rest + (1 << REST)) << (exponent - 1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_in_ten_bits_is_never_less_and_little_more(calls in 0..=u64::from(u32::MAX)) {
            for calls in [calls, calls >> 10, calls >> 20, calls >> 26] {
                let kept = up(calls);
                prop_assert!(kept < 1 << BITS);
                prop_assert!(down(kept) >= calls && down(kept) <= calls + calls / 32 + 1);
                prop_assert!(calls >= 64 || down(kept) == calls);
            }
        }
    }
}
