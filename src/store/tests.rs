use super::tables::Tables;
use super::*;
use std::path::Path;
use std::sync::Arc as StdArc;
use tempfile::TempDir;

/// A whole zone in memory: what the tests hand over and expect back.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content(StdArc<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Content {
    /// `count` entries with blobs of `len` octets of `fill`.
    fn of(count: u32, len: usize, fill: u8) -> Self {
        let entries = (0..count).map(|n| {
            let label = format!("host-{n:08}\0");
            (label.into_bytes(), vec![fill; len])
        });
        Self(StdArc::new(entries.collect()))
    }
}

impl Snapshot for Content {
    fn entries_after(&self, after: Option<&[u8]>, each: &mut Each<'_>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        for (key, blob) in self.0.range::<[u8], _>((from, Unbounded)) {
            if each(key, blob).is_break() {
                return;
            }
        }
    }
}

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

fn state(serial: u32) -> State {
    State { serial, has_data: true, contact_ms: u64::from(serial), ..State::default() }
}

struct Found {
    state: State,
    base_serial: u32,
    base: Content,
    diffs: Vec<Diff>,
    history: Vec<Diff>,
}

fn load(dir: &Path) -> (Store, BTreeMap<NameBuf, Found>) {
    let mut found = BTreeMap::new();
    let opened = Store::open(dir, Options::default()).unwrap();
    let read = |stored: Stored<'_>| {
        let base = stored.entries().map(|(key, blob)| (key.into_owned(), blob.into_owned()));
        let zone = Found {
            state: stored.state.clone(),
            base_serial: stored.base_serial,
            base: Content(StdArc::new(base.collect())),
            diffs: stored.diffs().collect(),
            history: stored.history().collect(),
        };
        (stored.apex.clone(), zone)
    };
    let store = opened.load(read, |zone| found.extend([zone.unwrap()]));
    (store.unwrap(), found)
}

fn empty() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let (store, found) = load(dir.path());
    assert!(found.is_empty());
    (dir, store)
}

fn chain(diffs: &[Diff]) -> Vec<(u32, u32)> {
    diffs.iter().map(|diff| (diff.from, diff.to)).collect()
}

#[test]
fn zones_come_back_as_they_were_kept_in_canonical_order() {
    let (dir, store) = empty();
    let apexes = [".", "example.", "a.example.", "z.a.example.", "b.example."].map(name);
    for (fill, apex) in (0..).zip(&apexes) {
        let content = Content::of(3, 100, fill);
        store.replace(apex.as_name(), state(7), History::Drop, content).wait().unwrap();
    }
    let content = Content::of(3, 100, 9);
    store
        .append(apexes[1].as_name(), state(8), 7, b"seven to eight".to_vec(), content)
        .wait()
        .unwrap();
    drop(store);
    let (_store, found) = load(dir.path());
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), apexes);
    let zone = &found[&apexes[1]];
    assert_eq!((zone.state.clone(), zone.base_serial), (state(8), 7));
    assert_eq!(zone.base, Content::of(3, 100, 1));
    assert_eq!(zone.diffs, [Diff { from: 7, to: 8, bytes: b"seven to eight".to_vec() }]);
    assert!(found[&apexes[0]].diffs.is_empty());
}

#[test]
fn more_zones_than_are_read_at_once_come_back_in_canonical_order() {
    let (dir, store) = empty();
    let apexes: Vec<NameBuf> = (0..5000).map(|n| name(&format!("z{n:04}.example."))).collect();
    let keep = |(n, apex): (usize, &NameBuf)| {
        let state = state(u32::try_from(n).unwrap());
        store.replace(apex.as_name(), state, History::Drop, Content::of(1, 10, 1))
    };
    let kept: Vec<Ticket> = apexes.iter().enumerate().map(keep).collect();
    kept.into_iter().for_each(|kept| kept.wait().unwrap());
    drop(store);
    let opened = Store::open(dir.path(), Options::default()).unwrap();
    let mut found = Vec::new();
    let read = |stored: Stored<'_>| (stored.apex.clone(), stored.state.serial);
    drop(opened.load(read, |zone| found.push(zone.unwrap())).unwrap());
    assert!(found.iter().map(|(apex, _)| apex).eq(&apexes));
    assert!(found.iter().map(|&(_, serial)| serial).eq(0..5000));
}

