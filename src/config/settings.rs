//! What can be set for a zone, in layers: the zone's own settings, its template's, those of the
//! template `default`. A setting is taken whole from the first layer that has it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use super::access::{self, Known};
use super::document::{At, Kind, Section, Wrong};
use super::units::{LONGEST, boolean, choice, duration, off_or, size, some_text, written};
use super::{AfterExpiry, Clamp, SameSerial, Source, ZoneSettings};
use crate::acl::{Acl, Prefix, Rule};
use crate::refresh::LowerSerial;

pub(super) const SETTINGS: &[&str] = &[
    "primaries",
    "file",
    "allow-query",
    "allow-transfer",
    "allow-notify",
    "notify",
    "refresh-min",
    "refresh-max",
    "retry-min",
    "retry-max",
    "expire-min",
    "expire-max",
    "after-expiry",
    "on-lower-serial",
    "on-same-serial",
    "compare-every",
    "pin-tolerance",
    "ixfr",
    "max-size",
];

const AFTER_EXPIRY: &[(&str, AfterExpiry)] =
    &[("servfail", AfterExpiry::Servfail), ("serve-stale", AfterExpiry::ServeStale)];

const ON_LOWER_SERIAL: &[(&str, LowerSerial)] = &[
    ("keep", LowerSerial::Keep),
    ("accept-after-expiry", LowerSerial::AcceptAfterExpiry),
    ("accept", LowerSerial::Accept),
];

const ON_SAME_SERIAL: &[(&str, SameSerial)] =
    &[("report", SameSerial::Report), ("retransfer", SameSerial::Retransfer)];

pub(super) static TEMPLATE: Kind = Kind { title: "a template", own: &[], shared: SETTINGS };

/// The settings of one zone or template as they stand in the file.
#[derive(Clone, Default)]
pub(super) struct Layer {
    source: Option<Source>,
    allow_query: Option<Acl>,
    allow_transfer: Option<Acl>,
    allow_notify: Option<Acl>,
    notify: Option<Vec<super::Target>>,
    refresh: Bounds,
    retry: Bounds,
    expire: Bounds,
    after_expiry: Option<AfterExpiry>,
    on_lower_serial: Option<LowerSerial>,
    on_same_serial: Option<SameSerial>,
    compare_every: Option<Option<Duration>>,
    pin_tolerance: Option<Duration>,
    ixfr: Option<bool>,
    max_size: Option<u64>,
    /// A source is there, but wrong: reported already, so nobody is told that it is missing.
    broken_source: bool,
}

/// One of the SOA's intervals, as it stands in one layer.
#[derive(Clone, Copy, Default)]
struct Bounds {
    min: Option<At<Duration>>,
    max: Option<At<Duration>>,
}

/// Has `section` any setting of its own?
pub(super) fn is_set(section: &Section<'_>) -> bool {
    SETTINGS.iter().any(|key| section.has(key))
}

impl Layer {
    pub(super) fn read(section: &Section<'_>, known: &Known<'_>) -> Self {
        let acl = |key| access::acl(section, key, known);
        let bounds = |min, max| Bounds { min: bound(section, min), max: bound(section, max) };
        let source = source(section, known);
        Self {
            broken_source: source.is_none() && (section.has("primaries") || section.has("file")),
            source,
            allow_query: acl("allow-query"),
            allow_transfer: acl("allow-transfer"),
            allow_notify: acl("allow-notify"),
            notify: access::targets(section, known),
            refresh: bounds("refresh-min", "refresh-max"),
            retry: bounds("retry-min", "retry-max"),
            expire: bounds("expire-min", "expire-max"),
            after_expiry: section.get("after-expiry", choice(AFTER_EXPIRY)),
            on_lower_serial: section.get("on-lower-serial", choice(ON_LOWER_SERIAL)),
            on_same_serial: section.get("on-same-serial", choice(ON_SAME_SERIAL)),
            compare_every: section.get("compare-every", off_or(Duration::from_secs(1)..=LONGEST)),
            pin_tolerance: section.get("pin-tolerance", duration(Duration::ZERO..=LONGEST)),
            ixfr: section.get("ixfr", boolean),
            max_size: section.get("max-size", size(64 << 10)),
        }
    }

    /// This layer, with what it lacks taken from `below`.
    pub(super) fn over(self, below: &Self) -> Self {
        let own_source = self.source.is_some() || self.broken_source;
        let (source, broken_source) = match own_source {
            true => (self.source, self.broken_source),
            false => (below.source.clone(), below.broken_source),
        };
        Self {
            source,
            broken_source,
            allow_query: self.allow_query.or_else(|| below.allow_query.clone()),
            allow_transfer: self.allow_transfer.or_else(|| below.allow_transfer.clone()),
            allow_notify: self.allow_notify.or_else(|| below.allow_notify.clone()),
            notify: self.notify.or_else(|| below.notify.clone()),
            refresh: self.refresh.over(below.refresh),
            retry: self.retry.over(below.retry),
            expire: self.expire.over(below.expire),
            after_expiry: self.after_expiry.or(below.after_expiry),
            on_lower_serial: self.on_lower_serial.or(below.on_lower_serial),
            on_same_serial: self.on_same_serial.or(below.on_same_serial),
            compare_every: self.compare_every.or(below.compare_every),
            pin_tolerance: self.pin_tolerance.or(below.pin_tolerance),
            ixfr: self.ixfr.or(below.ixfr),
            max_size: self.max_size.or(below.max_size),
        }
    }

