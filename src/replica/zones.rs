//! The zones that the scheduler looks after, each under a number, found by name.
//!
//! A zone keeps its number for as long as it is configured; that of one that is gone is given to
//! another. Names are not kept again to be found by: of a million zones that is a tenth.

use super::zone::Entry;
use crate::name::NameBuf;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::ops::{Index, IndexMut};

/// All zones.
pub(super) struct Zones {
    entries: Vec<Option<Entry>>,
    /// Numbers that no zone has any more.
    free: Vec<usize>,
    /// The numbers, by the hashes of the names.
    ids: HashTable<u32>,
    hasher: RandomState,
}

impl Zones {
    /// None, with room for so many.
    pub(super) fn with_capacity(zones: usize) -> Self {
        Self {
            entries: Vec::with_capacity(zones),
            free: Vec::new(),
            ids: HashTable::with_capacity(zones),
            hasher: RandomState::new(),
        }
    }

    /// The number of the zone with this apex.
    pub(super) fn id(&self, apex: &NameBuf) -> Option<usize> {
        let is_it = |&id: &u32| self.get(id as usize).is_some_and(|entry| entry.apex == *apex);
        self.ids.find(self.hasher.hash_one(apex), is_it).map(|&id| id as usize)
    }

    /// Adds a zone that is not there. Its number.
    pub(super) fn insert(&mut self, entry: Entry) -> usize {
        let hash = self.hasher.hash_one(&entry.apex);
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[id] = Some(entry);
        let hash_of = |&id: &u32| {
            let entry = self.entries[id as usize].as_ref().expect("it is found by its name");
            self.hasher.hash_one(&entry.apex)
        };
        let number = u32::try_from(id).expect("fewer than four billion zones");
        self.ids.insert_unique(hash, number, hash_of);
        id
    }

    /// Takes a zone out.
    pub(super) fn remove(&mut self, id: usize) -> Option<Entry> {
        let entry = self.entries.get_mut(id)?.take()?;
        let hash = self.hasher.hash_one(&entry.apex);
        if let Ok(found) = self.ids.find_entry(hash, |&it| it as usize == id) {
            found.remove();
        }
        self.free.push(id);
        Some(entry)
    }

    pub(super) fn get(&self, id: usize) -> Option<&Entry> {
        self.entries.get(id)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut Entry> {
        self.entries.get_mut(id)?.as_mut()
    }

    /// All, with their numbers, in the order of these.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(id, entry)| Some((id, entry.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Entry)> {
        let entries = self.entries.iter_mut().enumerate();
        entries.filter_map(|(id, entry)| Some((id, entry.as_mut()?)))
    }

    /// All numbers are below this.
    pub(super) fn end(&self) -> usize {
        self.entries.len()
    }
}

impl Index<usize> for Zones {
    type Output = Entry;

    fn index(&self, id: usize) -> &Entry {
        self.get(id).expect("ids are of zones that are there")
    }
}

impl IndexMut<usize> for Zones {
    fn index_mut(&mut self, id: usize) -> &mut Entry {
        self.get_mut(id).expect("ids are of zones that are there")
    }
}