#[test]
fn a_diff_that_does_not_lead_on_is_refused_and_the_zone_stays() {
    let (dir, store) = empty();
    let apex = name("example.");
    let append = |from, to| {
        store.append(apex.as_name(), state(to), from, vec![1], Content::of(1, 1, 1)).wait()
    };
    assert_eq!(append(1, 2), Err(StoreError::OutOfStep { kept: None, from: 1 }));
    let content = Content::of(1, 1, 0);
    store.replace(apex.as_name(), state(5), History::Drop, content).wait().unwrap();
    assert_eq!(append(4, 6), Err(StoreError::OutOfStep { kept: Some(5), from: 4 }));
    append(5, 6).unwrap();
    drop(store);
    let (_store, found) = load(dir.path());
    assert_eq!(chain(&found[&apex].diffs), [(5, 6)]);
}

#[test]
fn a_large_zone_does_not_keep_small_commits_waiting() {
    let (dir, store) = empty();
    let (large, small) = (name("large.example."), name("small.example."));
    let content = Content::of(200_000, 60, 1);
    let ticket = store.replace(large.as_name(), state(1), History::Drop, content.clone());
    let mut before = 0;
    let mut ticket = std::pin::pin!(ticket);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for serial in 1.. {
        let content = Content::of(2, 20, 2);
        store.replace(small.as_name(), state(serial), History::Drop, content).wait().unwrap();
        if let Poll::Ready(done) = ticket.as_mut().poll(&mut cx) {
            done.unwrap();
            break;
        }
        before += 1;
    }
    assert!(before >= 5, "only {before} small commits during a stage of some 30 slices");
    drop(store);
    let (_store, found) = load(dir.path());
    assert!(found[&large].base == content);
}

