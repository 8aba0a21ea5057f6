//! A persistent ordered map (placeholder with the final interface).

use crate::name::{Key, common_labels};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One entry: its key, its blob, its value.
pub struct Entry<'t, V> {
    /// The key.
    pub key: Key,
    /// The bytes kept in the page.
    pub blob: &'t [u8],
    /// The value beside the page.
    pub value: &'t V,
}

/// A persistent ordered map from [`Key`] to bytes and a small value.
#[derive(Clone)]
pub struct Tree<V = ()>(Arc<BTreeMap<Box<[u8]>, (Box<[u8]>, V)>>);

impl<V: Clone> Default for Tree<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Clone> Tree<V> {
    /// An empty tree.
    pub fn new() -> Self {
        Self(Arc::new(BTreeMap::new()))
    }
    /// Bulk load; keys strictly ascending.
    pub fn build<K: AsRef<[u8]>, B: AsRef<[u8]>>(
        sorted: impl IntoIterator<Item = (K, B, V)>,
    ) -> Self {
        Self(Arc::new(
            sorted
                .into_iter()
                .map(|(k, b, v)| (k.as_ref().into(), (b.as_ref().into(), v)))
                .collect(),
        ))
    }
    /// How many entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The entry of exactly this key.
    pub fn get(&self, key: &Key) -> Option<(&[u8], &V)> {
        self.0.get(key.as_bytes()).map(|(b, v)| (&**b, v))
    }
    /// One descent to the place of `key`.
    pub fn seek(&self, key: &Key) -> Place<'_, V> {
        Place { tree: self, key: key.clone() }
    }
    /// Puts an entry in, in place where this tree alone holds the nodes.
    pub fn insert(&mut self, key: &Key, blob: &[u8], value: V) {
        Arc::make_mut(&mut self.0).insert(key.as_bytes().into(), (blob.into(), value));
    }
    /// Takes an entry out. Was it there?
    pub fn remove(&mut self, key: &Key) -> bool {
        Arc::make_mut(&mut self.0).remove(key.as_bytes()).is_some()
    }
    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_, V>> {
        self.range(&[])
    }
    /// The entries whose keys begin with `prefix`, in order.
    pub fn range<'t>(&'t self, prefix: &[u8]) -> impl Iterator<Item = Entry<'t, V>> + use<'t, V> {
        let prefix: Box<[u8]> = prefix.into();
        self.0
            .range::<[u8], _>((std::ops::Bound::Included(&*prefix), std::ops::Bound::Unbounded))
            .map_while(move |(k, (b, v))| {
                k.starts_with(&prefix).then(|| Entry {
                    key: Key::from_bytes(k).expect("stored keys are keys"),
                    blob: b,
                    value: v,
                })
            })
            .collect::<Vec<_>>()
            .into_iter()
    }
    /// The last entry of all.
    pub fn last(&self) -> Option<Entry<'_, V>> {
        let (k, (b, v)) = self.0.last_key_value()?;
        Some(Entry { key: Key::from_bytes(k)?, blob: b, value: v })
    }
}

/// Where a key is, or would be.
pub struct Place<'t, V> {
    tree: &'t Tree<V>,
    key: Key,
}

impl<'t, V: Clone> Place<'t, V> {
    /// The entry of exactly the key.
    pub fn exact(&self) -> Option<(&'t [u8], &'t V)> {
        self.tree.get(&self.key)
    }
    /// The last entry that is not after the key.
    pub fn at_or_before(&self) -> Option<Entry<'t, V>> {
        let (k, (b, v)) = self
            .tree
            .0
            .range::<[u8], _>((
                std::ops::Bound::Unbounded,
                std::ops::Bound::Included(self.key.as_bytes()),
            ))
            .next_back()?;
        Some(Entry { key: Key::from_bytes(k)?, blob: b, value: v })
    }
    /// The first entry after the key.
    pub fn after(&self) -> Option<Entry<'t, V>> {
        let mut range = self.tree.0.range::<[u8], _>((
            std::ops::Bound::Excluded(self.key.as_bytes()),
            std::ops::Bound::Unbounded,
        ));
        let (k, (b, v)) = range.next()?;
        Some(Entry { key: Key::from_bytes(k)?, blob: b, value: v })
    }
    /// How many octets of the key exist: as an entry or as the ancestor of one.
    pub fn encloser(&self) -> usize {
        let of = |e: Option<Entry<'t, V>>| {
            e.map_or(0, |e| common_labels(self.key.as_bytes(), e.key.as_bytes()))
        };
        of(self.at_or_before()).max(of(self.after()))
    }
}
