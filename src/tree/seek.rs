//! Searches: the place of a key among its neighbours, and ranges.

use super::inner::{Inner, NodeRef};
use super::key::{Padded, Sought};
use super::page::Page;
use super::{Entry, Tree};
use crate::name::{Key, NAME_MAX};

/// The way down to a page. Of the inner nodes on it, those with the nearest pages to the left and
/// to the right below another child are remembered, with that child.
struct Path<'t, V> {
    page: &'t Page<V>,
    left: Option<(&'t Inner<V>, usize)>,
    right: Option<(&'t Inner<V>, usize)>,
}

impl<'t, V> Path<'t, V> {
    #[inline(always)]
    fn to(mut node: NodeRef<'t, V>, sought: Sought<'_>) -> Option<Self> {
        let (mut left, mut right) = (None, None);
        loop {
            match node {
                NodeRef::Page(page) => return Some(Self { page, left, right }),
                NodeRef::Inner(inner) => {
                    let at = inner.slot(sought);
                    if at > 0 {
                        left = Some((inner, at - 1));
                    }
                    if at + 1 < inner.count() {
                        right = Some((inner, at + 1));
                    }
                    node = inner.child(at)?;
                    node.prefetch();
                }
            }
        }
    }

    fn page_before(&self) -> Option<&'t Page<V>> {
        let (inner, at) = self.left?;
        inner.child(at)?.edge(true)
    }

    fn page_after(&self) -> Option<&'t Page<V>> {
        let (inner, at) = self.right?;
        inner.child(at)?.edge(false)
    }
}

impl<V> Clone for Path<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Path<'_, V> {}

/// The way to the page where a key is, or would be, which is being loaded: the first half of a
/// look-up. Of several that are [begun](Tree::way) before the first is [ended](Way::place), the
/// cache misses, which cost more than all else, are waited for together.
pub struct Way<'t, V>(Option<Path<'t, V>>);

impl<'t, V> Way<'t, V> {
    /// The place of `key`, which must be the key that the way was begun for.
    #[inline(always)]
    pub fn place<'k>(&self, key: &'k Key) -> Place<'t, 'k, V> {
        let sought = Sought::from(key);
        let Some(path) = self.0 else { return Place { sought, path: None, at: 0, found: None } };
        let (at, found) = match path.page.search(sought) {
            Ok((at, blob)) => (at, Some(blob)),
            Err(at) => (at, None),
        };
        Place { sought, path: Some(path), at, found }
    }
}

impl<V> Clone for Way<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Way<'_, V> {}

/// Where a key is, or would be.
pub struct Place<'t, 'k, V> {
    sought: Sought<'k>,
    /// `None` in an empty tree.
    path: Option<Path<'t, V>>,
    /// Of the key's entry in the page, or of the first one behind its place.
    at: usize,
    /// The key's blob, if it has an entry.
    found: Option<&'t [u8]>,
}

impl<'t, V> Place<'t, '_, V> {
    /// Blob and value of exactly the key.
    #[inline(always)]
    pub fn exact(&self) -> Option<(&'t [u8], &'t V)> {
        self.found.zip(self.path.as_ref()?.page.value(self.at))
    }

    /// The last entry that is not after the key.
    #[inline(always)]
    pub fn at_or_before(&self) -> Option<Entry<'t, V>> {
        let (page, at) = self.preceding(self.behind())?;
        page.entry(at)
    }

    /// The value of the last entry that is not after the key, if it is an ancestor's or the key's
    /// own.
    #[inline(always)]
    pub fn at_or_above(&self) -> Option<&'t V> {
        let (page, at) = self.preceding(self.behind())?;
        page.if_at_or_above(at, self.sought)
    }

    /// The blob of the key's ancestor that has `len` octets, or of the key itself, which must have
    /// an entry. `None`: that is not among the few before this place in its page.
    #[inline(always)]
    pub fn ancestor(&self, len: usize) -> Option<&'t [u8]> {
        self.path.as_ref()?.page.last_of_len(len, self.behind())
    }

    /// The last entry before the key.
    pub fn before(&self) -> Option<Entry<'t, V>> {
        let (page, at) = self.preceding(self.at)?;
        page.entry(at)
    }

    /// The first entry after the key.
    pub fn after(&self) -> Option<Entry<'t, V>> {
        let path = self.path.as_ref()?;
        path.page.entry(self.behind()).or_else(|| path.page_after()?.entry(0))
    }

    /// The place in the page behind the key's entry, or where that would be.
    #[inline(always)]
    fn behind(&self) -> usize {
        self.at + usize::from(self.found.is_some())
    }

    /// The page and the place in it of the last entry before place `at` of the page.
    #[inline(always)]
    fn preceding(&self, at: usize) -> Option<(&'t Page<V>, usize)> {
        let path = self.path.as_ref()?;
        if let Some(at) = at.checked_sub(1) {
            return Some((path.page, at));
        }
        let page = path.page_before()?;
        Some((page, page.count().checked_sub(1)?))
    }
}

