use super::inner::{FAN_OUT, NodeRef};
use super::page::{PAGE_MAX, Page};
use super::*;
use crate::name::{NameBuf, common_labels};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc as StdArc;

type Model = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

fn key(name: &str) -> Key {
    Key::of(name.parse::<NameBuf>().unwrap().as_name(), 0)
}

fn names<'n>(names: impl IntoIterator<Item = &'n str>) -> Tree {
    let mut tree = Tree::new();
    for name in names {
        tree.insert(&key(name), name.as_bytes(), ());
    }
    check(&tree);
    tree
}

/// Asserts the invariants of the module's documentation; the depth of the pages.
fn check<V>(tree: &Tree<V>) -> usize {
    let mut last = None;
    let mut count = 0;
    let depth = tree.root().map_or(0, |root| check_node(root, &mut last, &mut count));
    assert_eq!(count, tree.len());
    depth
}

fn check_node<V>(node: NodeRef<'_, V>, last: &mut Option<Vec<u8>>, count: &mut usize) -> usize {
    match node {
        NodeRef::Page(page) => {
            check_page(page, last);
            *count += page.count();
            0
        }
        NodeRef::Inner(inner) => {
            assert!((1..=FAN_OUT).contains(&inner.count()), "fan-out of {}", inner.count());
            let mut depths = Vec::new();
            for at in 0..inner.count() {
                if at > 0 {
                    assert!(last.as_deref().unwrap() < inner.separator(at - 1), "parted: before");
                }
                let child = inner.child(at).unwrap();
                let first = child.edge(false).unwrap().entry(0).unwrap().key.to_key();
                assert!(at == 0 || inner.separator(at - 1) <= first.as_bytes(), "parted: behind");
                depths.push(check_node(child, last, count));
            }
            assert!(inner.child(inner.count()).is_none(), "a child beyond the count");
            assert!(depths.iter().all(|&depth| depth == depths[0]), "level");
            depths[0] + 1
        }
    }
}

fn check_page<V>(page: &Page<V>, last: &mut Option<Vec<u8>>) {
    assert!(page.count() > 0, "an empty page");
    assert!(page.count() == 1 || page.size() <= PAGE_MAX, "page size");
    assert_eq!(page.entries().count(), page.count());
    for entry in page.entries() {
        let key = entry.key.to_key().as_bytes().to_vec();
        assert!(last.as_ref() < Some(&key), "order");
        *last = Some(key);
    }
}

fn owned<V: Clone>(entry: Entry<'_, V>) -> (Vec<u8>, (Vec<u8>, V)) {
    let key = entry.key.to_key().as_bytes().to_vec();
    (key, (entry.blob.to_vec(), entry.value.clone()))
}

fn same(tree: &Tree<u64>, model: &Model) {
    check(tree);
    let all: Model = tree.iter().map(owned).collect();
    assert_eq!(&all, model);
    assert_eq!(tree.first().map(owned).map(|e| e.0), model.keys().next().cloned());
    assert_eq!(tree.last().map(owned).map(|e| e.0), model.keys().next_back().cloned());
}

/// How many octets of the key its neighbours have, in whole labels: those of its closest encloser.
fn encloser<V>(place: &Place<'_, '_, V>, key: &Key) -> usize {
    let neighbours = place.at_or_before().into_iter().chain(place.after());
    neighbours.map(|entry| entry.key.common_labels(key)).max().unwrap_or(0)
}

