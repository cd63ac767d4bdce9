use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// In memory where that is possible, because a thousand files are synced here.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn file(directory: &tempfile::TempDir) -> std::path::PathBuf {
    directory.path().join("lkg.redb")
}

fn damaged(directory: &tempfile::TempDir) -> usize {
    let names = std::fs::read_dir(directory.path()).unwrap().flatten();
    let aside = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("lkg.redb.damaged-");
    names.filter(|entry| aside(&entry.file_name())).count()
}

/// A state with some rows in every table.
fn written(rows: usize) -> tempfile::TempDir {
    let directory = scratch();
    let (lkg, _) = Lkg::open(directory.path()).unwrap();
    for row in 0..rows {
        for table in Table::ALL {
            lkg.put(table, format!("key {row}"), format!("value {row} ").repeat(20));
        }
    }
    lkg.close();
    directory
}

fn is_whole(loaded: &Loaded, rows: usize) -> bool {
    let whole = |table: Table| {
        (0..rows).all(|row| {
            let expected = format!("value {row} ").repeat(20);
            loaded.get(table, &format!("key {row}")).is_some_and(|value| value == &expected)
        })
    };
    Table::ALL.into_iter().all(whole)
}

#[tokio::test]
async fn what_was_marked_last_is_there_after_a_restart() {
    let directory = scratch();
    let (lkg, _) = Lkg::open(directory.path()).unwrap();
    lkg.put(Table::Facts, "a", "1");
    lkg.put(Table::Facts, "b", "1");
    assert!(lkg.flush().await);
    assert_eq!(lkg.behind(), 0);
    lkg.put(Table::Facts, "a", "2");
    lkg.remove(Table::Facts, "b");
    lkg.close();
    let (_, loaded) = Lkg::open(directory.path()).unwrap();
    assert_eq!(loaded.get(Table::Facts, "a").map(AsRef::as_ref), Some("2".as_bytes()));
    assert_eq!(loaded.get(Table::Facts, "b"), None);
}

#[test]
fn two_agents_cannot_share_a_state() {
    let directory = scratch();
    let (_lkg, _) = Lkg::open(directory.path()).unwrap();
    let error = Lkg::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("another imp-agent"), "{error}");
}

