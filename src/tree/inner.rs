//! An inner node: up to [`FAN_OUT`] children and the separators between them.

use super::key::{Padded, Sought};
use super::page::{PAGE_MIN, Page};
use crate::name::NAME_MAX;
use crate::octets;
use std::cmp::Ordering;
use std::ops::Range;
use triomphe::{Arc, ThinArc};

/// The most children of a node. 16 and 64 were measured too: 16 copies 0.5 KB less an update and
/// costs a level on the way down, 64 the other way round.
pub(super) const FAN_OUT: usize = 32;
/// A node below this is joined with a sibling that has room.
pub(super) const FAN_MIN: usize = FAN_OUT / 4;
/// Octets of the common prefix that are kept in the node, a multiple of eight. With them, the node
/// and its reference count are within 640 bytes, a size class of the allocator.
const INLINE: usize = 64;

/// A child, owned.
#[derive(Clone)]
pub(super) enum Node<V> {
    Page(Page<V>),
    Inner(Arc<Inner<V>>),
}

/// A child, borrowed.
pub(super) enum NodeRef<'t, V> {
    Page(&'t Page<V>),
    Inner(&'t Inner<V>),
}

impl<V> Clone for NodeRef<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for NodeRef<'_, V> {}

impl<V> Node<V> {
    pub(super) fn borrow(&self) -> NodeRef<'_, V> {
        match self {
            Self::Page(page) => NodeRef::Page(page),
            Self::Inner(inner) => NodeRef::Inner(inner),
        }
    }
}

impl<'t, V> NodeRef<'t, V> {
    /// Where it is, without touching it.
    pub(super) fn address(self) -> usize {
        match self {
            Self::Page(page) => page.address(),
            Self::Inner(inner) => std::ptr::from_ref(inner).addr(),
        }
    }

    /// Starts loading what a search reads.
    pub(super) fn prefetch(self) {
        match self {
            Self::Page(page) => page.prefetch(),
            Self::Inner(inner) => {
                for line in 0..10 {
                    octets::prefetch(std::ptr::from_ref(inner).cast(), 64 * line);
                }
            }
        }
    }

    /// The first or the last page below.
    pub(super) fn edge(mut self, last: bool) -> Option<&'t Page<V>> {
        loop {
            match self {
                Self::Page(page) => return Some(page),
                Self::Inner(inner) => {
                    self = inner.child(if last { inner.count().checked_sub(1)? } else { 0 })?;
                }
            }
        }
    }
}

/// Children of one kind, as all pages are at one depth: with the kind told once, eight bytes each.
#[derive(Clone)]
enum Children<V> {
    Pages([Option<Page<V>>; FAN_OUT]),
    Inners([Option<Arc<Inner<V>>>; FAN_OUT]),
}

/// A node. Separator `i` is above everything in child `i`, and not above anything in `i + 1`.
///
/// In this order, so that what a search reads lies together.
#[repr(C)]
#[derive(Clone)]
pub(super) struct Inner<V> {
    /// How many children.
    count: u8,
    /// How many octets all separators share; may be more than are kept in `start`.
    prefix: u8,
    /// The first of them.
    start: [u8; INLINE],
    /// Of each separator the eight octets behind the prefix; all ones where there is none.
    words: [u64; FAN_OUT],
    /// Where each separator ends (2), and then the separators, whole: read when the words cannot
    /// decide. Shared by the copies of a node.
    separators: ThinArc<(), u8>,
    children: Children<V>,
}

/// What a node splits off when it overflows: a separator and the node right of it.
pub(super) type Split<V> = Option<(Vec<u8>, Arc<Inner<V>>)>;

