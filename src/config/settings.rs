//! What can be set for a zone, in layers: the zone's own settings, its template's, those of the
//! template `default`. A setting is taken whole from the first layer that has it.

use std::fmt::Display;
use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::access::{self, Known};
use super::document::{At, Kind, Section, Wrong};
use super::units::{
    LONGEST, boolean, choice, duration, integer, off_or, size, some_text, text, written,
};
use super::{AfterExpiry, CheckProgram, Clamp, SameSerial, Source, ZoneSettings};
use crate::acl::{Acl, Prefix, Rule};
use crate::check::{Anchor, Rules, Shrink, Zonemd};
use crate::refresh::LowerSerial;
use crate::zone::file;
use toml::de::DeValue;

pub(super) const SETTINGS: &[&str] = &[
    "primaries",
    "file",
    "allow-query",
    "allow-transfer",
    "allow-notify",
    "allow-update",
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
    "history",
    "check-apex",
    "shrink-guard",
    "shrink-guard-names",
    "zonemd",
    "trust-anchor",
    "check-program",
    "check-program-timeout",
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

/// As many versions as the store keeps.
const HISTORY_MAX: usize = 100;

pub(super) static TEMPLATE: Kind = Kind { title: "a template", own: &[], shared: SETTINGS };

/// The settings of one zone or template as they stand in the file.
#[derive(Clone, Default)]
pub(super) struct Layer {
    source: Option<Source>,
    allow_query: Option<Acl>,
    allow_transfer: Option<Acl>,
    allow_notify: Option<Acl>,
    allow_update: Option<Acl>,
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
    history: Option<usize>,
    checks: Checks,
    /// Of no words: none.
    program: Option<Vec<String>>,
    program_timeout: Option<Duration>,
    /// A source is there, but wrong: reported already, so nobody is told that it is missing.
    broken_source: bool,
}

/// What is checked before a version is served, as it stands in one layer.
#[derive(Clone, Default)]
struct Checks {
    apex: Option<bool>,
    /// `Some(None)`: off.
    shrink_percent: Option<Option<u8>>,
    shrink_names: Option<usize>,
    zonemd: Option<Zonemd>,
    anchors: Option<Vec<Anchor>>,
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
            allow_update: acl("allow-update"),
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
            history: section.get("history", integer(0..=HISTORY_MAX)),
            checks: Checks::read(section),
            program: program(section),
            program_timeout: section.get("check-program-timeout", duration(PROGRAM_TIMES)),
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
            allow_update: self.allow_update.or_else(|| below.allow_update.clone()),
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
            history: self.history.or(below.history),
            checks: self.checks.over(&below.checks),
            program: self.program.or_else(|| below.program.clone()),
            program_timeout: self.program_timeout.or(below.program_timeout),
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
            allow_update: updaters(&source, self.allow_update),
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
            history: self.history.unwrap_or(HISTORY_MAX),
            checks: self.checks.settle(),
            check_program: self.program.filter(|command| !command.is_empty()).map(|command| {
                let timeout = self.program_timeout.unwrap_or(PROGRAM_TIME);
                CheckProgram { command, timeout }
            }),
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

impl Checks {
    fn read(section: &Section<'_>) -> Self {
        Self {
            apex: section.get("check-apex", boolean),
            shrink_percent: section.get("shrink-guard", shrink_percent),
            shrink_names: section.get("shrink-guard-names", integer(0..=1_000_000_000)),
            zonemd: section.get("zonemd", choice(ZONEMD)),
            anchors: anchors(section),
        }
    }

    fn over(self, below: &Self) -> Self {
        Self {
            apex: self.apex.or(below.apex),
            shrink_percent: self.shrink_percent.or(below.shrink_percent),
            shrink_names: self.shrink_names.or(below.shrink_names),
            zonemd: self.zonemd.or(below.zonemd),
            anchors: self.anchors.or_else(|| below.anchors.clone()),
        }
    }

    fn settle(self) -> Rules {
        let usual = Rules::default();
        let guard = usual.shrink.expect("it is on by default");
        let percent = self.shrink_percent.unwrap_or(Some(guard.percent));
        let names = self.shrink_names.unwrap_or(guard.names);
        Rules {
            apex: self.apex.unwrap_or(usual.apex),
            shrink: percent.map(|percent| Shrink { percent, names }),
            zonemd: self.zonemd.unwrap_or(usual.zonemd),
            anchors: self.anchors.unwrap_or_default(),
        }
    }
}

const ZONEMD: &[(&str, Zonemd)] =
    &[("off", Zonemd::Off), ("if-present", Zonemd::IfPresent), ("required", Zonemd::Required)];

/// DS and DNSKEY records, as they stand in zone files, without owners.
fn anchors(section: &Section<'_>) -> Option<Vec<Anchor>> {
    let anchors = section.list("trust-anchor", |value| {
        let text = some_text(value)?;
        let wrong = |what: &str| {
            let advice = "write \"DS 12345 13 2 ...\" or \"DNSKEY 257 3 13 ...\", the digest of \
                type 1, 2 or 4, the key a zone key";
            Wrong::new(format!("\"{text}\" is no trust anchor ({what})"), advice)
        };
        let (rtype, data) = file::read_data(text).map_err(|what| wrong(&what))?;
        Anchor::of(rtype, &data).ok_or_else(|| wrong("it cannot be used"))
    });
    Some(anchors?.into_iter().map(|anchor| anchor.value).collect())
}

/// "50%", or "off".
fn shrink_percent(value: &DeValue<'_>) -> Result<Option<u8>, Wrong> {
    let text = text(value)?;
    if text == "off" {
        return Ok(None);
    }
    let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
    let percent = percent.filter(|percent| *percent < 100);
    let advice = "write how much of the names may go at once, from \"0%\" to \"99%\", or \"off\"";
    percent.map(Some).ok_or_else(|| Wrong::new(format!("is \"{text}\""), advice))
}

/// How long a check program may take, and how long it may be given.
const PROGRAM_TIME: Duration = Duration::from_mins(5);
const PROGRAM_TIMES: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_hours(24);

/// A program and its arguments. One with a folder in its name is relative to the file's; others are
/// looked for where the system does.
fn program(section: &Section<'_>) -> Option<Vec<String>> {
    let words = section.list("check-program", text)?;
    let mut words: Vec<_> = words.into_iter().map(|word| word.value.to_owned()).collect();
    let Some(name) = words.first_mut() else { return Some(words) };
    if name.contains('/') {
        let path = section.doc.path(name);
        let can_run = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
        };
        if can_run(&path) {
            *name = path.to_string_lossy().into_owned();
            return Some(words);
        }
    } else if !name.is_empty() {
        return Some(words);
    }
    let message = format!("check-program \"{name}\" is no program");
    let advice = "write [\"/path/to/program\", \"argument\"], a file that can be run";
    section.doc.error(section.place_of("check-program"), Wrong::new(message, advice));
    None
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
    if let Some(path) = &file
        && let Err(error) = File::open(path)
    {
        let Wrong { message, advice } = unreadable(path, &error);
        let wrong = Wrong::new(format!("file {message}"), advice);
        section.doc.warn(section.place_of("file"), wrong);
    }
    if section.has("primaries") && section.has("file") {
        let advice = "keep one of them: a zone is copied, or served from a file";
        let wrong = Wrong::new("both primaries and a file are given", advice);
        section.doc.error(section.place_of("file"), wrong);
    }
    if section.has("file") && section.has("allow-update") {
        let advice = "remove allow-update: what changes a zone from a file is a change of the file";
        let wrong = Wrong::new("a zone from a file has no primary to forward updates to", advice);
        section.doc.warn(section.place_of("allow-update"), wrong);
    }
    let primaries = primaries.filter(|primaries| !primaries.is_empty());
    primaries.map(Source::Primaries).or_else(|| file.map(Source::File))
}

/// What is no file is never opened: a FIFO would block. One that is missing may come: it keeps no
/// other zone from being served.
fn zone_file(path: PathBuf) -> Result<PathBuf, Wrong> {
    match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => Err(unreadable(&path, &"not a file")),
        _ => Ok(path),
    }
}

fn unreadable(path: &Path, why: &dyn Display) -> Wrong {
    let message = format!("\"{}\" cannot be read ({why})", path.display());
    Wrong::new(message, "write the path of a zone file, relative to this file's folder")
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

/// Whose UPDATEs are forwarded: nobody's where there is no primary.
fn updaters(source: &Source, allowed: Option<Acl>) -> Acl {
    match source {
        Source::Primaries(_) => allowed.unwrap_or_default(),
        Source::File(_) => Acl::default(),
    }
}
