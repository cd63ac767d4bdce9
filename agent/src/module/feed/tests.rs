use imp_module::feed::message::{Name, Update};

use super::*;

fn credential(id: &str, consumer: &str) -> Bytes {
    let message =
        pb::Credential { id: id.into(), consumer_id: consumer.into(), ..Default::default() };
    message.encode_to_vec().into()
}

fn put(feed: &Feed, id: &str, consumer: &str) {
    feed.put(ResourceType::Credential, [(id, &credential(id, consumer))].into_iter());
}

fn remove(feed: &Feed, id: &str) {
    feed.remove(ResourceType::Credential, [id].into_iter());
}

fn feed() -> (Feed, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Feed::new(directory.path().join("snapshot")), directory)
}

/// What a module holds after these updates.
fn apply(held: &mut BTreeMap<String, String>, update: &Update) {
    for item in &update.put {
        let Some(Kind::Credential(it)) = &item.kind else { panic!("{item:?}") };
        held.insert(it.id.clone(), it.consumer_id.clone());
    }
    for Name { named } in &update.remove {
        let Some(Named::Credential(id)) = named else { panic!("{named:?}") };
        held.remove(id);
    }
}

/// Continues from a version, as a module does. Returns the version.
fn follow(feed: &Feed, held: &mut BTreeMap<String, String>, mut since: u64) -> u64 {
    loop {
        match feed.next(since) {
            Next::Nothing => return since,
            Next::Change(update) => {
                assert_eq!(update.since, since);
                apply(held, &update);
                since = update.version;
            }
            Next::Everything { version, items } => {
                held.clear();
                let parts: Vec<_> = feed.parts(version, &items).collect();
                let more: Vec<_> = parts.iter().map(|part| part.more).collect();
                assert_eq!(more.iter().filter(|more| !**more).count(), 1, "{more:?}");
                assert_eq!(more.last(), Some(&false));
                parts.iter().for_each(|part| apply(held, part));
                since = version;
            }
        }
    }
}

#[test]
fn nobody_is_told_anything_before_everything_is_there() {
    let (feed, directory) = feed();
    put(&feed, "a", "1");
    assert!(matches!(feed.next(0), Next::Nothing));
    assert!(!directory.path().join("snapshot").exists());
    crate::module::open(&feed);
    assert!(directory.path().join("snapshot").exists());
    let mut held = BTreeMap::new();
    follow(&feed, &mut held, 0);
    assert_eq!(held, [("a".into(), "1".into())].into());
}

#[test]
fn a_module_that_follows_has_what_one_has_that_comes_new() {
    let (feed, _directory) = feed();
    put(&feed, "a", "1");
    feed.open();
    let mut held = BTreeMap::new();
    let mut since = follow(&feed, &mut held, 0);
    for round in 0..ITEMS + 10 {
        let id = format!("k{}", round % 5_000);
        put(&feed, &id, &round.to_string());
        if round % 3 == 0 {
            remove(&feed, &id);
            if round % 2 == 0 {
                put(&feed, &id, "again");
            }
        }
        if round % 700 == 0 {
            since = follow(&feed, &mut held, since);
        }
    }
    since = follow(&feed, &mut held, since);
    let mut fresh = BTreeMap::new();
    assert_eq!(follow(&feed, &mut fresh, 0), since);
    assert_eq!(held, fresh);
    // What does not change anything is no version.
    put(&feed, "a", "1");
    remove(&feed, "nobody");
    assert!(matches!(feed.next(since), Next::Nothing));
    // Too far behind: everything again.
    for round in 0..=REMEMBERED {
        put(&feed, "a", &round.to_string());
    }
    assert!(matches!(feed.next(since), Next::Everything { .. }));
    follow(&feed, &mut held, since);
    assert_eq!(held["a"], REMEMBERED.to_string());
}

#[test]
fn many_items_are_several_parts() {
    let (feed, _directory) = feed();
    for number in 0..2 * ITEMS + 1 {
        put(&feed, &format!("k{number}"), "c");
    }
    feed.open();
    let Next::Everything { version, items } = feed.next(0) else { panic!() };
    let parts: Vec<_> = feed.parts(version, &items).collect();
    assert_eq!(parts.iter().map(|part| part.put.len()).collect::<Vec<_>>(), [ITEMS, ITEMS, 1]);
    assert_eq!(feed.parts(version, &[]).count(), 1, "nothing is a message, too");
}

#[tokio::test]
async fn a_change_waits_for_modules_that_listen_and_hangs_up_on_one_that_does_not_take_it() {
    let (feed, _directory) = feed();
    feed.open();
    put(&feed, "a", "1");
    feed.applied().await;
    let version = feed.version();
    let (slow, applied, hang_up) = feed.join("another", 7);
    assert_eq!(applied, 0);
    let waiting = tokio::spawn({
        let feed = feed.clone();
        async move { feed.applied().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    feed.has_applied(slow, version);
    waiting.await.unwrap();
    assert!(!hang_up.is_cancelled());
    remove(&feed, "a");
    feed.applied().await;
    assert!(hang_up.is_cancelled(), "it does not take changes");
    feed.leave(slow);
    feed.applied().await;
}