#[test]
fn only_its_owner_reads_it_even_if_it_was_made_otherwise() {
    let directory = written(1);
    std::fs::set_permissions(file(&directory), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (_lkg, _) = Lkg::open(directory.path()).unwrap();
    let mode = std::fs::metadata(file(&directory)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Opens a damaged state, and checks that it can be written again.
fn opens_and_is_written(directory: &tempfile::TempDir, what: &str) -> Loaded {
    let (lkg, loaded) = Lkg::open(directory.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
    lkg.put(Table::Facts, "after", "1");
    lkg.close();
    let (lkg, again) = Lkg::open(directory.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
    lkg.close();
    assert!(again.get(Table::Facts, "after").is_some(), "{what}: it is not written");
    loaded
}

#[test]
fn a_file_of_any_other_content_is_moved_aside_and_begun_again() {
    let whole = std::fs::read(file(&written(40))).unwrap();
    let mut zeroed = whole.clone();
    zeroed[..4096].fill(0);
    let mut random = vec![0; whole.len()];
    StdRng::seed_from_u64(1).fill(random.as_mut_slice());
    let cases: [(&str, Vec<u8>); 7] = [
        ("half", whole[..whole.len() / 2].to_vec()),
        ("one byte less", whole[..whole.len() - 1].to_vec()),
        ("one page", whole[..4096].to_vec()),
        ("no database", b"no database".repeat(1_000)),
        ("a byte", vec![7]),
        ("zeroed head", zeroed),
        ("random", random),
    ];
    for (what, content) in cases {
        let directory = written(40);
        std::fs::write(file(&directory), content).unwrap();
        let loaded = opens_and_is_written(&directory, what);
        assert!(loaded.rows(Table::Resources).is_empty(), "{what}: served from a damaged file");
        assert_eq!(damaged(&directory), 1, "{what}");
    }
    let directory = written(1);
    std::fs::write(file(&directory), "").unwrap();
    opens_and_is_written(&directory, "empty");
    let directory = written(1);
    std::fs::remove_file(file(&directory)).unwrap();
    std::fs::create_dir(file(&directory)).unwrap();
    opens_and_is_written(&directory, "a directory");
    assert_eq!(damaged(&directory), 1);
}

/// The number of seeds; the file is small, so that most bit flips hit something that matters.
const SEEDS: u64 = 1_000;

#[test]
fn no_flipped_bits_stop_it_and_none_change_what_it_says() {
    let rows = 8;
    let origin = written(rows);
    let (whole, number) = (
        std::fs::read(file(&origin)).unwrap(),
        std::fs::read(origin.path().join("lkg.commit")).unwrap(),
    );
    let (mut intact, mut aside) = (0, 0);
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut content = whole.clone();
        for _ in 0..random.random_range(1..=64) {
            let at = random.random_range(0..content.len());
            content[at] ^= 1 << random.random_range(0..8);
        }
        let directory = scratch();
        std::fs::write(file(&directory), content).unwrap();
        std::fs::write(directory.path().join("lkg.commit"), &number).unwrap();
        let loaded = opens_and_is_written(&directory, &format!("seed {seed}"));
        if loaded.rows(Table::Resources).is_empty() {
            aside += 1;
            assert_eq!(damaged(&directory), 1, "seed {seed}");
        } else {
            intact += 1;
            assert!(is_whole(&loaded, rows), "seed {seed}: rows that nobody wrote");
        }
    }
    assert!(aside > SEEDS / 10 && intact > 0, "{aside} moved aside, {intact} intact");
}

#[test]
fn an_older_copy_is_not_believed() {
    let directory = written(3);
    let older = std::fs::read(file(&directory)).unwrap();
    let (lkg, _) = Lkg::open(directory.path()).unwrap();
    lkg.remove(Table::Resources, "key 1");
    lkg.close();
    std::fs::write(file(&directory), older).unwrap();
    let (_lkg, loaded) = Lkg::open(directory.path()).unwrap();
    assert!(loaded.rows(Table::Resources).is_empty(), "what was revoked is back");
    assert_eq!(damaged(&directory), 1);
}

#[tokio::test]
async fn a_file_that_is_removed_while_it_is_used_is_begun_again_and_that_is_told() {
    let directory = scratch();
    let (lkg, _) = Lkg::open(directory.path()).unwrap();
    lkg.put(Table::Facts, "before", "1");
    assert!(lkg.flush().await);
    std::fs::remove_file(file(&directory)).unwrap();
    lkg.put(Table::Facts, "after", "1");
    assert!(lkg.flush().await);
    assert_eq!(lkg.lost(0).await, 1);
    lkg.close();
    let (_lkg, loaded) = Lkg::open(directory.path()).unwrap();
    assert!(loaded.get(Table::Facts, "after").is_some());
    assert!(loaded.get(Table::Facts, "before").is_none());
}

#[test]
fn a_row_whose_bytes_are_not_those_of_its_version_is_none() {
    let value = Bytes::from_static(b"content");
    let version = imp_proto::content_version(&value);
    let good = imp_xds::Resource::new("a", version.as_str(), value);
    assert!(resource(row("t", &good)).is_some());
    let edited = imp_xds::Resource::new("a", version.as_str(), Bytes::from_static(b"c0ntent"));
    assert!(resource(row("t", &edited)).is_none());
    assert!(resource(Bytes::from_static(b"\xff\xff\xff")).is_none());
}

#[test]
fn the_number_of_writes_is_kept_beside_it() {
    let directory = written(1);
    let path = directory.path().join("lkg.commit");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 16);
    // A number that nobody wrote is ignored.
    let number = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    number.write_all_at(&[0xff; 8], 0).unwrap();
    let (_lkg, loaded) = Lkg::open(directory.path()).unwrap();
    assert_eq!(loaded.rows(Table::Resources).len(), 1);
}
