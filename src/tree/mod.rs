//! A persistent ordered map from [`Key`] to bytes, and to a value beside them.
//!
//! **How it fits.** A zone keeps its names in one (an owner's records are the bytes), the view
//! its zones (the zone is the value, the bytes are empty). It knows keys, not DNS. A copy of the
//! whole is one reference count; a change copies one path, so old versions stay as they were and
//! share the rest. A B+tree: inner nodes of 32 children above pages of about 1 KB, in
//! which keys and bytes lie inline: few serial cache misses, and neighbours in the same page.
//!
//! **Invariants.**
//! - *order*: keys ascend strictly. An ancestor's key is a prefix of its descendants' keys, so
//!   a subtree is contiguous and follows its top.
//! - *parted*: a separator is above everything in the child before it and not above anything in
//!   the child behind it. A node stands alone: no search relies on bounds given by its parent,
//!   so taking a neighbour away makes nothing wrong.
//! - *level*: all pages are at the same depth; no node and no page is empty.
//! - *page size*: a page of several entries has at most `PAGE_MAX` bytes; a blob that is larger
//!   has a page of its own. Places in a page have 16 bits and rely on this.
//! - *prefix*: the prefix of a page is shared by all its keys; it may be shorter than it could
//!   be (after a removal), never longer.
//! - *fixed*: pages are never changed. Inner nodes are changed only through `Arc::make_mut`:
//!   in place if no other version holds them.
//!
//! **Sections.** RFC 4034 section 6.1 (order of names).
//!
//! It does not index by anything but the order, store empty non-terminals (a name's neighbours
//! show which of its ancestors exist), or lock: a tree is changed by its one owner. Readers
//! borrow from the version they hold and never touch a reference count.

mod inner;
mod key;
mod page;
mod seek;

#[cfg(test)]
mod tests;

pub use key::EntryKey;
pub use seek::{Place, Range, Way};

use crate::name::Key;
use crate::octets;
use inner::{FAN_OUT, Inner, Node, NodeRef};
use key::Sought;
use page::{PAGE_FILL, Page, entry_size};
use std::collections::HashSet;
use triomphe::Arc;

/// How many children bulk loading gives a node: some room for the first splits.
const FAN_FILL: usize = FAN_OUT - FAN_OUT / 8;

/// A persistent ordered map from [`Key`] to bytes (the blob) and a small value.
#[derive(Clone)]
pub struct Tree<V = ()> {
    root: Option<Node<V>>,
    len: usize,
}

/// One entry.
pub struct Entry<'t, V> {
    /// The key.
    pub key: EntryKey<'t>,
    /// The bytes kept in the page.
    pub blob: &'t [u8],
    /// The value beside the page.
    pub value: &'t V,
}

impl<V> Clone for Entry<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Entry<'_, V> {}

/// What a tree consists of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Nodes {
    /// Inner nodes.
    pub inner: usize,
    /// Pages.
    pub pages: usize,
    /// Bytes asked of the allocator for both; not what the values point to.
    pub bytes: usize,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<V> Tree<V> {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Blob and value of exactly this key.
    pub fn get(&self, key: &Key) -> Option<(&[u8], &V)> {
        let sought = Sought::from(key);
        let mut node = self.root()?;
        loop {
            match node {
                NodeRef::Page(page) => {
                    let (at, blob) = page.search(sought).ok()?;
                    return Some((blob, page.value(at)?));
                }
                NodeRef::Inner(inner) => node = inner.child(inner.slot(sought))?,
            }
            node.prefetch();
        }
    }

    /// The bytes that the tree holds, shared with other versions or not. Visits every page.
    pub fn bytes(&self) -> usize {
        self.nodes_but(|_| false).bytes
    }

    /// What this tree holds that `other` does not: what a change from one to the other has cost.
    /// Visits every page of `other`.
    pub fn not_shared_with(&self, other: &Self) -> Nodes {
        let mut theirs = HashSet::new();
        other.nodes_but(|node| {
            theirs.insert(node);
            false
        });
        self.nodes_but(|node| theirs.contains(&node))
    }

    /// Counts nodes, but none that `known` holds to be known, nor what is below.
    fn nodes_but(&self, mut known: impl FnMut(usize) -> bool) -> Nodes {
        let mut nodes = Nodes::default();
        let mut waiting: Vec<_> = self.root().into_iter().collect();
        while let Some(node) = waiting.pop() {
            if known(node.address()) {
                continue;
            }
            match node {
                NodeRef::Page(page) => {
                    nodes.pages += 1;
                    nodes.bytes += page::OVERHEAD + page.size() + page.count() * size_of::<V>();
                }
                NodeRef::Inner(inner) => {
                    nodes.inner += 1;
                    nodes.bytes += inner.size();
                    waiting.extend((0..inner.count()).filter_map(|at| inner.child(at)));
                }
            }
        }
        nodes
    }

    fn root(&self) -> Option<NodeRef<'_, V>> {
        self.root.as_ref().map(Node::borrow)
    }
}