#[test]
fn diffs_are_folded_into_a_new_base_and_older_ones_kept_for_a_while() {
    let (dir, store) = empty();
    let apex = name("example.");
    let version = |serial: u32| Content::of(1000, 60, u8::try_from(serial % 256).unwrap());
    store.replace(apex.as_name(), state(0), History::Drop, version(0)).wait().unwrap();
    for to in 1..=400 {
        let diff = vec![7; 400];
        store.append(apex.as_name(), state(to), to - 1, diff, version(to)).wait().unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let base = || store.read(apex.as_name(), |stored| stored.unwrap().base_serial);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while runtime.block_on(base()).unwrap() <= 300 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    // What a fold leaves before the new base is trimmed in bounded steps, by what comes next.
    for to in 401..=410 {
        let diff = vec![7; 400];
        store.append(apex.as_name(), state(to), to - 1, diff, version(to)).wait().unwrap();
    }
    drop(store);
    let (_store, found) = load(dir.path());
    let zone = &found[&apex];
    assert_eq!(zone.base, version(zone.base_serial));
    assert!(zone.base_serial > 300, "still at base {}", zone.base_serial);
    let all = [chain(&zone.history), chain(&zone.diffs)].concat();
    let expected: Vec<(u32, u32)> =
        (410 - u32::try_from(all.len()).unwrap()..410).map(|from| (from, from + 1)).collect();
    assert_eq!(all, expected);
    let (history, diffs) = (zone.history.len(), zone.diffs.len());
    assert!(history > 0 && history <= 100, "{history} before the base, {diffs} since");
}

#[test]
fn a_zone_can_be_replaced_while_its_fold_is_being_written() {
    let (dir, store) = empty();
    let apex = name("example.");
    let content = Content::of(20_000, 100, 1);
    store.replace(apex.as_name(), state(1), History::Drop, content.clone()).wait().unwrap();
    let diff = vec![0; 1 << 20];
    store.append(apex.as_name(), state(2), 1, diff, content).wait().unwrap();
    let last = Content::of(5, 100, 2);
    store.replace(apex.as_name(), state(9), History::Drop, last.clone()).wait().unwrap();
    drop(store);
    let (_store, found) = load(dir.path());
    assert_eq!((found[&apex].state.serial, &found[&apex].base), (9, &last));
    assert!(found[&apex].diffs.is_empty() && found[&apex].history.is_empty());
}

#[test]
fn a_fold_that_a_whole_zone_has_overtaken_is_given_up() {
    let (dir, store) = empty();
    let apex = name("example.");
    let content = Content::of(1000, 100, 1);
    store.replace(apex.as_name(), state(1), History::Drop, content.clone()).wait().unwrap();
    // Both in one transaction, and the fold behind it.
    let next = store.append(apex.as_name(), state(2), 1, vec![0; 20_000], content);
    let last = Content::of(5, 100, 2);
    let whole = store.replace(apex.as_name(), state(3), History::Drop, last.clone());
    next.wait().unwrap();
    whole.wait().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    store.append(apex.as_name(), state(4), 3, vec![4], last.clone()).wait().unwrap();
    drop(store);
    let (_store, found) = load(dir.path());
    assert_eq!((found[&apex].base_serial, &found[&apex].base), (3, &last));
    assert_eq!(chain(&found[&apex].diffs), [(3, 4)]);
}

#[test]
fn a_diff_too_large_to_keep_becomes_a_whole_zone() {
    let (dir, store) = empty();
    let apex = name("example.");
    let content = Content::of(10, 10, 1);
    store.replace(apex.as_name(), state(1), History::Drop, content).wait().unwrap();
    let content = Content::of(10, 10, 2);
    let diff = vec![0; DIFF_MAX + 1];
    store.append(apex.as_name(), state(2), 1, diff, content.clone()).wait().unwrap();
    drop(store);
    let (_store, found) = load(dir.path());
    assert_eq!((found[&apex].base_serial, &found[&apex].base), (2, &content));
}

#[test]
fn timers_are_kept_for_the_version_they_belong_to() {
    let (dir, store) = empty();
    let (apex, bare) = (name("example."), name("bare.example."));
    let content = Content::of(1, 1, 1);
    store.replace(apex.as_name(), state(5), History::Drop, content).wait().unwrap();
    let primary = "[fd18::1]:53".parse().ok();
    store.touch(apex.as_name(), State { expires_at_ms: 77, primary, ..state(5) });
    store.touch(bare.as_name(), State { refresh_at_ms: 3, ..State::default() });
    drop(store);
    let (store, found) = load(dir.path());
    assert_eq!(found[&apex].state, State { expires_at_ms: 77, primary, ..state(5) });
    assert_eq!(found[&bare].state, State { refresh_at_ms: 3, ..State::default() });
    store.touch(apex.as_name(), State { expires_at_ms: 99, ..state(4) });
    drop(store);
    let (_store, found) = load(dir.path());
    assert_eq!(found[&apex].state.expires_at_ms, 77);
}

#[test]
fn timers_of_a_version_that_is_still_on_its_way_are_kept_when_it_has_come() {
    let (dir, store) = empty();
    let apex = name("example.");
    let content = Content::of(1, 1, 1);
    store.replace(apex.as_name(), state(0), History::Drop, content.clone()).wait().unwrap();
    let last = State { expires_at_ms: 77, ..state(50) };
    for to in 1..=50 {
        let next = store.append(apex.as_name(), state(to), to - 1, vec![1], content.clone());
        next.wait().unwrap();
        store.touch(apex.as_name(), State { expires_at_ms: 77, ..state(to) });
    }
    // Until the timers are due and the diffs are in the data file.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !lock(&store.shared.touches).is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(store);
    assert_eq!(load(dir.path()).1[&apex].state, last);
}

#[test]
fn a_removed_zone_is_kept_for_its_time_and_a_touch_brings_it_back() {
    let (dir, store) = empty();
    let apexes = ["old.example.", "back.example.", "new.example."].map(name);
    for apex in &apexes {
        let content = Content::of(10_000, 100, 1);
        store.replace(apex.as_name(), state(1), History::Drop, content).wait().unwrap();
        store.retire(apex.as_name(), 1000).wait().unwrap();
    }
    store.retire(apexes[2].as_name(), 5000).wait().unwrap();
    drop(store);
    let (store, found) = load(dir.path());
    assert_eq!(found[&apexes[0]].state.retired_at_ms, Some(1000));
    store.touch(apexes[1].as_name(), state(1));
    drop(store);
    let (store, _) = load(dir.path());
    let keep_ms = u64::try_from(Options::default().keep_removed.as_millis()).unwrap();
    store.sweep(1000 + keep_ms);
    drop(store);
    let (store, found) = load(dir.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), [&apexes[1], &apexes[2]]);
    store.forget(apexes[2].as_name()).wait().unwrap();
    drop(store);
    assert_eq!(load(dir.path()).1.len(), 1);
}

