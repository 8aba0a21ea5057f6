//! How a zone came to be what it is: the diffs that lead to the version served, with when and how
//! each came. They are sent on as IXFR, told by `backstop history`, and undone by a rollback.

use crate::clock::now_s;
use crate::wire::Serial;
use crate::zone::Diff;
use std::sync::Arc;

/// When and how a version came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Seconds since 1970, by the wall clock.
    pub at_s: u64,
    /// "AXFR", "IXFR", "file", "rollback", or "approved".
    pub kind: &'static str,
    /// Was it ever served, or only on the way to a newer one that came with it?
    pub served: bool,
}

/// What a rollback is noted as.
pub(super) const ROLLBACK: &str = "rollback";
/// What a version is noted as that the operator wanted in spite of a check.
pub(super) const APPROVED: &str = "approved";
/// The kinds by the octet that they are kept as.
const KINDS: [&str; 5] = ["AXFR", "IXFR", "file", ROLLBACK, APPROVED];
/// The bit of that octet which says that the version was never served.
const SKIPPED: u8 = 0x80;

impl Note {
    /// A version that comes now.
    pub(super) fn now(kind: &'static str) -> Self {
        Self { at_s: now_s(), kind, served: true }
    }

    /// For the store: this note, and the diff.
    pub(super) fn encode(self, diff: &Diff) -> Vec<u8> {
        let kind = KINDS.iter().position(|&kind| kind == self.kind).expect("all are listed");
        let mut out = self.at_s.to_be_bytes().to_vec();
        let skipped = if self.served { 0 } else { SKIPPED };
        out.push(u8::try_from(kind).expect("there are few") | skipped);
        out.extend_from_slice(&diff.encode());
        out
    }

    /// What [`encode`](Self::encode) made.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, Diff)> {
        let (at_s, rest) = bytes.split_first_chunk()?;
        let (&kind, rest) = rest.split_first()?;
        let served = kind & SKIPPED == 0;
        let kind = KINDS.get(usize::from(kind & !SKIPPED))?;
        Some((Self { at_s: u64::from_be_bytes(*at_s), kind, served }, Diff::decode(rest)?))
    }
}

/// The diffs held of a zone, the newest last, each leading on from the one before it.
#[derive(Clone, Default)]
pub(super) struct History {
    diffs: Arc<[Arc<Diff>]>,
    /// As many.
    notes: Vec<Note>,
}

impl History {
    /// The diffs, for those who transfer from us.
    pub(super) fn diffs(&self) -> &Arc<[Arc<Diff>]> {
        &self.diffs
    }

    /// Each diff with its note, the newest last.
    pub(super) fn steps(&self) -> impl DoubleEndedIterator<Item = (&Arc<Diff>, Note)> {
        self.diffs.iter().zip(self.notes.iter().copied())
    }

    /// Which diff leads on from the version `serial`.
    pub(super) fn after(&self, serial: Serial) -> Option<usize> {
        self.diffs.iter().rposition(|diff| diff.from == serial)
    }

    /// Which diff leads on from the version that was served before the newest one.
    pub(super) fn after_last_served(&self) -> Option<usize> {
        let newest = self.diffs.len().checked_sub(1)?;
        // Each note is of the version that its diff leads to; the oldest version has none.
        (0..=newest).rev().find(|&at| at == 0 || self.notes[at - 1].served)
    }

    /// Adds what came. A rollback adds nothing: it ends at the version that it went back to.
    pub(super) fn extend(&mut self, steps: impl IntoIterator<Item = (Arc<Diff>, Note)>) {
        let mut diffs = self.diffs.to_vec();
        for (diff, note) in steps {
            if note.kind == ROLLBACK {
                let keep = diffs.iter().rposition(|before| before.from == diff.to).unwrap_or(0);
                diffs.truncate(keep);
                self.notes.truncate(keep);
            } else {
                diffs.push(diff);
                self.notes.push(note);
            }
        }
        self.diffs = diffs.into();
    }