impl<V: Clone> Tree<V> {
    /// The tree of these entries, made bottom-up by a [`Draft`].
    ///
    /// # Panics
    ///
    /// If keys do not ascend strictly, or one has more than [`Key::MAX`] octets.
    pub fn build<K: AsRef<[u8]>, B: AsRef<[u8]>>(
        sorted: impl IntoIterator<Item = (K, B, V)>,
    ) -> Self {
        let mut draft = Draft::default();
        for (key, blob, value) in sorted {
            draft.push(key.as_ref(), blob.as_ref(), value);
        }
        draft.finish()
    }

    /// Puts an entry in, or another blob and value to its key. In place where this tree alone
    /// holds the nodes.
    pub fn insert(&mut self, key: &Key, blob: &[u8], value: V) {
        self.len += usize::from(self.get(key).is_none());
        let entry = Entry { key: EntryKey::whole(key.as_bytes()), blob, value: &value };
        self.edit(key.into(), Some(entry));
    }

    /// Takes an entry out. Was it there?
    pub fn remove(&mut self, key: &Key) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        self.len -= 1;
        self.edit(key.into(), None);
        true
    }

    fn edit(&mut self, sought: Sought<'_>, new: Option<Entry<'_, V>>) {
        let mut pages = Vec::new();
        match &mut self.root {
            Some(Node::Inner(node)) => {
                let split = Arc::make_mut(node).edit(sought, new);
                return self.settle_root(split);
            }
            Some(Node::Page(page)) => pages = page.edit(sought, new),
            None => Page::paginate(new.as_slice(), &mut pages),
        }
        self.root = pile(pages);
    }

    /// A root that split gets a node above it; one with a single child gives way to that.
    fn settle_root(&mut self, split: inner::Split<V>) {
        if let Some((separator, right)) = split
            && let Some(left) = self.root.take()
        {
            let root = Inner::pack(&[separator], vec![left, Node::Inner(right)]);
            self.root = Some(Node::Inner(Arc::new(root)));
        }
        while let Some(Node::Inner(node)) = &self.root {
            match node.count() {
                0 => self.root = None,
                1 => self.root = Some(node.owned(0)),
                _ => break,
            }
        }
    }
}

/// The nodes above `pages`, level by level.
fn pile<V: Clone>(pages: Vec<Page<V>>) -> Option<Node<V>> {
    let mut separators: Vec<_> = pages.windows(2).map(|pair| pair[0].separator(&pair[1])).collect();
    let mut nodes: Vec<_> = pages.into_iter().map(Node::Page).collect();
    while nodes.len() > 1 {
        let total = nodes.len();
        let groups = total.div_ceil(FAN_FILL);
        let mut below = nodes.into_iter();
        let mut between = Vec::with_capacity(groups);
        let mut taken = 0;
        nodes = Vec::with_capacity(groups);
        for group in 1..=groups {
            let end = total * group / groups;
            let children = below.by_ref().take(end - taken).collect();
            let node = Inner::pack(&separators[taken..end - 1], children);
            nodes.push(Node::Inner(Arc::new(node)));
            if end < total {
                between.push(std::mem::take(&mut separators[end - 1]));
            }
            taken = end;
        }
        separators = between;
    }
    nodes.pop()
}