/// Entries in order, as [`Tree::range`] gives them.
pub struct Range<'t, V> {
    root: Option<NodeRef<'t, V>>,
    /// `None` at the end.
    page: Option<&'t Page<V>>,
    at: usize,
    prefix: Padded,
    prefix_len: usize,
}

impl<'t, V> Iterator for Range<'t, V> {
    type Item = Entry<'t, V>;

    fn next(&mut self) -> Option<Entry<'t, V>> {
        loop {
            let page = self.page?;
            if let Some(entry) = page.entry(self.at) {
                self.at += 1;
                if entry.key.starts_with(&self.prefix[..self.prefix_len]) {
                    return Some(entry);
                }
                self.page = None;
            } else {
                self.page = self.page_after(page);
                self.at = 0;
            }
        }
    }
}

impl<'t, V> Range<'t, V> {
    /// Finds it from above: a page knows no other, or a change would have to touch both.
    fn page_after(&self, page: &'t Page<V>) -> Option<&'t Page<V>> {
        let last = page.last()?;
        let mut key: Padded = [0; NAME_MAX + 8];
        last.key.copy_to(&mut key);
        Path::to(self.root?, Sought::new(&key, last.key.len()))?.page_after()
    }
}

impl<V> Tree<V> {
    /// One descent to the place of `key`.
    #[inline(always)]
    pub fn seek<'k>(&self, key: &'k Key) -> Place<'_, 'k, V> {
        self.way(key).place(key)
    }

    /// The first half of [`seek`](Self::seek), which ends before what takes longest is read.
    #[inline(always)]
    pub fn way(&self, key: &Key) -> Way<'_, V> {
        Way(self.root().and_then(|root| Path::to(root, Sought::from(key))))
    }

    /// As [`get`](Self::get), of a key that may well lie in the page of a place that was found
    /// already, and then costs no descent.
    pub fn get_near<'t>(
        &'t self,
        place: &Place<'t, '_, V>,
        key: &Key,
    ) -> Option<(&'t [u8], &'t V)> {
        if let Some(path) = place.path {
            match path.page.search(key.into()) {
                Ok((at, blob)) => return path.page.value(at).map(|value| (blob, value)),
                // Between two of the page's entries there are no others.
                Err(at) if at > 0 && at < path.page.count() => return None,
                Err(_) => {}
            }
        }
        self.get(key)
    }

    /// All entries in order.
    pub fn iter(&self) -> Range<'_, V> {
        self.range(&[])
    }

    /// The entries whose keys begin with `prefix`, in order.
    pub fn range<'t>(&'t self, prefix: &[u8]) -> Range<'t, V> {
        let mut padded: Padded = [0; NAME_MAX + 8];
        let mut range =
            Range { root: self.root(), page: None, at: 0, prefix: padded, prefix_len: 0 };
        if prefix.len() > Key::MAX {
            return range;
        }
        padded[..prefix.len()].copy_from_slice(prefix);
        let sought = Sought::new(&padded, prefix.len());
        range.page = self.root().and_then(|root| Path::to(root, sought)).map(|path| path.page);
        range.at =
            range.page.map_or(0, |page| page.search(sought).map_or_else(|at| at, |(at, _)| at));
        (range.prefix, range.prefix_len) = (padded, prefix.len());
        range
    }

    /// The entries whose keys are after `key`, in order.
    pub fn after(&self, key: &Key) -> Range<'_, V> {
        let sought = Sought::from(key);
        let page = self.root().and_then(|root| Path::to(root, sought)).map(|path| path.page);
        let at = page.map_or(0, |page| page.search(sought).map_or_else(|at| at, |(at, _)| at + 1));
        Range { root: self.root(), page, at, prefix: [0; NAME_MAX + 8], prefix_len: 0 }
    }

    /// The first entry of all.
    pub fn first(&self) -> Option<Entry<'_, V>> {
        self.root()?.edge(false)?.entry(0)
    }

    /// The last entry of all.
    pub fn last(&self) -> Option<Entry<'_, V>> {
        self.root()?.edge(true)?.last()
    }
}