    /// Keeps at most `versions` diffs, and as many as have `octets` together. The newest one stays
    /// whatever its size: who wants to go back most often wants to undo that.
    pub(super) fn trim(&mut self, versions: usize, octets: usize) {
        let (mut sum, mut keep) = (0_usize, 0);
        for diff in self.diffs.iter().rev().take(versions) {
            sum = sum.saturating_add(diff.octets());
            if sum > octets && keep > 0 {
                break;
            }
            keep += 1;
        }
        let drop = self.diffs.len() - keep;
        if drop > 0 {
            self.diffs = self.diffs[drop..].into();
            self.notes.drain(..drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::wire::Rtype;
    use crate::zone::{Record, Records};

    fn diff(from: u32, to: u32, octets: usize) -> Arc<Diff> {
        let mut added = Records::default();
        let data = vec![7; octets];
        added.push(Name::ROOT, Record { rtype: Rtype(65280), ttl: 1, data: &data });
        let removed = Records::default();
        Arc::new(Diff { from: Serial(from), to: Serial(to), removed, added })
    }

    fn history(steps: &[(u32, u32, &'static str)]) -> History {
        let mut history = History::default();
        let steps = steps.iter().map(|&(from, to, kind)| (diff(from, to, 100), Note::now(kind)));
        history.extend(steps);
        history
    }

    fn serials(history: &History) -> Vec<(u32, u32)> {
        let serials: Vec<_> = history.steps().map(|(diff, _)| (diff.from.0, diff.to.0)).collect();
        assert_eq!(serials.len(), history.diffs().len());
        serials
    }

    #[test]
    fn a_diff_and_its_note_come_back_from_the_store() {
        for kind in KINDS {
            let note = Note { at_s: 1 << 40, kind, served: kind != "IXFR" };
            let bytes = note.encode(&diff(1, 2, 10));
            assert!(Note::decode(&bytes) == Some((note, (*diff(1, 2, 10)).clone())));
            for len in 0..9 + 12 {
                assert!(Note::decode(&bytes[..len]).is_none(), "{len}");
            }
        }
        let mut unknown = Note::now("AXFR").encode(&diff(1, 2, 10));
        unknown[8] = 99;
        assert!(Note::decode(&unknown).is_none());
    }

    #[test]
    fn a_rollback_takes_back_what_led_on_from_where_it_went() {
        let steps = [(1, 2, "IXFR"), (2, 3, "IXFR"), (3, 5, "AXFR"), (5, 2, ROLLBACK)];
        let mut zone = history(&steps);
        assert_eq!(serials(&zone), [(1, 2)]);
        zone.extend([(diff(2, 6, 1), Note::now("IXFR"))]);
        assert_eq!(serials(&zone), [(1, 2), (2, 6)]);
        assert_eq!((zone.after(Serial(2)), zone.after(Serial(3))), (Some(1), None));
        assert!(serials(&history(&[(1, 2, "IXFR"), (2, 9, ROLLBACK)])).is_empty(), "who knows");
    }

    #[test]
    fn the_version_served_before_is_not_one_that_only_led_to_another() {
        let mut zone = history(&[(1, 2, "IXFR")]);
        assert_eq!(
            (zone.after_last_served(), History::default().after_last_served()),
            (Some(0), None)
        );
        let step = |to: u32, served| (diff(to - 1, to, 1), Note { served, ..Note::now("IXFR") });
        zone.extend([step(3, false), step(4, false), step(5, true)]);
        assert_eq!(zone.after_last_served(), Some(1), "back to 2");
        zone.extend([step(6, true)]);
        assert_eq!(zone.after_last_served(), Some(4), "back to 5");
        zone.trim(2, usize::MAX);
        assert_eq!(zone.after_last_served(), Some(1));
    }

    #[test]
    fn a_history_is_bounded_in_versions_and_octets_but_for_the_newest() {
        let steps: Vec<_> = (1..=10).map(|serial| (serial, serial + 1, "IXFR")).collect();
        let mut zone = history(&steps);
        zone.trim(4, usize::MAX);
        assert_eq!(serials(&zone), [(7, 8), (8, 9), (9, 10), (10, 11)]);
        let one = diff(1, 2, 100).octets();
        zone.trim(4, 2 * one);
        assert_eq!(serials(&zone), [(9, 10), (10, 11)]);
        zone.trim(4, 0);
        assert_eq!(serials(&zone), [(10, 11)]);
        zone.trim(0, usize::MAX);
        assert!(serials(&zone).is_empty());
    }
}