/// A tree being loaded in the order of its keys, bottom-up: a tenth of the time of inserting them.
/// It holds finished pages, and the entries of the next one.
pub struct Draft<V = ()> {
    pages: Vec<Page<V>>,
    /// Entries, those of finished pages included.
    len: usize,
    /// Keys and blobs, one behind the other.
    bytes: Vec<u8>,
    /// Where each entry's key ends, and its blob.
    ends: Vec<(usize, usize)>,
    values: Vec<V>,
    /// Octets that all the keys share.
    shared: usize,
    /// What the page would have, without its prefix.
    size: usize,
}

impl<V> Default for Draft<V> {
    fn default() -> Self {
        let (pages, bytes, ends, values) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { pages, len: 0, bytes, ends, values, shared: 0, size: 0 }
    }
}

impl<V: Clone> Draft<V> {
    /// Puts the next entry in.
    ///
    /// # Panics
    ///
    /// If its key is not behind that of the last one, or has more than [`Key::MAX`] octets.
    pub fn push(&mut self, key: &[u8], blob: &[u8], value: V) {
        debug_assert!(Key::from_bytes(key).is_some(), "not the octets of a key");
        if let Some(&(first, _)) = self.ends.first() {
            let last = self.ends.len() - 1;
            assert!(self.key(last) < key, "keys must ascend strictly");
            let shared = self.shared.min(octets::common(&self.bytes[..first], key));
            if shared < self.shared {
                self.share(shared);
            }
            let size = entry_size(key.len(), blob.len(), shared);
            if shared + self.size + size > PAGE_FILL {
                self.turn();
            }
        }
        if self.ends.is_empty() {
            self.shared = key.len();
        }
        self.len += 1;
        self.size += entry_size(key.len(), blob.len(), self.shared);
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(blob);
        self.ends.push((key_end, self.bytes.len()));
        self.values.push(value);
    }

    /// Where entry `at` begins.
    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before].1)
    }

    fn key(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at].0]
    }

    /// The keys turn out to share less.
    fn share(&mut self, shared: usize) {
        self.shared = shared;
        let size = |(at, &(key, blob)): (usize, &(usize, usize))| {
            entry_size(key - self.start(at), blob - key, shared)
        };
        self.size = self.ends.iter().enumerate().map(size).sum();
    }

    /// Puts all entries of `next` behind those that are here.
    ///
    /// # Panics
    ///
    /// If its first key is not behind the last one here.
    pub fn append(&mut self, mut next: Self) {
        self.turn();
        next.turn();
        if let (Some(last), Some(first)) = (self.pages.last(), next.pages.first()) {
            let ends = last.last().zip(first.entry(0));
            let (last, first) = ends.expect("a page has entries");
            assert!(last.key.to_key().as_bytes() < first.key.to_key().as_bytes(), "not in order");
        }
        self.pages.append(&mut next.pages);
        self.len += next.len;
    }

    /// How many pages are finished: nothing changes in them any more.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The entries of one of them.
    pub fn page(&self, at: usize) -> impl Iterator<Item = Entry<'_, V>> {
        let page = &self.pages[at];
        (0..page.count()).filter_map(|at| page.entry(at))
    }

    /// The tree of what was put in.
    pub fn finish(mut self) -> Tree<V> {
        self.turn();
        Tree { root: pile(self.pages), len: self.len }
    }

    /// Finishes the page, if it has entries.
    fn turn(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        let entry = |((at, &(key, blob)), value)| Entry {
            key: EntryKey::whole(&self.bytes[self.start(at)..key]),
            blob: &self.bytes[key..blob],
            value,
        };
        let ends = self.ends.iter().enumerate();
        let entries: Vec<_> = ends.zip(&self.values).map(entry).collect();
        self.pages.push(Page::pack(&entries));
        self.bytes.clear();
        self.ends.clear();
        self.values.clear();
        self.size = 0;
    }
}
