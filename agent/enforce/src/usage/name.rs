//! Names of counters in the ledger. A name has everything that pricing needs, so that a counter can
//! be reported after a restart, even if the subscription and the plan have been deleted.
//!
//! Ledgers have space for 190 bytes, and eight UUIDs as text are longer: a UUID is written in 22
//! letters.

use std::sync::Arc;

use super::{HOUR_MS, Key};
use crate::id::Id;
use crate::terms::Terms;

/// The prefix of counters' names.
const NAMED: &str = "calls2";

/// The prefix in a former release, whose names had publish, subscription and consumer.
const FORMER: &str = "calls";

/// The name of a counter. One that a former release began keeps its name, so that it has one place.
pub(super) fn write(key: &Key) -> String {
    let Key { publish, terms, consumer, hour_ms } = key;
    if !terms.is_known() {
        let subscription = &terms.subscription_id;
        return format!("{FORMER}\t{publish}\t{subscription}\t{consumer}\t{hour_ms}");
    }
    let Terms { plan_version, environment, .. } = &**terms;
    let [tenant, customer, subscription, plan, product, consumer] = [
        &terms.tenant_id,
        &terms.customer_id,
        &terms.subscription_id,
        &terms.plan_id,
        &terms.product_id,
        consumer,
    ]
    .map(|id| short(id.text().as_str()));
    let publish = short(publish);
    let hour = hour_ms / HOUR_MS;
    format!(
        "{NAMED}\t{publish}\t{consumer}\t{hour}\t{tenant}\t{customer}\t{subscription}\t{plan}\t\
         {plan_version}\t{product}\t{environment}"
    )
}

/// The counter of a name; `None` if it is the name of something else.
pub(super) fn read(name: &str) -> Option<Key> {
    let mut parts = name.split('\t');
    let kind = parts.next()?;
    let mut part = || parts.next();
    match kind {
        FORMER => {
            let (publish, subscription_id, consumer) = (part()?, part()?.into(), part()?);
            let terms = Terms { subscription_id, ..Terms::default() };
            Some(Key {
                publish: publish.into(),
                terms: Arc::new(terms),
                consumer: consumer.into(),
                hour_ms: part()?.parse().ok()?,
            })
        }
        NAMED => {
            let (publish, consumer) = (long(part()?), part()?);
            let id = |text: &str| Id::from(&*long(text));
            let consumer = id(consumer);
            let hour: i64 = part()?.parse().ok()?;
            let terms = Terms {
                tenant_id: id(part()?),
                customer_id: id(part()?),
                subscription_id: id(part()?),
                plan_id: id(part()?),
                plan_version: part()?.parse().ok()?,
                product_id: id(part()?),
                environment: part()?.into(),
            };
            let hour_ms = hour.checked_mul(HOUR_MS)?;
            Some(Key { publish, terms: Arc::new(terms), consumer, hour_ms })
        }
        _ => None,
    }
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Letters of a UUID, six bits each.
const LENGTH: usize = 22;

/// Precedes an id that is no UUID but could be mistaken for the letters of one.
const VERBATIM: char = '=';

/// Encodes a UUID in 22 letters; any other id unchanged.
fn short(id: &str) -> String {
    match number(id) {
        Some(number) => {
            let letter = |at: usize| {
                let bits = (number >> (6 * (LENGTH - 1 - at))) as usize & 63;
                LETTERS.get(bits).copied().map(char::from)
            };
            (0..LENGTH).filter_map(letter).collect()
        }
        None if id.len() == LENGTH || id.starts_with(VERBATIM) => format!("{VERBATIM}{id}"),
        None => id.to_owned(),
    }
}

/// The number of a UUID in canonical form.
fn number(id: &str) -> Option<u128> {
    let digits: String = id.chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (uuid(number) == id).then_some(number)
}

fn uuid(number: u128) -> String {
    let digits = format!("{number:032x}");
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let parts = parts.map(|(from, to)| digits.get(from..to).unwrap_or_default());
    parts.join("-")
}

/// Decodes an id that [`short`] encoded.
fn long(text: &str) -> Arc<str> {
    if let Some(id) = text.strip_prefix(VERBATIM) {
        return id.into();
    }
    let value = |letter: &u8| LETTERS.iter().position(|known| known == letter);
    let values: Option<Vec<usize>> = text.as_bytes().iter().map(value).collect();
    match values {
        // The first of 22 letters has only two of the 128 bits.
        Some(values)
            if values.len() == LENGTH && values.first().is_some_and(|first| *first < 4) =>
        {
            uuid(values.into_iter().fold(0, |number, value| number << 6 | value as u128)).into()
        }
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_comes_back_as_it_was() {
        let uuids = [0, 1, u128::MAX, 0x0190_a000_7000_8000_1234_5678_9abc_def0];
        for id in uuids.map(uuid) {
            assert_eq!(short(&id).len(), LENGTH);
            assert_eq!(&*long(&short(&id)), id);
        }
        let capitals = "0190A000-7000-8000-1234-56789ABCDEF0";
        let letters = "A".repeat(LENGTH);
        for id in ["", "p", "=", "=x", &letters, "not quite 22 letters..", capitals, "+1"] {
            assert_eq!(&*long(&short(id)), id);
        }
    }

    #[test]
    fn the_longest_name_of_uuids_fits_the_ledger() {
        let id = || Id::from(uuid(u128::MAX).as_str());
        let terms = Terms {
            tenant_id: id(),
            customer_id: id(),
            subscription_id: id(),
            plan_id: id(),
            plan_version: 99_999,
            product_id: id(),
            environment: "staging".into(),
        };
        let (publish, consumer) = (id().to_string().into(), id());
        let key = Key { publish, terms: Arc::new(terms), consumer, hour_ms: 999_999 * HOUR_MS };
        let name = write(&key);
        assert!(name.len() <= 190, "{}", name.len());
        assert!(read(&name).unwrap() == key);
    }

    #[test]
    fn a_counter_of_a_former_release_is_read_and_keeps_its_name() {
        let name = "calls\tpub\tsub\tconsumer\t1764000000000";
        let key = read(name).unwrap();
        let counter = key.counter([5, 1]);
        let seen = (counter.publish_id.as_str(), counter.subscription_id.as_str());
        assert_eq!((seen, counter.consumer_id.as_str()), (("pub", "sub"), "consumer"));
        assert_eq!((counter.tenant_id.as_str(), counter.hour_ms), ("", 1_764_000_000_000));
        assert_eq!(write(&counter.key()), name);
        for other in ["", "used\tmonth\tx\t", "calls\tpub", "calls2\tpub\tc\tx\t"] {
            assert!(read(other).is_none(), "{other}");
        }
    }
}
