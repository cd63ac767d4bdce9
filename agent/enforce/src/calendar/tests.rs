use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn windows_follow_the_calendar() {
    let [day, week, month] =
        [Unit::Day, Unit::Week, Unit::Month].map(|unit| Calendar::at_offset(unit, 0));
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
    for unit in [Unit::Day, Unit::Month] {
        assert_eq!(kolkata(unit).ordinal(after), kolkata(unit).ordinal(before) + 1);
        assert_eq!(kolkata(unit).ends_in(before), 1);
    }
    assert_eq!(kolkata(Unit::Month).seconds(after), 31 * 86_400);
    let hawaii = Calendar::at_offset(Unit::Week, -600);
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
    for (unit, hours) in [(Unit::Day, 24), (Unit::Week, 7 * 24), (Unit::Month, 31 * 24)] {
        assert_eq!(berlin(unit).seconds(spring), (hours - 1) * HOUR);
        assert_eq!(berlin(unit).seconds(autumn), (hours + 1) * HOUR);
    }
    // 14:00 in summer, 13:00 in winter.
    assert_eq!(berlin(Unit::Day).ends_in(spring), 10 * HOUR);
    assert_eq!(berlin(Unit::Month).ends_in(autumn), 11 * HOUR);
    let (before, after) = (at("2027-06-30T21:59:59Z"), at("2027-06-30T22:00:00Z"));
    assert_eq!(berlin(Unit::Month).ordinal(after), berlin(Unit::Month).ordinal(before) + 1);
    assert_eq!(berlin(Unit::Month).ends_in(before), 1);
    let _ends = berlin(Unit::Month).ends_in(DateTime::<Utc>::MAX_UTC);
    let _ends = berlin(Unit::Month).seconds(DateTime::<Utc>::MIN_UTC);
}

/// Start and end of the window that an instant is in, as another implementation says.
fn reference(rule: &str, unit: Unit, now: i64) -> (i64, i64) {
    use jiff::civil::Weekday;
    use jiff::{Span, Timestamp, tz};
    let zone = tz::TimeZone::posix(rule).unwrap();
    let today = Timestamp::from_second(now).unwrap().to_zoned(zone.clone()).date();
    let (first, length) = match unit {
        Unit::Day => (today, Span::new().days(1)),
        Unit::Week => {
            let tomorrow = today.tomorrow().unwrap();
            (tomorrow.nth_weekday(-1, Weekday::Monday).unwrap(), Span::new().weeks(1))
        }
        Unit::Month => (today.first_of_month(), Span::new().months(1)),
        Unit::Year => (today.first_of_year(), Span::new().years(1)),
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
        unit in proptest::sample::select(vec![Unit::Day, Unit::Week, Unit::Month, Unit::Year]),
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
    let month = berlin(Unit::Month).windows().current(noon);
    assert_eq!(month.end() - month.start(), 1);
    let fixed = Calendar::at_offset(Unit::Day, 330);
    assert_eq!(fixed.windows().current(noon), fixed.ordinal(noon)..=fixed.ordinal(noon));
}
