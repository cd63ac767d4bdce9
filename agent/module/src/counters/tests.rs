use std::os::unix::fs::MetadataExt as _;

use super::*;

fn names(kept: &[Kept]) -> Vec<(&str, Pair)> {
    let mut all: Vec<_> = kept.iter().map(|it| (it.name.as_str(), it.count)).collect();
    all.sort();
    all
}

#[test]
fn counts_survive_and_are_read_by_others_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let (counters, kept) = Counters::open(directory.path()).unwrap();
    assert!(kept.is_empty());
    let (one, pair) = counters.place("one").unwrap();
    assert_eq!(pair, [0, 0]);
    let (two, _) = counters.place("two").unwrap();
    for number in 1..=7 {
        counters.keep(one, [number, number * 2]);
        assert_eq!(names(&read(counters.path()).unwrap().kept)[0], ("one", [number, number * 2]));
    }
    counters.keep(two, [u64::MAX, 1]);
    assert_eq!(counters.place("one"), Some((one, [7, 14])), "a name has one place");
    drop(counters);
    let (counters, kept) = Counters::open(directory.path()).unwrap();
    assert_eq!(names(&kept), [("one", [7, 14]), ("two", [u64::MAX, 1])]);
    assert_eq!(counters.place("one"), Some((one, [7, 14])));
}

#[test]
fn each_process_has_a_file_and_a_free_one_is_continued() {
    let directory = tempfile::tempdir().unwrap();
    let (first, _) = Counters::open(directory.path()).unwrap();
    let (second, _) = Counters::open(directory.path()).unwrap();
    assert_ne!(first.path(), second.path());
    second.place("of the second").unwrap();
    let path = first.path().to_owned();
    drop(first);
    let (third, kept) = Counters::open(directory.path()).unwrap();
    assert_eq!((third.path(), kept.len()), (&*path, 0));
}

#[test]
fn a_file_grows_without_holes_and_slots_are_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let (counters, _) = Counters::open(directory.path()).unwrap();
    let blocks = || {
        let metadata = std::fs::metadata(counters.path()).unwrap();
        (metadata.len(), metadata.blocks() * 512 >= metadata.len())
    };
    assert_eq!(blocks(), (format::size(FIRST_SLOTS), true));
    let place = |number: u32| counters.place(&format!("name {number}")).unwrap().0;
    let places: Vec<_> = (0..FIRST_SLOTS + 1).map(place).collect();
    assert_eq!(blocks(), (format::size(2 * FIRST_SLOTS), true));
    counters.keep(places[1024], [3, 4]);
    counters.free(places[5]);
    assert_eq!(read(counters.path()).unwrap().kept.len(), 1024);
    counters.keep(places[7], [1, 1]);
    let again = counters.place("another").unwrap();
    assert_eq!(again, (places[5], [0, 0]));
    let path = counters.path().to_owned();
    drop(counters);
    assert_eq!(read(&path).unwrap().kept.len(), 1025);
    let (counters, kept) = Counters::open(directory.path()).unwrap();
    assert_eq!(kept.len(), 1025);
    assert_eq!(counters.place("name 1024").unwrap().1, [3, 4]);
}

#[test]
fn what_nobody_holds_is_freed_when_it_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let (counters, _) = Counters::open(directory.path()).unwrap();
    let now = crate::state::now();
    let rate = "rate\t60s\towner\t";
    let (place, _) = counters.place(rate).unwrap();
    counters.place("calls\tp\ts\tc\t0").unwrap();
    counters.sweep(now);
    assert_eq!(read(counters.path()).unwrap().kept.len(), 2, "both are held");
    counters.release(place);
    counters.sweep(now);
    assert_eq!(names(&read(counters.path()).unwrap().kept), [("calls\tp\ts\tc\t0", [0, 0])]);
}

#[test]
fn damage_costs_the_slot_and_a_file_of_another_kind_is_left_alone() {
    use std::os::unix::fs::FileExt as _;
    let directory = tempfile::tempdir().unwrap();
    let (counters, _) = Counters::open(directory.path()).unwrap();
    counters.place("one").unwrap();
    counters.place("two").unwrap();
    let path = counters.path().to_owned();
    drop(counters);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"X", PAGE + 48).unwrap();
    let (counters, kept) = Counters::open(directory.path()).unwrap();
    assert_eq!(names(&kept), [("two", [0, 0])]);
    assert!(counters.place("one").is_some());
    drop(counters);
    file.write_all_at(b"NOTOURS!", 0).unwrap();
    assert!(read(&path).is_err());
    let (counters, kept) = Counters::open(directory.path()).unwrap();
    assert!(counters.path() != path && kept.is_empty());
    assert_eq!(std::fs::read(&path).unwrap().get(..8), Some(&b"NOTOURS!"[..]), "it is left alone");
}

#[test]
fn names_have_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let (counters, _) = Counters::open(directory.path()).unwrap();
    let longest = "n".repeat(NAME);
    counters.place(&longest).unwrap();
    assert!(counters.place(&"n".repeat(NAME + 1)).is_none());
    assert!(counters.place("").is_none());
    assert_eq!(read(counters.path()).unwrap().kept[0].name, longest);
}

#[test]
fn no_bytes_are_a_fault() {
    use proptest::prelude::*;
    let slot = prop::collection::vec(any::<u8>(), 256);
    let run = proptest::test_runner::Config {
        cases: if cfg!(miri) { 8 } else { 500 },
        ..Default::default()
    };
    proptest!(run, |(slots in prop::collection::vec(slot, 0..4), cut in 0_usize..300)| {
        let mut bytes = b"IMPCNT01".to_vec();
        bytes.resize(4096, 0);
        slots.iter().for_each(|slot| bytes.extend_from_slice(slot));
        bytes.truncate(bytes.len() - cut);
        prop_assert!(format::parse(&bytes).is_none_or(|content| content.kept.is_empty()));
    });
}

#[test]
fn a_file_keeps_its_epoch_and_another_at_its_path_has_another() {
    let directory = tempfile::tempdir().unwrap();
    let epoch = || {
        let (counters, _) = Counters::open(directory.path()).unwrap();
        read(counters.path()).unwrap().epoch
    };
    let first = epoch();
    assert_eq!((first.len(), epoch()), (32, first.clone()));
    std::fs::remove_file(directory.path().join("counters-0.bin")).unwrap();
    assert_ne!(epoch(), first);
}