#[test]
fn small_values_are_there_before_the_zones() {
    let (dir, store) = empty();
    store.put_meta("clock", b"one").wait().unwrap();
    store.put_meta("clock", b"two").wait().unwrap();
    assert_eq!(store.meta("clock").unwrap(), b"two");
    drop(store);
    let opened = Store::open(dir.path(), Options::default()).unwrap();
    assert_eq!(opened.meta("clock").unwrap(), b"two");
    assert_eq!(opened.meta("other"), None);
}

#[test]
fn a_diff_is_not_kept_without_the_small_value_handed_over_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { log_len: 64 * 1024, ..Options::default() };
    let store = Store::open(dir.path(), options).unwrap().load(|_| (), |_| ()).unwrap();
    let (apex, other) = (name("example."), name("other."));
    let content = Content::of(5, 100, 1);
    for zone in [&apex, &other] {
        store.replace(zone.as_name(), state(0), History::Drop, content.clone()).wait().unwrap();
    }
    for to in 1..=10_u32 {
        // While this one is on its way to the disk, the next two come together.
        drop(store.append(other.as_name(), state(to), to - 1, vec![1], content.clone()));
        drop(store.put_meta("belongs to", &to.to_be_bytes()));
        store.append(apex.as_name(), state(to), to - 1, vec![2], content.clone()).wait().unwrap();
        // What a crash at this moment would leave.
        let crashed = tempfile::tempdir().unwrap();
        for file in ["data.mdb", "log.0", "log.1"] {
            std::fs::copy(dir.path().join(file), crashed.path().join(file)).unwrap();
        }
        let (store, found) = load(crashed.path());
        assert_eq!(found[&apex].state.serial, to);
        assert_eq!(store.meta("belongs to").as_deref(), Some(&to.to_be_bytes()[..]));
    }
}

#[test]
fn a_state_directory_serves_one_process_at_a_time() {
    let (dir, store) = empty();
    let again = Store::open(dir.path(), Options::default()).err().unwrap();
    assert_eq!(again, StoreError::Locked(dir.path().into()));
    drop(store);
    Store::open(dir.path(), Options::default()).unwrap();
}

#[test]
fn relaxed_tickets_are_done_at_once_and_all_is_kept_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { durability: Durability::Relaxed, ..Options::default() };
    let store = Store::open(dir.path(), options).unwrap().load(|_| (), |_| ()).unwrap();
    for n in 0..50 {
        let apex = name(&format!("z{n}.example."));
        store
            .replace(apex.as_name(), state(n), History::Drop, Content::of(1, 9, 1))
            .wait()
            .unwrap();
    }
    drop(store);
    assert_eq!(load(dir.path()).1.len(), 50);
}

#[test]
fn a_tree_gives_its_entries_from_anywhere() {
    let apex = name("example.");
    let keys: Vec<Key> = ["example.", "a.example.", "b.a.example.", "c.example."]
        .map(|text| Key::of(name(text).as_name(), 1))
        .into();
    let tree: Tree<()> = Tree::build(keys.iter().map(|key| (key.as_bytes(), b"blob", ())));
    for from in 0..=keys.len() {
        let mut given = Vec::new();
        let after = from.checked_sub(1).map(|last| keys[last].as_bytes());
        tree.entries_after(after, &mut |key, _| {
            given.push(Key::from_bytes(key).unwrap());
            ControlFlow::Continue(())
        });
        assert_eq!(given, keys[from..]);
    }
    assert_eq!(keys[1].name(apex.as_name()), Some(name("a.example.")));
}

