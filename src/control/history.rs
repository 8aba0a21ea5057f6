//! The versions held of a zone, and what changed from one to the next, for people to read.

use super::table::{plain, time};
use crate::clock::now_s;
use crate::name::{Key, Name};
use crate::replica::{Note, Versions};
use crate::wire::{Rtype, Serial};
use crate::zone::{Diff, Record, file};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;

/// The reply to [`Request::History`](super::Request::History).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The apex.
    pub zone: String,
    /// The newest first.
    pub versions: Vec<Version>,
}

/// A version that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    /// Its serial.
    pub serial: u32,
    /// What is done with it.
    pub place: Place,
    /// Seconds since it came; none if that is not known any more.
    pub ago_s: Option<u64>,
    /// How it came: AXFR, IXFR, file, or approved; none if that is not known any more.
    pub kind: Option<Cow<'static, str>>,
    /// Records that it removed from the one before it; none for the oldest one.
    pub removed: Option<usize>,
    /// Records that it added to that.
    pub added: Option<usize>,
}

/// What is done with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A check keeps it from being served.
    Held,
    /// It is served.
    Served,
    /// It can be gone back to.
    Older,
    /// So can this one, which was never served: it only led to one that came with it.
    Skipped,
}

/// The reply to [`Request::Changes`](super::Request::Changes), before the lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The apex.
    pub zone: String,
    /// The version before.
    pub from: u32,
    /// The version after.
    pub to: u32,
    /// How many lines follow.
    pub lines: u64,
}

impl History {
    /// What is held, the counts made here: not for a thread that must not wait.
    pub(super) fn of(apex: &str, versions: &Versions) -> Self {
        let mut listed = Vec::new();
        if let Some(held) = &versions.held {
            let diff = versions.served.as_ref().map(|served| Diff::between(served, held));
            listed.push(version(held.serial(), Place::Held, None, diff.as_ref()));
        }
        if let Some(served) = &versions.served {
            let last = versions.steps.last();
            let note = last.map(|(_, note)| *note).or(versions.since);
            let diff = last.map(|(diff, _)| &**diff);
            listed.push(version(served.serial(), Place::Served, note, diff));
        }
        for (at, (after, _)) in versions.steps.iter().enumerate().rev() {
            let before = at.checked_sub(1).map(|at| &versions.steps[at]);
            let note = before.map(|(_, note)| *note);
            let diff = before.map(|(diff, _)| &**diff);
            let is_skipped = note.is_some_and(|note| !note.served);
            let place = if is_skipped { Place::Skipped } else { Place::Older };
            listed.push(version(after.from, place, note, diff));
        }
        listed.extend(versions.before.map(|before| version(before, Place::Older, None, None)));
        Self { zone: apex.into(), versions: listed }
    }

    /// Writes a line for each version.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{:<10}  {:<7}  {:<10}  {:<8}  CHANGES", "SERIAL", "", "CAME", "BY")?;
        for version in &self.versions {
            let place = match version.place {
                Place::Held => "held",
                Place::Served => "served",
                Place::Older => "",
                Place::Skipped => "skipped",
            };
            let none = || "-".to_owned();
            let came = version.ago_s.map_or_else(none, |s| format!("{} ago", time(s)));
            let kind = version.kind.as_deref().map_or_else(none, plain);
            let changes = match (version.removed, version.added) {
                (Some(removed), Some(added)) => format!("-{removed} +{added}"),
                _ => none(),
            };
            writeln!(out, "{:<10}  {place:<7}  {came:<10}  {kind:<8}  {changes}", version.serial)?;
        }
        if self.versions.is_empty() {
            writeln!(out, "{}: there is no version yet", self.zone)?;
        }
        Ok(())
    }
}

fn version(serial: Serial, place: Place, note: Option<Note>, diff: Option<&Diff>) -> Version {
    Version {
        serial: serial.0,
        place,
        ago_s: note.map(|note| now_s().saturating_sub(note.at_s)),
        kind: note.map(|note| note.kind.into()),
        removed: diff.map(|diff| diff.removed.iter().count()),
        added: diff.map(|diff| diff.added.iter().count()),
    }
}

impl Changes {
    /// What made the version `serial`, or what would if it were approved; none if it is not held,
    /// or nothing is held before it.
    pub(super) fn of(apex: &str, versions: &Versions, serial: u32) -> Option<(Self, Arc<Diff>)> {
        let step = versions.steps.iter().rfind(|(diff, _)| diff.to.0 == serial);
        let diff = match (step, &versions.served, &versions.held) {
            (_, Some(served), Some(held)) if held.serial().0 == serial => {
                Arc::new(Diff::between(served, held))
            }
            (Some((diff, _)), ..) => Arc::clone(diff),
            _ => return None,
        };
        let (from, to, lines) = (diff.from.0, diff.to.0, diff.records() as u64);
        Some((Self { zone: apex.into(), from, to, lines }, diff))
    }
}

/// Writes a diff as lines of a zone file, each behind "-" or "+", owner by owner.
pub(super) fn write_changes(diff: &Diff, out: &mut impl Write) -> io::Result<()> {
    let removed = diff.removed.iter().map(|(owner, record)| line(owner, record, false));
    let added = diff.added.iter().map(|(owner, record)| line(owner, record, true));
    let mut lines: Vec<_> = removed.chain(added).collect();
    lines.sort_unstable();
    for (.., is_new, text) in lines {
        writeln!(out, "{} {text}", if is_new { '+' } else { '-' })?;
    }
    Ok(())
}

/// What a line is sorted by - owner, type, what was before what is - and its text.
fn line(owner: Name<'_>, record: Record<'_>, is_new: bool) -> (Vec<u8>, Rtype, bool, String) {
    let mut text = String::new();
    file::line_of(owner, record, &mut text);
    (Key::of(owner, 0).as_bytes().to_vec(), record.rtype, is_new, text)
}
