//! Tests of rates, on a simulated clock.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const START: i64 = 1_700_000_000 * SECOND;

fn passed(count: &Count, rate: Rate, now: i64, asked: usize) -> usize {
    (0..asked).filter(|_| count.take(rate, now).is_ok()).count()
}

#[test]
fn all_of_it_passes_at_once_and_no_more_until_the_window_is_over() {
    let (count, rate) = (Count::default(), Rate::new(5, 60));
    assert_eq!(count.look(rate, START), Standing { remaining: 5, more_in: 0 });
    assert_eq!(passed(&count, rate, START, 10), 5);
    let used_up = Standing { remaining: 0, more_in: 60 * SECOND };
    assert_eq!(count.take(rate, START), Err(used_up));
    assert_eq!(count.look(rate, START + SECOND).more_in, 59 * SECOND);
    assert_eq!(passed(&count, rate, START + 60 * SECOND - 1, 10), 0);
    assert_eq!(passed(&count, rate, START + 60 * SECOND, 10), 5);
}

#[test]
fn who_calls_evenly_gets_all_of_it() {
    for (amount, window) in [(1, 1), (10, 1), (60, 60), (50, 3_600)] {
        let (count, rate) = (Count::default(), Rate::new(amount, window));
        let step = window as i64 * SECOND / amount as i64 + 1_000;
        for call in 0..1_000 {
            assert!(count.take(rate, START + call * step).is_ok(), "{amount}/{window}: {call}");
        }
    }
    // More calls than slots: a 64th less.
    let (count, rate) = (Count::default(), Rate::new(6_400, 60));
    let step = 60 * SECOND / 6_300;
    assert!((0..50_000).all(|call| count.take(rate, START + call * step).is_ok()));
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let (count, rate) = (Count::default(), Rate::new(1, 60));
    let (taken, _) = count.take(rate, START).unwrap();
    count.give_back(taken);
    count.give_back(taken);
    assert!(count.is_idle(START));
    assert_eq!(passed(&count, rate, START, 2), 1);
}

#[test]
fn another_amount_goes_on_with_the_calls_of_the_window() {
    let count = Count::default();
    assert_eq!(passed(&count, Rate::new(10, 60), START, 20), 10);
    let less = Rate::new(4, 60);
    let later = START + 30 * SECOND;
    assert_eq!(count.look(less, later), Standing { remaining: 0, more_in: 30 * SECOND });
    assert_eq!(passed(&count, Rate::new(15, 60), later, 20), 5);
    assert_eq!(passed(&count, less, START + 60 * SECOND, 20), 0, "five of them are younger");
    assert_eq!(passed(&count, less, START + 90 * SECOND, 20), 4);
}

#[test]
fn extreme_rates_do_not_overflow() {
    for (amount, window) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (1, 0)] {
        let (count, rate) = (Count::default(), Rate::new(amount, window));
        for now in [START, i64::MAX / 2, i64::MAX, 0, i64::MIN] {
            let _passed = count.take(rate, now);
            let _standing = count.look(rate, now);
        }
        assert!(Count::default().take(rate, START).is_ok(), "{amount}/{window}");
    }
    assert!(Count::default().take(Rate::new(0, 60), START).is_err());
    let (count, rate) = (Count::default(), Rate::new(2, 0));
    assert_eq!(passed(&count, rate, START, 100), 2, "a window of nothing is still a limit");
}

#[test]
fn a_clock_that_is_put_back_gives_nothing_away_and_locks_nobody_out() {
    for hours in [1, 100, 10_000] {
        let (count, rate) = (Count::default(), Rate::new(2, 60));
        assert_eq!(passed(&count, rate, START, 2), 2);
        let earlier = START - hours * 3_600 * SECOND;
        assert_eq!(passed(&count, rate, earlier, 2), 0);
        assert_eq!(passed(&count, rate, earlier + 58 * SECOND, 2), 0);
        assert_eq!(passed(&count, rate, earlier + 62 * SECOND, 9), 2);
    }
}

