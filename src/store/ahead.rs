//! What comes of a zone, written while the rest is still on its way.
//!
//! **How it fits.** Who receives a zone pushes entries as they become final; the keeper writes them
//! to a base that nothing refers to. [`Store::replace_ahead`](super::Store::replace_ahead) goes on
//! behind the last of them and makes it the zone's; until then it changes nothing.
//!
//! **Invariants.**
//! - *doomed until it is a base*: see `stage`. After a crash, after a failed transfer, and where it
//!   turns out that an entry was not final, what was written is deleted like any other.
//! - *no gap*: pieces are numbered. One that is lost, as its transaction failed, ends it, and the
//!   zone is written as a whole. They have transactions of their own: nothing else fails with them.
//! - *bounded*: little is on its way to the keeper. Who pushes asks for room, and loses nothing by
//!   going without: what was not pushed is written in the end.

use super::format::encode_entry;
use super::keeper::{Keeper, Outcome};
use super::request::Request;
use super::stage::Base;
use super::tables::Tables;
use crossbeam::channel::Sender;
use heed::RwTxn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Octets that are handed to the keeper at once.
const PIECE: usize = 512 * 1024;
/// Octets of an entry, as a rule at most.
const ENTRY_MOST: usize = 4096;
/// Octets that may be on their way to it.
const ON_THE_WAY_MAX: usize = 4 * 1024 * 1024;

/// A base that is written before its zone is known as a whole; dropped, it is deleted.
pub struct Ahead {
    /// Not one that keeps the store open.
    requests: Weak<Sender<Request>>,
    number: u64,
    /// How many were sent.
    pieces: u32,
    octets: Vec<u8>,
    last: Vec<u8>,
    on_the_way: Arc<AtomicUsize>,
}

/// Entries that follow each other.
pub(super) struct Piece {
    /// Whose, and the how manieth.
    number: u64,
    count: u32,
    octets: Vec<u8>,
    /// The key of the last one.
    last: Vec<u8>,
    on_the_way: Arc<AtomicUsize>,
}

impl Piece {
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.on_the_way.fetch_sub(self.octets.len(), Ordering::Relaxed);
    }
}

/// What became of the pieces so far.
pub(super) struct Begun {
    pub(super) number: u64,
    pieces: u32,
    pub(super) base: Base,
}

impl Ahead {
    pub(super) fn new(requests: Weak<Sender<Request>>, number: u64) -> Self {
        let (octets, last) = (Vec::new(), Vec::new());
        Self { requests, number, pieces: 0, octets, last, on_the_way: Arc::default() }
    }

    /// Is there room for some more?
    pub fn has_room(&self) -> bool {
        self.on_the_way.load(Ordering::Relaxed) < ON_THE_WAY_MAX
    }

    /// Adds the next entry that the zone's snapshot will have: from its first one on, none left out.
    pub fn push(&mut self, key: &[u8], blob: &[u8]) {
        if self.octets.is_empty() {
            // Grown bit by bit it would take twice as much.
            self.octets.reserve(PIECE + ENTRY_MOST);
        }
        encode_entry(key, blob, &mut self.octets);
        self.last.clear();
        self.last.extend_from_slice(key);
        if self.octets.len() >= PIECE {
            self.send();
        }
    }

    /// Hands over what was pushed so far.
    pub fn send(&mut self) {
        let Some(requests) = self.requests.upgrade().filter(|_| !self.octets.is_empty()) else {
            return;
        };
        let octets = std::mem::take(&mut self.octets);
        self.on_the_way.fetch_add(octets.len(), Ordering::Relaxed);
        let (number, count, last) = (self.number, self.pieces, self.last.clone());
        let on_the_way = Arc::clone(&self.on_the_way);
        let piece = Piece { number, count, octets, last, on_the_way };
        // One that does not arrive leaves a gap, which is noticed.
        requests.send(Request::Piece(piece)).ok();
        self.pieces += 1;
    }

    /// As if a piece had been lost on its way.
    #[cfg(test)]
    pub(super) fn skip_one(&mut self) {
        self.pieces += 1;
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if self.pieces > 0
            && let Some(requests) = self.requests.upgrade()
        {
            requests.send(Request::Abandon { number: self.number }).ok();
        }
    }
}

impl Keeper {
    /// Writes a piece, if it follows those before it.
    pub(super) fn write_piece(
        &mut self,
        tables: Tables<'_>,
        txn: &mut RwTxn<'_>,
        piece: &Piece,
        outcome: &mut Outcome,
    ) -> heed::Result<()> {
        let begun = self.take_begun(piece.number, outcome);
        let mut begun = match begun {
            Some(begun) => begun,
            None if piece.count == 0 => {
                Begun { number: piece.number, pieces: 0, base: Base::new(self.new_id()) }
            }
            None => return Ok(()),
        };
        if begun.pieces != piece.count {
            give_up(&begun, outcome);
            return Ok(());
        }
        begun.pieces += 1;
        let written = begun.base.extend(tables, txn, &piece.octets, &piece.last);
        outcome.begun_ahead.push(begun);
        written
    }

    /// The base whose pieces were sent, if all of them were written.
    pub(super) fn take_ahead(&mut self, mut sent: Ahead, outcome: &mut Outcome) -> Option<Base> {
        let begun = self.take_begun(sent.number, outcome)?;
        let pieces = std::mem::take(&mut sent.pieces);
        if begun.pieces != pieces {
            give_up(&begun, outcome);
            return None;
        }
        Some(begun.base)
    }

    pub(super) fn abandon_ahead(&mut self, number: u64, outcome: &mut Outcome) {
        if let Some(begun) = self.take_begun(number, outcome) {
            give_up(&begun, outcome);
        }
    }

    fn take_begun(&mut self, number: u64, outcome: &mut Outcome) -> Option<Begun> {
        let is_it = |begun: &Begun| begun.number == number;
        if let Some(at) = outcome.begun_ahead.iter().position(is_it) {
            return Some(outcome.begun_ahead.swap_remove(at));
        }
        let at = self.begun_ahead.iter().position(is_it)?;
        Some(self.begun_ahead.swap_remove(at))
    }
}

/// It is entered among what is to be deleted: that can begin, whatever becomes of the transaction.
fn give_up(begun: &Begun, outcome: &mut Outcome) {
    outcome.doomed.push(begun.base.id);
    outcome.begun.push(begun.base.id);
}