/// All that can be asked about one key, against the obvious answers.
fn same_place(tree: &Tree<u64>, model: &Model, key: &Key) {
    let bytes = key.as_bytes();
    let of = |(k, v): (&Vec<u8>, &(Vec<u8>, u64))| (k.clone(), v.clone());
    let exact = model.get(bytes).map(|(blob, value)| (&blob[..], value));
    let before = model.range::<[u8], _>((Bound::Unbounded, Bound::Included(bytes))).next_back();
    let after = model.range::<[u8], _>((Bound::Excluded(bytes), Bound::Unbounded)).next();
    let shared = model.keys().map(|other| common_labels(bytes, other)).max().unwrap_or(0);
    let place = tree.seek(key);
    assert_eq!(tree.get(key), exact);
    assert_eq!(place.exact(), exact);
    assert_eq!(place.at_or_before().map(owned), before.map(of));
    assert_eq!(place.after().map(owned), after.map(of));
    assert_eq!(encloser(&place, key), shared);
    for len in (0..=bytes.len()).filter(|&len| len == 0 || bytes[len - 1] == 0) {
        if let Some((blob, _)) = model.get(&bytes[..len]) {
            assert!(place.ancestor(len).is_none_or(|found| found == blob), "{len}");
        }
    }
    let below: Vec<_> = tree.range(bytes).map(owned).collect();
    let expected = model.iter().filter(|(other, _)| other.starts_with(bytes)).map(of);
    assert_eq!(below, expected.collect::<Vec<_>>());
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }

    /// A key near others: few different labels, sometimes long ones, up to the longest name.
    fn key(&mut self) -> Key {
        let mut bytes = Vec::new();
        for _ in 0..self.below(6) {
            let label = match self.below(8) {
                0 => vec![b'x'; 63],
                1 => [vec![b'y'; 61], vec![1 + u8::try_from(self.below(40)).unwrap()]].concat(),
                2..5 => vec![b'a' + u8::try_from(self.below(3)).unwrap()],
                _ => format!("n{}", self.below(300)).into_bytes(),
            };
            if bytes.len() + label.len() < Key::MAX {
                bytes.extend(label);
                bytes.push(0);
            }
        }
        Key::from_bytes(&bytes).unwrap()
    }

    fn blob(&mut self) -> Vec<u8> {
        let len = match self.below(200) {
            0 => self.below(100_000),
            1..10 => self.below(1500),
            10..60 => 0,
            _ => self.below(40),
        };
        let seed = self.below(256);
        (0..len).map(|at| u8::try_from((at ^ seed) & 0xff).unwrap()).collect()
    }
}

/// A long history of changes in which the tree grows, shrinks and vanishes; some versions are
/// kept and must be as they were at the end.
fn live(seed: u64, changes: usize) {
    let mut dice = Dice(seed | 1);
    let (mut tree, mut model) = (Tree::new(), Model::new());
    let mut kept = Vec::new();
    for change in 0..changes {
        let key = dice.key();
        let growing = (change / 1000).is_multiple_of(2);
        if dice.below(10) < if growing { 8 } else { 2 } {
            let (blob, value) = (dice.blob(), dice.below(1000));
            tree.insert(&key, &blob, value);
            model.insert(key.as_bytes().to_vec(), (blob, value));
        } else {
            let near = tree.seek(&key).after().map_or(key, |entry| entry.key.to_key());
            assert_eq!(tree.remove(&near), model.remove(near.as_bytes()).is_some());
        }
        if dice.below(100) == 0 {
            kept.push((tree.clone(), model.clone()));
            check(&tree);
            for _ in 0..10 {
                same_place(&tree, &model, &dice.key());
            }
        }
    }
    kept.push((tree, model));
    kept.iter().for_each(|(tree, model)| same(tree, model));
}