impl<V> Inner<V> {
    /// How many children.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Child `at`, if there are that many.
    #[inline(always)]
    pub(super) fn child(&self, at: usize) -> Option<NodeRef<'_, V>> {
        match &self.children {
            Children::Pages(pages) => pages.get(at)?.as_ref().map(NodeRef::Page),
            Children::Inners(inners) => inners.get(at)?.as_ref().map(|node| NodeRef::Inner(node)),
        }
    }

    /// Bytes held by the node alone.
    pub(super) fn size(&self) -> usize {
        size_of::<usize>() + size_of::<Self>() + 16 + self.separators.slice.len()
    }

    /// Separator `at`.
    pub(super) fn separator(&self, at: usize) -> &[u8] {
        let (ends, _) = self.separators.slice.as_chunks();
        let end = |at: usize| usize::from(u16::from_le_bytes(ends[at]));
        let start = if at == 0 { 2 * (self.count() - 1) } else { end(at - 1) };
        &self.separators.slice[start..end(at)]
    }

    /// Under which child `sought` is, or would be.
    #[inline(always)]
    pub(super) fn slot(&self, sought: Sought<'_>) -> usize {
        let separators = self.count().saturating_sub(1);
        let prefix = usize::from(self.prefix);
        let order = if prefix <= INLINE {
            sought.compare_start(&self.start, prefix)
        } else {
            sought.first(prefix).cmp(&self.separator(0)[..prefix])
        };
        match order {
            Ordering::Less => return 0,
            Ordering::Greater => return separators,
            Ordering::Equal => {}
        }
        let mine = sought.words(prefix);
        let low = below(&self.words, mine);
        if self.words[low] == mine { self.slot_among_equals(sought, low, mine) } else { low }
    }

    /// As [`slot`](Self::slot), if the words, of which `low` are below that of `sought`, cannot
    /// decide.
    #[cold]
    fn slot_among_equals(&self, sought: Sought<'_>, mut low: usize, mine: u64) -> usize {
        let words = &self.words[..self.count().saturating_sub(1)];
        let mut high = low + words[low..].iter().take_while(|&&word| word == mine).count();
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.separator(middle) <= sought.as_bytes() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// How many of the words, which ascend, are below this one: at most all but the last. Two rounds
/// of comparisons that do not wait for each other, where halving has five that do.
#[inline(always)]
fn below(words: &[u64; FAN_OUT], mine: u64) -> usize {
    const ROUND: usize = 8;
    let (rounds, _) = words.as_chunks::<ROUND>();
    let last = rounds.len() - 1;
    let whole: usize =
        rounds[..last].iter().map(|round| usize::from(round[ROUND - 1] < mine)).sum();
    let within: usize = rounds[whole.min(last)].iter().map(|&word| usize::from(word < mine)).sum();
    (ROUND * whole + within).min(FAN_OUT - 1)
}

impl<V: Clone> Inner<V> {
    /// The node of these children, [`FAN_OUT`] at the most, with the separators between them.
    pub(super) fn pack<S: AsRef<[u8]>>(separators: &[S], children: Vec<Node<V>>) -> Self {
        debug_assert!(children.len() <= FAN_OUT && separators.len() + 1 >= children.len());
        let first = separators.first().map_or(&[][..], AsRef::as_ref);
        let prefix = separators.last().map_or(0, |last| octets::common(first, last.as_ref()));
        let mut start = [0; INLINE];
        let inline = prefix.min(INLINE);
        start[..inline].copy_from_slice(&first[..inline]);
        let mut words = [u64::MAX; FAN_OUT];
        let mut block = vec![0; 2 * separators.len()];
        for (at, separator) in separators.iter().enumerate() {
            let separator = separator.as_ref();
            let mut padded: Padded = [0; NAME_MAX + 8];
            padded[..separator.len()].copy_from_slice(separator);
            words[at] = Sought::new(&padded, separator.len()).words(prefix);
            block.extend_from_slice(separator);
            let end = u16::try_from(block.len()).expect("31 separators of 254 octets");
            block[2 * at..2 * at + 2].copy_from_slice(&end.to_le_bytes());
        }
        Self {
            count: u8::try_from(children.len()).expect("at most the fan-out"),
            prefix: u8::try_from(prefix).expect("a separator has 254 octets at most"),
            start,
            words,
            separators: ThinArc::from_header_and_slice((), &block),
            children: Children::new(children),
        }
    }

    /// Children that may be too many for one node, as one node or two.
    pub(super) fn pack_all(separators: &[&[u8]], mut left: Vec<Node<V>>) -> (Self, Split<V>) {
        if left.len() <= FAN_OUT {
            return (Self::pack(separators, left), None);
        }
        let right = left.split_off(left.len() / 2);
        let part = left.len() - 1;
        let node = Self::pack(&separators[..part], left);
        let split = Arc::new(Self::pack(&separators[part + 1..], right));
        (node, Some((separators[part].to_vec(), split)))
    }

    /// Puts an entry in, or takes it out (`new` is `None`). Afterwards the node may have split,
    /// be small, or have no children.
    pub(super) fn edit(
        &mut self,
        sought: Sought<'_>,
        new: Option<super::Entry<'_, V>>,
    ) -> Split<V> {
        let at = self.slot(sought);
        match &mut self.children {
            Children::Pages(pages) => {
                let pages = pages[at].as_ref().expect("a child").edit(sought, new);
                self.settle_pages(at, pages)
            }
            Children::Inners(inners) => {
                let node = Arc::make_mut(inners[at].as_mut().expect("a child"));
                let split = node.edit(sought, new);
                self.settle_inner(at, split)
            }
        }
    }

    /// Puts `pages` where page `at` was; one that is small is joined with a neighbour.
    fn settle_pages(&mut self, at: usize, mut pages: Vec<Page<V>>) -> Split<V> {
        if pages.len() == 1
            && let Some(page) = pages.pop()
            && let Children::Pages(siblings) = &mut self.children
        {
            let small = page.size() < PAGE_MIN;
            siblings[at] = Some(page);
            return if small { self.join_page(at) } else { None };
        }
        let separators: Vec<_> = pages.windows(2).map(|pair| pair[0].separator(&pair[1])).collect();
        let pages = pages.into_iter().map(Node::Page).collect();
        self.replace(at..at + 1, pages, &separators)
    }

    fn join_page(&mut self, at: usize) -> Split<V> {
        for left in [at.checked_sub(1), Some(at)].into_iter().flatten() {
            if let (Some(low), Some(high)) = (self.page(left), self.page(left + 1))
                && let Some(both) = low.join(high)
            {
                return self.replace(left..left + 2, vec![Node::Page(both)], &[]);
            }
        }
        None
    }

    fn page(&self, at: usize) -> Option<&Page<V>> {
        match self.child(at)? {
            NodeRef::Page(page) => Some(page),
            NodeRef::Inner(_) => None,
        }
    }

    fn inner(&self, at: usize) -> Option<&Self> {
        match self.child(at)? {
            NodeRef::Page(_) => None,
            NodeRef::Inner(inner) => Some(inner),
        }
    }

    /// Takes in what child `at` split off; a child that is small is joined with a neighbour, one
    /// without children goes.
    fn settle_inner(&mut self, at: usize, split: Split<V>) -> Split<V> {
        if let Some((separator, right)) = split {
            let both = vec![self.owned(at), Node::Inner(right)];
            return self.replace(at..at + 1, both, &[separator]);
        }
        let count = self.inner(at).map_or(0, Self::count);
        if count == 0 {
            return self.replace(at..at + 1, Vec::new(), &[]);
        }
        if count >= FAN_MIN {
            return None;
        }
        for left in [at.checked_sub(1), Some(at)].into_iter().flatten() {
            if let (Some(low), Some(high)) = (self.inner(left), self.inner(left + 1))
                && low.count() + high.count() <= FAN_OUT
            {
                let both = low.join(self.separator(left), high);
                return self.replace(left..left + 2, vec![Node::Inner(Arc::new(both))], &[]);
            }
        }
        None
    }

    fn join(&self, separator: &[u8], right: &Self) -> Self {
        let mut separators = self.all_separators();
        separators.push(separator);
        separators.extend(right.all_separators());
        let children = self.all_children().chain(right.all_children()).collect();
        Self::pack(&separators, children)
    }

    fn all_separators(&self) -> Vec<&[u8]> {
        (1..self.count()).map(|at| self.separator(at - 1)).collect()
    }

    fn all_children(&self) -> impl Iterator<Item = Node<V>> {
        (0..self.count()).map(|at| self.owned(at))
    }

    /// Child `at`, as one more owner of it.
    pub(super) fn owned(&self, at: usize) -> Node<V> {
        match &self.children {
            Children::Pages(pages) => Node::Page(pages[at].clone().expect("a child")),
            Children::Inners(inners) => Node::Inner(inners[at].clone().expect("a child")),
        }
    }

    /// Puts `new`, with the separators between them, where the children `at` were.
    fn replace(&mut self, at: Range<usize>, new: Vec<Node<V>>, between: &[Vec<u8>]) -> Split<V> {
        let mut separators = self.all_separators();
        // Without children there, one of the separators beside them goes too.
        let from = if new.is_empty() { at.start.saturating_sub(1) } else { at.start };
        let to = if from < at.start { at.end - 1 } else { at.end - usize::from(!new.is_empty()) };
        let to = to.min(separators.len());
        separators.splice(from..to, between.iter().map(Vec::as_slice));
        let mut children: Vec<_> = self.all_children().collect();
        children.splice(at, new);
        let (node, split) = Self::pack_all(&separators, children);
        *self = node;
        split
    }
}

impl<V> Children<V> {
    fn new(children: Vec<Node<V>>) -> Self {
        let pages = !matches!(children.first(), Some(Node::Inner(_)));
        let mut children = children.into_iter();
        if pages {
            Self::Pages(std::array::from_fn(|_| match children.next() {
                Some(Node::Page(page)) => Some(page),
                _ => None,
            }))
        } else {
            Self::Inners(std::array::from_fn(|_| match children.next() {
                Some(Node::Inner(inner)) => Some(inner),
                _ => None,
            }))
        }
    }
}

const _: () = assert!(INLINE.is_multiple_of(8));