#[test]
fn many_threads_take_exactly_the_amount() {
    let (count, rate) = (Arc::new(Count::default()), Rate::new(1_000, 3_600));
    let thread = |_| {
        let count = count.clone();
        std::thread::spawn(move || passed(&count, rate, START, 500))
    };
    let threads: Vec<_> = (0..8).map(thread).collect();
    let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(taken, 1_000);
}

#[test]
fn an_idle_rate_holds_nothing() {
    let (count, rate) = (Count::default(), Rate::new(2, 60));
    assert_eq!(passed(&count, rate, START, 1), 1);
    assert!(!count.is_idle(START + 59 * SECOND) && count.ring().is_some());
    assert!(count.is_idle(START + 60 * SECOND) && count.ring().is_none());
    assert!(std::mem::size_of::<Ring>() <= 600, "{}", std::mem::size_of::<Ring>());
}

/// Restarts with only the stored numbers.
fn restarted(count: &Count, window: u64) -> Count {
    let pair = packed::pack(count.ring().as_deref_mut());
    Count::kept((Kept::default(), pair), window)
}

/// Delays between calls: bursts, a crowd, and pauses of about a window.
fn steps(window: u64) -> impl Strategy<Value = Vec<i64>> {
    let window = window as i64 * SECOND;
    let step = prop_oneof![Just(0), 0..window / 100, 0..window / 8, window - 2..window + 2];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn no_window_of_its_length_sees_more_than_the_amount(
        (amount, window, steps, restart) in (1_u64..150, 1_u64..100).prop_flat_map(|(amount, window)| {
            (Just(amount), Just(window), steps(window), 1_usize..500)
        }),
    ) {
        let (mut count, rate) = (Count::default(), Rate::new(amount, window));
        let mut now = START;
        let mut passed: Vec<i64> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            now += step;
            if number % restart == restart - 1 {
                count = restarted(&count, window);
            }
            let look = count.look(rate, now);
            let took = count.take(rate, now);
            prop_assert_eq!(took.is_ok(), look.remaining > 0);
            match took {
                Ok((_, after)) => {
                    prop_assert_eq!(after, count.look(rate, now));
                    passed.push(now);
                }
                Err(standing) => {
                    prop_assert!(standing.more_in > 0);
                    let waiting = restarted(&count, window);
                    let probe = now + count.look(rate, now).more_in;
                    prop_assert!(waiting.look(rate, now).remaining == 0, "nothing is lost");
                    prop_assert!(probe <= now + window as i64 * (SECOND + SECOND / 8));
                }
            }
        }
        let window = window as i64 * SECOND;
        for (index, from) in passed.iter().enumerate() {
            let within = passed.iter().skip(index).take_while(|at| **at < from + window).count();
            prop_assert!(within as u64 <= amount, "{within} of {amount} within a window");
        }
    }

    #[test]
    fn who_comes_back_when_told_passes_and_not_before(
        (amount, steps) in (1_u64..100).prop_flat_map(|amount| (Just(amount), steps(10))),
    ) {
        let (count, rate) = (Count::default(), Rate::new(amount, 10));
        let mut now = START;
        for step in steps {
            now += step;
            if let Err(Standing { more_in, .. }) = count.take(rate, now) {
                prop_assert_eq!(count.look(rate, now + more_in - 1).remaining, 0);
                now += more_in;
                prop_assert!(count.take(rate, now).is_ok());
            }
        }
    }

    #[test]
    fn what_a_window_has_let_pass_counts_no_longer_than_a_slot_more(
        (amount, steps) in (1_u64..100).prop_flat_map(|amount| (Just(amount), steps(63))),
    ) {
        let (count, rate) = (Count::default(), Rate::new(amount, 63));
        let (mut now, mut passed) = (START, Vec::<i64>::new());
        for step in steps {
            now += step;
            let counts = passed.iter().filter(|at| **at > now - 64 * SECOND).count();
            match count.take(rate, now) {
                Ok(_) => passed.push(now),
                Err(_) => prop_assert!(counts as u64 >= amount, "{counts} of {amount}"),
            }
        }
    }
}