#[test]
fn a_zone_is_read_later_as_it_is_after_what_came_before() {
    let (_dir, store) = empty();
    let (apex, large) = (name("example."), name("large.example."));
    let read = |apex: &NameBuf| {
        let made = store.read(apex.as_name(), |stored| {
            let stored = stored.unwrap();
            let base = stored.entries().map(|(key, blob)| (key.into_owned(), blob.into_owned()));
            (stored.state.clone(), Content(StdArc::new(base.collect())), stored.diffs().count())
        });
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(made)
    };
    assert_eq!(read(&apex), None);
    let content = Content::of(10, 100, 1);
    let kept = store.replace(apex.as_name(), state(1), History::Drop, content.clone());
    let next = store.append(apex.as_name(), state(2), 1, vec![1], content.clone());
    let retired = store.retire(apex.as_name(), 77);
    let expected = State { retired_at_ms: Some(77), ..state(2) };
    assert_eq!(read(&apex), Some((expected, content, 1)));
    for ticket in [kept, next, retired] {
        ticket.wait().unwrap();
    }
    let content = Content::of(50_000, 60, 2);
    let kept = store.replace(large.as_name(), state(7), History::Drop, content.clone());
    assert_eq!(read(&large), Some((state(7), content, 0)));
    kept.wait().unwrap();
}

/// The version that is kept beside the newest one of a zone: its content and what led on from there.
fn read_before(store: &Store, apex: &NameBuf) -> Option<(u32, Content, usize)> {
    let made = store.read_before(apex.as_name(), |stored| {
        let stored = stored.unwrap();
        let base = stored.entries().map(|(key, blob)| (key.into_owned(), blob.into_owned()));
        let content = Content(StdArc::new(base.collect()));
        (stored.state.serial, content, stored.diffs().count())
    });
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(made)
}

/// Has every base and every journal an owner, after all that was doomed is deleted?
fn assert_all_is_owned(dir: &Path) {
    let env = tables::open(dir).unwrap();
    let tables = Tables::of(&env).unwrap();
    let txn = env.read_txn().unwrap();
    let doomed = tables.doomed.iter(&txn).unwrap();
    let doomed = doomed.map(|entry| u64::from_be_bytes(entry.unwrap().0.try_into().unwrap()));
    let found = load::ownerless_ids(tables, &txn, doomed.collect()).unwrap();
    assert!(found.is_empty(), "nobody owns {found:?}");
}

#[test]
fn the_version_that_a_whole_zone_replaces_is_kept_beside_it_until_the_next_one() {
    let (dir, store) = empty();
    let apex = name("example.");
    let content = |fill| Content::of(2000, 100, fill);
    let replace = |store: &Store, serial: u8, history| {
        let state = state(u32::from(serial));
        store.replace(apex.as_name(), state, history, content(serial)).wait().unwrap();
    };
    replace(&store, 1, History::Before);
    assert_eq!(read_before(&store, &apex), None, "there was none");
    store.append(apex.as_name(), state(2), 1, vec![2], content(2)).wait().unwrap();
    replace(&store, 3, History::Before);
    store.append(apex.as_name(), state(4), 3, vec![4], content(4)).wait().unwrap();
    assert_eq!(read_before(&store, &apex), Some((2, content(1), 1)), "its diffs are kept, too");
    drop(store);
    let opened = Store::open(dir.path(), Options::default()).unwrap();
    let mut found = Vec::new();
    let read = |stored: Stored<'_>| (stored.state.serial, stored.before(), stored.diffs().count());
    let store = opened.load(read, |zone| found.push(zone.unwrap())).unwrap();
    assert_eq!(found, [(4, Some(2), 1)]);
    assert_eq!(read_before(&store, &apex), Some((2, content(1), 1)));
    replace(&store, 5, History::Before);
    assert_eq!(read_before(&store, &apex), Some((4, content(3), 1)));
    replace(&store, 5, History::Keep);
    assert_eq!(read_before(&store, &apex).map(|(serial, ..)| serial), Some(4));
    drop(store);
    assert_all_is_owned(dir.path());
    let (store, _) = load(dir.path());
    replace(&store, 6, History::Drop);
    assert_eq!(read_before(&store, &apex), None);
    replace(&store, 7, History::Before);
    assert_eq!(read_before(&store, &apex), Some((6, content(6), 0)));
    store.forget(apex.as_name()).wait().unwrap();
    assert_eq!(read_before(&store, &apex), None);
    drop(store);
    assert_all_is_owned(dir.path());
    assert!(load(dir.path()).1.is_empty());
}

