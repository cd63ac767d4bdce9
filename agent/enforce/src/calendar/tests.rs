use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn windows_follow_the_calendar() {
    let [day, week, month] =
        [Unit::Day, Unit::WEEK, Unit::MONTH].map(|unit| Calendar::at_offset(unit, 0));
    let leap = at("2028-02-29T23:59:59.5Z");
    assert_eq!(month.seconds(leap), 29 * 86_400);
    assert_eq!(month.ends_in(leap), 1);
    assert_eq!(day.ends_in(at("2028-02-29T00:00:00Z")), 86_400);
    let next = at("2028-03-01T00:00:00Z");
    assert_eq!(month.ordinal(next), month.ordinal(leap) + 1);
    assert_eq!(day.ordinal(next), day.ordinal(leap) + 1);
    let (december, january) = (at("2027-12-31T23:00:00Z"), at("2028-01-01T00:00:00Z"));
    assert_eq!(month.ordinal(january), month.ordinal(december) + 1);
    // A Sunday and the Monday after it.
    let (sunday, monday) = (at("2026-11-29T23:59:59Z"), at("2026-11-30T00:00:00Z"));
    assert_eq!(week.ordinal(monday), week.ordinal(sunday) + 1);
    assert_eq!(week.ordinal(sunday), week.ordinal(at("2026-11-23T00:00:00Z")));
    assert_eq!((week.ends_in(sunday), week.ends_in(monday)), (1, 7 * 86_400));
    assert_eq!(week.seconds(sunday), 7 * 86_400);
}

#[test]
fn midnight_is_where_the_offset_says() {
    let kolkata = |unit| Calendar::at_offset(unit, 330);
    let (before, after) = (at("2026-11-30T18:29:59Z"), at("2026-11-30T18:30:00Z"));
    for unit in [Unit::Day, Unit::MONTH] {
        assert_eq!(kolkata(unit).ordinal(after), kolkata(unit).ordinal(before) + 1);
        assert_eq!(kolkata(unit).ends_in(before), 1);
    }
    assert_eq!(kolkata(Unit::MONTH).seconds(after), 31 * 86_400);
    let hawaii = Calendar::at_offset(Unit::WEEK, -600);
    let (before, after) = (at("2026-11-30T09:59:59Z"), at("2026-11-30T10:00:00Z"));
    assert_eq!(hawaii.ordinal(after), hawaii.ordinal(before) + 1);
    let [far, furthest] =
        [i32::MAX, 14 * 60].map(|minutes| Calendar::at_offset(Unit::Day, minutes));
    assert_eq!(far, furthest);
    let _ends = far.ends_in(DateTime::<Utc>::MAX_UTC);
}

fn berlin(unit: Unit) -> Calendar {
    let zone = TimeZone::read("Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3", vec![]);
    Calendar::in_zone(unit, Arc::new(zone.unwrap()))
}

#[test]
fn a_window_of_a_zone_is_as_long_as_its_clocks_make_it() {
    const HOUR: u64 = 3_600;
    let (spring, autumn) = (at("2027-03-28T12:00:00Z"), at("2027-10-31T12:00:00Z"));
    for (unit, hours) in [(Unit::Day, 24), (Unit::WEEK, 7 * 24), (Unit::MONTH, 31 * 24)] {
        assert_eq!(berlin(unit).seconds(spring), (hours - 1) * HOUR);
        assert_eq!(berlin(unit).seconds(autumn), (hours + 1) * HOUR);
    }
    // 14:00 in summer, 13:00 in winter.
    assert_eq!(berlin(Unit::Day).ends_in(spring), 10 * HOUR);
    assert_eq!(berlin(Unit::MONTH).ends_in(autumn), 11 * HOUR);
    let (before, after) = (at("2027-06-30T21:59:59Z"), at("2027-06-30T22:00:00Z"));
    assert_eq!(berlin(Unit::MONTH).ordinal(after), berlin(Unit::MONTH).ordinal(before) + 1);
    assert_eq!(berlin(Unit::MONTH).ends_in(before), 1);
    let _ends = berlin(Unit::MONTH).ends_in(DateTime::<Utc>::MAX_UTC);
    let _ends = berlin(Unit::MONTH).seconds(DateTime::<Utc>::MIN_UTC);
}

/// Start and end of the window that an instant is in, as another implementation says.
fn reference(rule: &str, unit: Unit, now: i64) -> (i64, i64) {
    use jiff::civil::Weekday;
    use jiff::{Span, Timestamp, tz};
    let zone = tz::TimeZone::posix(rule).unwrap();
    let today = Timestamp::from_second(now).unwrap().to_zoned(zone.clone()).date();
    let (first, length) = match unit {
        Unit::Day => (today, Span::new().days(1)),
        Unit::Week { .. } => {
            let tomorrow = today.tomorrow().unwrap();
            (tomorrow.nth_weekday(-1, Weekday::Monday).unwrap(), Span::new().weeks(1))
        }
        Unit::Month { .. } => (today.first_of_month(), Span::new().months(1)),
        Unit::Year { .. } => (today.first_of_year(), Span::new().years(1)),
    };
    let start =
        |date: jiff::civil::Date| date.to_zoned(zone.clone()).unwrap().timestamp().as_second();
    (start(first), start(first.checked_add(length).unwrap()))
}