    /// What holds when this is all, or what is missing. Bounds that contradict each other are
    /// noted at their places in the file.
    pub(super) fn settle(self, section: &Section<'_>) -> Result<ZoneSettings, Missing> {
        let source = self.source.ok_or(Missing { reported: self.broken_source })?;
        let clamp = |bounds: Bounds, key, min| bounds.settle(section, key, min);
        Ok(ZoneSettings {
            allow_query: self.allow_query,
            allow_transfer: self.allow_transfer.unwrap_or_default(),
            allow_notify: notifiers(&source, self.allow_notify),
            notify: self.notify.unwrap_or_default(),
            refresh: clamp(self.refresh, "refresh", Duration::from_secs(2)),
            retry: clamp(self.retry, "retry", Duration::from_secs(5)),
            expire: clamp(self.expire, "expire", Duration::ZERO),
            after_expiry: self.after_expiry.unwrap_or(AfterExpiry::Servfail),
            on_lower_serial: self.on_lower_serial.unwrap_or(LowerSerial::AcceptAfterExpiry),
            on_same_serial: self.on_same_serial.unwrap_or(SameSerial::Retransfer),
            compare_every: self.compare_every.unwrap_or(Some(Duration::from_hours(24))),
            pin_tolerance: self.pin_tolerance.unwrap_or(Duration::from_hours(1)),
            ixfr: self.ixfr.unwrap_or(true),
            max_size: self.max_size.unwrap_or(4 << 30),
            source,
        })
    }
}

/// A zone has neither primaries nor a file.
#[derive(Clone, Copy)]
pub(super) struct Missing {
    /// It has one that is wrong, which was noted.
    pub(super) reported: bool,
}

impl Missing {
    pub(super) fn wrong(zone: &str) -> Wrong {
        let advice = "write primaries = [{ address = \"192.0.2.1\" }] or file = \"...\"";
        Wrong::new(format!("{zone} has neither primaries nor a file"), advice)
    }
}

impl Bounds {
    fn over(self, below: Self) -> Self {
        Self { min: self.min.or(below.min), max: self.max.or(below.max) }
    }

    fn settle(self, section: &Section<'_>, key: &str, least: Duration) -> Clamp {
        let min = self.min.map_or(least, |min| min.value);
        if let Some(max) = self.max.filter(|max| max.value < min) {
            let advice = format!("write a longer {key}-max, or a shorter {key}-min");
            let message = format!("{key}-max is shorter than {key}-min (\"{}\")", written(min));
            section.doc.error(max.at, Wrong::new(message, advice));
        }
        Clamp { min, max: self.max.map(|max| max.value) }
    }
}

fn bound(section: &Section<'_>, key: &str) -> Option<At<Duration>> {
    let value = section.get(key, duration(Duration::from_secs(1)..=LONGEST))?;
    Some(At { value, at: section.place_of(key) })
}

fn source(section: &Section<'_>, known: &Known<'_>) -> Option<Source> {
    let primaries = access::primaries(section, known);
    let file = section.get("file", |value| zone_file(section.doc.path(some_text(value)?)));
    if section.has("primaries") && section.has("file") {
        let advice = "keep one of them: a zone is copied, or served from a file";
        let wrong = Wrong::new("both primaries and a file are given", advice);
        section.doc.error(section.place_of("file"), wrong);
    }
    let primaries = primaries.filter(|primaries| !primaries.is_empty());
    primaries.map(Source::Primaries).or_else(|| file.map(Source::File))
}

fn zone_file(path: PathBuf) -> Result<PathBuf, Wrong> {
    let unreadable = |why: &dyn std::fmt::Display| {
        let message = format!("\"{}\" cannot be read ({why})", path.display());
        Wrong::new(message, "write the path of a zone file, relative to this file's folder")
    };
    // Whether it is a file is asked before it is opened: opening a FIFO would block.
    let metadata = fs::metadata(&path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(unreadable(&"not a file"));
    }
    File::open(&path).map_err(|error| unreadable(&error))?;
    Ok(path)
}

/// The primaries, signed where they have a key, and whom `allow-notify` adds.
fn notifiers(source: &Source, added: Option<Acl>) -> Acl {
    let primaries = match source {
        Source::Primaries(primaries) => &primaries[..],
        Source::File(_) => &[],
    };
    let rule = |primary: &super::Primary| Rule {
        from: Prefix::host(primary.address.ip()),
        key: primary.key.as_ref().map(|key| key.name.clone()),
    };
    let added = added.unwrap_or_default();
    primaries.iter().map(rule).chain(added.rules().iter().cloned()).collect()
}