#[test]
fn a_store_without_versions_beside_the_newest_is_brought_to_this_format() {
    let (dir, store) = empty();
    let apex = name("example.");
    let content = Content::of(10, 100, 1);
    store.replace(apex.as_name(), state(1), History::Drop, content.clone()).wait().unwrap();
    drop(store);
    {
        let env = tables::open(dir.path()).unwrap();
        let tables = Tables::of(&env).unwrap();
        let mut txn = env.write_txn().unwrap();
        let format = format::FORMAT_WITHOUT_BEFORE.to_be_bytes().to_vec();
        tables.put_meta(&mut txn, format::META_FORMAT, format).unwrap();
        #[expect(unsafe_code, reason = "the only way to take a table away")]
        // SAFETY: nobody else has the table: the environment is closed below.
        unsafe {
            tables.before.remove(&mut txn).unwrap();
        }
        txn.commit().unwrap();
    }
    let (store, found) = load(dir.path());
    assert_eq!((found[&apex].state.clone(), &found[&apex].base), (state(1), &content));
    let next = Content::of(10, 100, 2);
    store.replace(apex.as_name(), state(2), History::Before, next).wait().unwrap();
    assert_eq!(read_before(&store, &apex), Some((1, content, 0)));
    drop(store);
    assert_eq!(load(dir.path()).1[&apex].state, state(2));
}

/// Hands over the first `count` entries of a zone, a piece after every `step`, ahead of it.
fn pushed(store: &Store, content: &Content, count: usize, step: usize) -> Ahead {
    let mut ahead = store.ahead();
    for (n, (key, blob)) in content.0.iter().take(count).enumerate() {
        ahead.push(key, blob);
        if n % step == step - 1 {
            ahead.send();
        }
    }
    ahead
}

/// How many values there are of bases and journals, once nothing more is to be deleted.
fn chunks_left(dir: &Path) -> u64 {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let (store, _) = load(dir);
        std::thread::sleep(Duration::from_millis(20));
        drop(store);
        let env = tables::open(dir).unwrap();
        let tables = Tables::of(&env).unwrap();
        let txn = env.read_txn().unwrap();
        let doomed = tables.doomed.len(&txn).unwrap();
        if doomed == 0 || std::time::Instant::now() > deadline {
            assert_eq!(doomed, 0, "not deleted in a minute");
            return tables.base.len(&txn).unwrap() + tables.journal.len(&txn).unwrap();
        }
    }
}

#[test]
fn a_zone_that_was_written_ahead_is_the_zone_that_it_would_be_otherwise() {
    let content = Content::of(3000, 100, 7);
    let apex = name("example.");
    let lengths = [(0, 1), (1, 1), (1000, 70), (1000, 5000), (2999, 500), (3000, 1000)];
    for (count, step) in lengths {
        let (dir, store) = empty();
        let ahead = pushed(&store, &content, count, step);
        store.touch(apex.as_name(), State::default());
        let ahead = Some(ahead);
        let kept = content.clone();
        let ticket = store.replace_ahead(apex.as_name(), state(1), History::Drop, kept, ahead);
        ticket.wait().unwrap();
        drop(store);
        assert_all_is_owned(dir.path());
        let (_, found) = load(dir.path());
        assert!(found[&apex].base == content, "{count} ahead, {step} at once");
        let chunks = 3000 * (5 + 14 + 100) / format::CHUNK as u64 + 1;
        assert_eq!(chunks_left(dir.path()), chunks);
    }
}

#[test]
fn what_was_written_ahead_of_a_zone_that_does_not_come_is_deleted() {
    let (dir, store) = empty();
    let content = Content::of(3000, 100, 7);
    let (apex, other) = (name("example."), name("other.example."));
    // One that is given up, one that has a gap, one that outlives the store: as in a crash.
    drop(pushed(&store, &content, 3000, 500));
    let mut gap = pushed(&store, &content, 1000, 500);
    gap.skip_one();
    let ahead = Some(gap);
    let kept = content.clone();
    let ticket = store.replace_ahead(apex.as_name(), state(1), History::Drop, kept, ahead);
    ticket.wait().unwrap();
    let unfinished = pushed(&store, &content, 3000, 500);
    let kept = Content::of(1, 1, 1);
    store.replace(other.as_name(), state(1), History::Drop, kept).wait().unwrap();
    drop(store);
    drop(unfinished);
    assert_all_is_owned(dir.path());
    assert_eq!(chunks_left(dir.path()), 3000 * (5 + 14 + 100) / format::CHUNK as u64 + 2);
    let (_, found) = load(dir.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), [&apex, &other]);
    assert_eq!(found[&apex].base, content);
}