/// Rules of Berlin, Beirut, Cairo, Havana, Nuuk, Dublin, Auckland, Lord Howe, Gaza, Kathmandu and the
/// furthest islands.
const RULES: [&str; 12] = [
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "EET-2EEST,M3.5.0/0,M10.5.0/0",
    "EET-2EEST,M4.5.5/0,M10.5.4/24",
    "CST5CDT,M3.2.0/0,M11.1.0/1",
    "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
    "IST-1GMT0,M10.5.0,M3.5.0/1",
    "NZST-12NZDT,M9.5.0,M4.1.0/3",
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
    "EET-2EEST,M3.4.4/50,M10.4.4/50",
    "<+0545>-5:45",
    "<+14>-14",
    "<-11>11",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4_096))]
    #[test]
    fn windows_begin_and_end_where_another_implementation_says(
        rule in proptest::sample::select(RULES.to_vec()),
        unit in proptest::sample::select(vec![Unit::Day, Unit::WEEK, Unit::MONTH, Unit::YEAR]),
        // 2020 to 2037.
        now in 1_577_836_800_i64..2_145_916_800,
    ) {
        let zone = Arc::new(TimeZone::read("Here", rule, vec![]).unwrap());
        let calendar = Calendar::in_zone(unit, zone);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let (start, end) = reference(rule, unit, now);
        assert_eq!(calendar.ends_in(at(now)), (end - now).cast_unsigned());
        assert_eq!(calendar.seconds(at(now)), (end - start).cast_unsigned());
        let ordinals = [start - 1, start, now, end - 1, end].map(|it| calendar.ordinal(at(it)));
        let this = calendar.ordinal(at(now));
        // Without what the calendar remembers.
        assert_eq!(calendar.clone().ordinal(at(now)), this);
        assert_eq!(ordinals, [this - 1, this, this, this, this + 1]);
        let current = calendar.windows().current(at(now));
        assert!(current.contains(&this), "{current:?}");
    }
}

#[test]
fn windows_of_a_zone_keep_their_identity_when_its_rules_change() {
    let zone = |name: &str| Arc::new(TimeZone::read(name, "CET-1", vec![]).unwrap());
    let abolished = Calendar::in_zone(Unit::Day, zone("Europe/Berlin"));
    assert_ne!(abolished, berlin(Unit::Day));
    assert_eq!(abolished.windows(), berlin(Unit::Day).windows());
    let paris = Calendar::in_zone(Unit::Day, zone("Europe/Paris"));
    assert_ne!(paris.windows(), abolished.windows());
    assert_ne!(Calendar::at_offset(Unit::Day, 60).windows(), abolished.windows());
}

#[test]
fn without_rules_the_current_window_is_one_of_those_on_earth() {
    let (noon, windows) = (at("2026-11-30T10:30:00Z"), berlin(Unit::Day).windows());
    let today = berlin(Unit::Day).ordinal(noon);
    assert_eq!(windows.current(noon), today - 1..=today + 1);
    let month = berlin(Unit::MONTH).windows().current(noon);
    assert_eq!(month.end() - month.start(), 1);
    let fixed = Calendar::at_offset(Unit::Day, 330);
    assert_eq!(fixed.windows().current(noon), fixed.ordinal(noon)..=fixed.ordinal(noon));
}