#[test]
fn versions_stay_as_they_were_through_a_long_history() {
    live(42, 12_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_history_equals_the_model(seed: u64, changes in 1_usize..2500) {
        live(seed, changes);
    }

    #[test]
    fn a_bulk_load_equals_the_model_and_can_be_changed(seed: u64, count in 0_usize..3000) {
        let mut dice = Dice(seed | 1);
        let mut model = Model::new();
        for _ in 0..count {
            let (key, blob) = (dice.key(), dice.blob());
            model.insert(key.as_bytes().to_vec(), (blob, dice.below(9)));
        }
        let mut tree = Tree::build(model.iter().map(|(key, (blob, value))| (key, blob, *value)));
        same(&tree, &model);
        for _ in 0..50 {
            same_place(&tree, &model, &dice.key());
        }
        let keys: Vec<_> = model.keys().cloned().collect();
        for key in keys {
            prop_assert!(tree.remove(&Key::from_bytes(&key).unwrap()));
        }
        prop_assert!(tree.is_empty() && tree.root.is_none());
    }
}

#[test]
fn an_empty_tree_has_no_answers_and_no_bytes() {
    let tree = Tree::<()>::new();
    let sought = key("a.");
    let place = tree.seek(&sought);
    assert!(tree.get(&Key::empty()).is_none() && place.exact().is_none());
    assert!(place.at_or_before().is_none() && place.after().is_none());
    assert_eq!((encloser(&place, &sought), tree.bytes(), tree.iter().count()), (0, 0, 0));
    assert!(tree.first().is_none() && tree.last().is_none());
    let none = Tree::build(std::iter::empty::<(&[u8], &[u8], ())>());
    assert!(none.is_empty());
}

#[test]
fn the_apex_is_the_first_entry_and_encloses_all() {
    let tree = names([".", "b.", "a.b."]);
    assert!(tree.first().unwrap().key.is_empty());
    assert_eq!(tree.get(&Key::empty()).unwrap().0, b".");
    let sought = key("zz.");
    let place = tree.seek(&sought);
    assert_eq!((encloser(&place, &sought), place.at_or_before().unwrap().blob), (0, &b"a.b."[..]));
}

#[test]
fn the_encloser_counts_empty_non_terminals_on_either_side() {
    let tree = names(["org.", "x.b.a.org.", "m.c.a.org."]);
    let encloser_of = |name: &str| {
        let key = key(name);
        key.ancestor(encloser(&tree.seek(&key), &key))
    };
    assert_eq!(encloser_of("a.org."), key("a.org."));
    assert_eq!(encloser_of("q.b.a.org."), key("b.a.org."), "only the successor tells");
    assert_eq!(encloser_of("z.b.a.org."), key("b.a.org."), "only the predecessor tells");
    assert_eq!(encloser_of("q.a.org."), key("a.org."));
    assert_eq!(encloser_of("y.x.b.a.org."), key("x.b.a.org."));
    assert_eq!(encloser_of("com."), key("."));
}

#[test]
fn an_ancestor_a_few_names_back_is_found_where_the_search_ended() {
    let tree = names(["example", "d1.example", "a.d1.example", "b.d1.example", "d2.example"]);
    let found = |name: &str, ancestor: &str| {
        let place_of = key(name);
        tree.seek(&place_of).ancestor(key(ancestor).len()).map(str::from_utf8)
    };
    for name in ["www.d1.example", "b.d1.example", "x.a.d1.example", "d1.example"] {
        assert_eq!(found(name, "d1.example"), Some(Ok("d1.example")), "{name}");
    }
    assert_eq!(found("b.d1.example", "b.d1.example"), Some(Ok("b.d1.example")));
    assert_eq!(found("www.d1.example", "nothing.of.that.length.example"), None);
}

#[test]
fn every_gap_between_pages_is_crossed_in_both_directions() {
    let all: Vec<_> = (0..20_000).map(|n| key(&format!("n{n:06}."))).collect();
    let tree = Tree::build(all.iter().map(|key| (key.as_bytes(), [], ())));
    assert!(check(&tree) >= 2, "too small to have gaps between inner nodes");
    for (at, key) in all.iter().enumerate() {
        let place = tree.seek(key);
        assert!(place.at_or_before().unwrap().key == *key);
        assert_eq!(place.after().map(|e| e.key.to_key()), all.get(at + 1).cloned());
        let behind = Key::from_bytes(&[key.as_bytes(), b"z\0"].concat()).unwrap();
        let place = tree.seek(&behind);
        assert!(place.exact().is_none() && place.at_or_before().unwrap().key == *key);
        assert_eq!(place.after().map(|e| e.key.to_key()), all.get(at + 1).cloned());
        assert_eq!(encloser(&place, &behind), key.as_bytes().len());
    }
    assert!(tree.iter().map(|entry| entry.key.to_key()).eq(all.iter().cloned()));
}

#[test]
fn a_range_is_a_subtree_and_may_begin_within_a_label() {
    let tree = names(["a.", "b.a.", "c.b.a.", "ba.", "x.ba.", "c."]);
    let range = |prefix: &[u8]| -> Vec<_> { tree.range(prefix).map(|entry| entry.blob).collect() };
    assert_eq!(range(b"a\0"), [&b"a."[..], b"b.a.", b"c.b.a."]);
    assert_eq!(range(b"b"), [&b"ba."[..], b"x.ba."]);
    assert_eq!(range(b"zz\0"), Vec::<&[u8]>::new());
    assert_eq!(range(&[b'q'; 300]), Vec::<&[u8]>::new());
    assert_eq!(range(b"").len(), 6);
}

#[test]
fn keys_of_254_octets_with_long_common_prefixes_work() {
    let long = [vec![b'x'; 63], vec![0], vec![b'x'; 63], vec![0], vec![b'x'; 63], vec![0]].concat();
    let of = |n: u32| {
        let key = [&long[..], format!("{n:061}").replace('0', "o").as_bytes(), &[0]].concat();
        assert_eq!(key.len(), Key::MAX);
        Key::from_bytes(&key).unwrap()
    };
    let mut all: Vec<_> = (0..3000).map(of).collect();
    let mut tree = Tree::new();
    for (at, key) in all.iter().enumerate() {
        tree.insert(key, b"blob", at);
    }
    check(&tree);
    for (at, key) in all.iter().enumerate() {
        assert_eq!(tree.get(key), Some((&b"blob"[..], &at)));
    }
    all.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    let built = Tree::build(all.iter().map(|key| (key.as_bytes(), b"blob", ())));
    check(&built);
    assert!(built.iter().zip(&all).all(|(entry, key)| entry.key == *key));
}

#[test]
fn big_blobs_have_pages_of_their_own_among_small_ones() {
    let blob =
        |n: usize| vec![u8::try_from(n % 251).unwrap(); if n == 70 { 5 << 20 } else { n * 40 }];
    let all: Vec<_> = (0..150).map(|n| key(&format!("n{n:03}."))).collect();
    let mut tree = Tree::new();
    for (n, key) in all.iter().enumerate().rev() {
        tree.insert(key, &blob(n), n);
        check(&tree);
    }
    let verify = |tree: &Tree<usize>| {
        for (n, key) in all.iter().enumerate() {
            assert!(tree.get(key) == Some((&blob(n)[..], &n)), "blob {n}");
        }
    };
    verify(&tree);
    let old = tree.clone();
    for key in &all {
        tree.insert(key, b"small", 0);
        check(&tree);
    }
    assert!(tree.nodes_but(|_| false).pages < 10, "pages that became small were not joined");
    verify(&old);
    verify(&Tree::build(all.iter().enumerate().map(|(n, key)| (key.as_bytes(), blob(n), n))));
}

/// An update costs its own size: one page and one path of nodes, whatever the tree's size.
#[test]
fn an_update_copies_one_path() {
    let mut costs = Vec::new();
    for count in [1000, 200_000_u32] {
        let mut all: Vec<_> = (0..count).map(|n| key(&format!("d{n}."))).collect();
        all.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let tree = Tree::build(all.iter().map(|key| (key.as_bytes(), [7; 20], ())));
        let depth = check(&tree);
        let victim = &all[all.len() / 3];
        let mut replaced = tree.clone();
        replaced.insert(victim, &[8; 20], ());
        let cost = replaced.not_shared_with(&tree);
        assert_eq!((cost.pages, cost.inner), (1, depth), "replace in {count}");
        let mut removed = tree.clone();
        assert!(removed.remove(victim));
        let cost = removed.not_shared_with(&tree);
        assert_eq!((cost.pages, cost.inner), (1, depth), "remove in {count}");
        let mut grown = tree.clone();
        grown.insert(&key("new.d1."), &[1; 600], ());
        let cost = grown.not_shared_with(&tree);
        assert!(cost.pages <= 3 && cost.inner <= 2 * depth + 1, "insert in {count}: {cost:?}");
        assert_eq!(tree.not_shared_with(&tree.clone()), Nodes::default());
        costs.push(cost.bytes);
    }
    assert!(costs[1] <= costs[0] + 2 * 1024, "bytes copied: {costs:?}");
}

#[test]
fn a_tree_held_by_nobody_else_is_changed_in_place() {
    let mut tree = names(["a.", "b."]);
    for n in 0..2000 {
        tree.insert(&key(&format!("n{n}.")), b"", ());
    }
    let address = tree.root().unwrap().address();
    tree.insert(&key("a."), b"other", ());
    assert_eq!(tree.root().unwrap().address(), address);
    let old = tree.clone();
    tree.insert(&key("a."), b"again", ());
    assert_ne!(tree.root().unwrap().address(), address);
    assert_eq!(old.get(&key("a.")).unwrap().0, b"other");
}

#[test]
fn removing_a_key_that_is_not_there_copies_nothing() {
    let tree = names(["a.", "b.", "c."]);
    let mut other = tree.clone();
    assert!(!other.remove(&key("q.")));
    assert_eq!(other.not_shared_with(&tree), Nodes::default());
}

#[test]
fn values_are_dropped_with_the_last_version_that_holds_them() {
    let value = StdArc::new(5);
    let mut tree = Tree::new();
    for n in 0..500 {
        tree.insert(&key(&format!("zone{n}.")), &[], StdArc::clone(&value));
    }
    let old = tree.clone();
    for n in 0..500 {
        assert!(tree.remove(&key(&format!("zone{n}."))));
    }
    assert!(tree.is_empty() && tree.bytes() == 0);
    assert_eq!(old.get(&key("zone7.")).unwrap().1, &value);
    drop(old);
    assert_eq!(StdArc::strong_count(&value), 1);
}

#[test]
fn values_that_are_nothing_cost_nothing_and_names_cost_little() {
    let mut all: Vec<_> = (0..50_000).map(|n| key(&format!("d{n}."))).collect();
    all.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    let with = Tree::build(all.iter().map(|key| (key.as_bytes(), [0; 20], 0_u64)));
    let without = Tree::build(all.iter().map(|key| (key.as_bytes(), [0; 20], ())));
    assert_eq!(with.bytes() - without.bytes(), 8 * all.len());
    let each = without.bytes() / all.len();
    assert!((20 + 7..20 + 12).contains(&each), "{each} bytes an entry of 20");
}

#[test]
#[should_panic(expected = "keys must ascend strictly")]
fn a_bulk_load_out_of_order_is_refused() {
    Tree::build([(b"b\0", b"", ()), (b"a\0", b"", ())]);
}

#[test]
fn ways_that_are_begun_together_end_where_look_ups_one_by_one_do() {
    let all: Vec<_> = (0..5000).map(|n| key(&format!("n{n}."))).collect();
    let mut tree = Tree::new();
    for key in all.iter().step_by(2) {
        tree.insert(key, key.as_bytes(), ());
    }
    let ways: Vec<_> = all.iter().map(|key| tree.way(key)).collect();
    for (at, (way, key)) in ways.iter().zip(&all).enumerate() {
        let place = way.place(key);
        assert_eq!(place.exact().map(|(blob, &())| blob), tree.get(key).map(|(blob, _)| blob));
        assert_eq!(place.exact().is_some(), at % 2 == 0);
        let before = place.at_or_before().map(|entry| entry.key.to_key());
        assert_eq!(before, tree.seek(key).at_or_before().map(|entry| entry.key.to_key()));
    }
}
