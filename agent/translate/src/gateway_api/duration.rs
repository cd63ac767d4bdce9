//! Durations as Gateway API writes them (GEP-2257): up to five digits for each unit.

use std::fmt::Write as _;

/// Milliseconds as text.
pub(super) fn of_ms(milliseconds: u32) -> String {
    let mut text = String::new();
    let mut rest = milliseconds;
    for (unit, name) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
        if rest >= unit {
            // Writing to a string does not fail.
            let _ = write!(text, "{}{name}", rest / unit);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::of_ms;

    #[test]
    fn every_duration_has_at_most_four_numbers_of_five_digits() {
        let cases =
            [(0, "0s"), (1, "1ms"), (15_000, "15s"), (300_000, "5m"), (3_661_001, "1h1m1s1ms")];
        for (milliseconds, text) in cases {
            assert_eq!(of_ms(milliseconds), text);
        }
    }
}