/// Start and end of the window of the subscription that began on a day, as another implementation says: that day
/// and so many units more, which in a shorter month is the last day.
fn anchored_reference(rule: &str, unit: Unit, anchor: u32, now: i64) -> (i64, i64) {
    use jiff::{Span, Timestamp, tz};
    let zone = tz::TimeZone::posix(rule).unwrap();
    let today = Timestamp::from_second(now).unwrap().to_zoned(zone.clone()).date();
    let epoch = jiff::civil::date(1970, 1, 1);
    let first = epoch.checked_add(Span::new().days(anchor)).unwrap();
    let years = i32::from(today.year() - first.year());
    let (near, span): (i32, fn(i32) -> Span) = match unit {
        Unit::Day => panic!("a day has no anchor"),
        Unit::Week { .. } => ((today - first).get_days() / 7, |n| Span::new().weeks(n)),
        Unit::Month { .. } => {
            let months = i32::from(today.month() - first.month());
            (years * 12 + months, |n| Span::new().months(n))
        }
        Unit::Year { .. } => (years, |n| Span::new().years(n)),
    };
    let start = |n: i32| {
        let date = first.checked_add(span(n)).unwrap();
        date.to_zoned(zone.clone()).unwrap().timestamp().as_second()
    };
    let windows = (near - 2..near + 2).map(|n| (start(n), start(n + 1)));
    windows.into_iter().find(|(start, end)| *start <= now && now < *end).unwrap()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4_096))]
    #[test]
    fn anchored_windows_begin_and_end_where_another_implementation_says(
        rule in proptest::sample::select(RULES.to_vec()),
        unit in proptest::sample::select(vec![Unit::WEEK, Unit::MONTH, Unit::YEAR]),
        // 2020 to 2031; windows before the first one do not matter, and are as the others.
        anchor in 18_262_u32..22_645,
        now in 1_577_836_800_i64..2_145_916_800,
    ) {
        let zone = Arc::new(TimeZone::read("Here", rule, vec![]).unwrap());
        let calendar = Calendar::in_zone(unit.anchored(anchor), zone);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let (start, end) = anchored_reference(rule, unit, anchor, now);
        let this = calendar.clone().ordinal(at(now));
        assert_eq!(calendar.ends_in(at(now)), (end - now).cast_unsigned());
        assert_eq!(calendar.seconds(at(now)), (end - start).cast_unsigned());
        for calendar in [&calendar, &calendar.clone()] {
            let ordinals = [start - 1, start, now, end - 1, end].map(|it| calendar.ordinal(at(it)));
            assert_eq!(ordinals, [this - 1, this, this, this, this + 1]);
        }
        let windows = calendar.windows();
        let current = windows.current(at(now));
        assert!(current.contains(&this), "{current:?}");
        let (text, zone) = windows.words();
        assert_eq!(Windows::read(&text.to_string(), zone), Some(windows.clone()));
    }
}

/// Days since 1970-01-01.
fn day(text: &str) -> u32 {
    let date: NaiveDate = text.parse().unwrap();
    u32::try_from(date.to_epoch_days()).unwrap()
}

#[test]
fn a_month_from_the_31st_begins_on_the_last_day_of_shorter_ones() {
    let month = Calendar::at_offset(Unit::MONTH.anchored(day("2027-01-31")), 0);
    let starts = ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"];
    let leap = ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"];
    for starts in [starts, leap] {
        let starts = starts.map(|date| at(&format!("{date}T00:00:00Z")));
        for pair in starts.windows(2) {
            let [start, end] = pair else { panic!() };
            let last = *end - chrono::TimeDelta::seconds(1);
            assert_eq!(month.ordinal(last), month.ordinal(*start));
            assert_eq!(month.ordinal(*end), month.ordinal(*start) + 1);
            assert_eq!((month.ends_in(last), month.ends_in(*end) > 1), (1, true));
        }
    }
}

#[test]
fn a_year_from_the_29th_of_february_begins_on_the_28th_of_others() {
    let year = Calendar::at_offset(Unit::YEAR.anchored(day("2028-02-29")), 0);
    for (date, days) in [("2028-02-29", 365), ("2029-02-28", 365), ("2031-02-28", 366)] {
        let start = at(&format!("{date}T00:00:00Z"));
        assert_eq!(year.ends_in(start), days * 86_400, "{date}");
        assert_eq!(year.ends_in(start - chrono::TimeDelta::seconds(1)), 1, "{date}");
    }
}

#[test]
fn an_anchor_on_the_first_of_the_calendar_is_the_calendars() {
    // A Monday.
    for (unit, date) in
        [(Unit::WEEK, "2026-11-30"), (Unit::MONTH, "2026-12-01"), (Unit::YEAR, "2027-01-01")]
    {
        assert_eq!(unit.anchored(day(date)), unit);
        assert_ne!(unit.anchored(day(date) + 1), unit);
        assert_eq!(unit.anchored(0), unit);
    }
    assert_eq!(Unit::Day.anchored(day("2026-11-25")), Unit::Day);
    let same = |one, other| Unit::MONTH.anchored(day(one)) == Unit::MONTH.anchored(day(other));
    assert!(same("2026-11-25", "2027-03-25") && !same("2026-11-30", "2026-12-31"));
}

#[test]
fn a_stored_window_of_an_anchor_is_over_when_it_has_ended_everywhere() {
    let windows = Windows::read("month.31", Some("Europe/Berlin")).unwrap();
    let number = |text| *windows.current(at(text)).start();
    // From the 30th of November in Kiritimati to the 31st of December in Honolulu, and beyond.
    assert_eq!(number("2026-12-30T12:00:00Z"), number("2026-12-31T13:59:59Z"));
    assert_eq!(number("2026-12-31T14:00:00Z"), number("2026-12-30T12:00:00Z") + 1);
    let fixed = Windows::read("week.4-90", None).unwrap();
    // A Thursday.
    let (before, after) = (at("2026-11-26T01:29:59Z"), at("2026-11-26T01:30:00Z"));
    assert_eq!(*fixed.current(after).start(), fixed.current(before).end() + 1);
}
