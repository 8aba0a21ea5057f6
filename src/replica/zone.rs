//! One zone as the scheduler knows it.

use super::CommandError;
use super::ask::Primary;
use super::history::{History, Note};
use super::judge::Held;
use super::rollback::{Pin, Reply};
use super::status::{HeldStatus, LastTransfer, PrimaryStatus, State, ZoneStatus};
use crate::config::{Source, ZoneConfig, ZoneSettings};
use crate::name::NameBuf;
use crate::refresh::{Refresh, Times};
use crate::store;
use crate::tsig::Keys;
use crate::view::{Access, Expiry, Served};
use crate::wire::Serial;
use crate::zone::{Soa, Zone};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A zone: its version, how it is refreshed, and what is known of its primaries.
pub(super) struct Entry {
    pub(super) apex: NameBuf,
    pub(super) settings: Arc<ZoneSettings>,
    pub(super) access: Arc<Access>,
    pub(super) primaries: Vec<Known>,
    pub(super) refresh: Refresh,
    pub(super) expiry: Arc<Expiry>,
    pub(super) zone: Option<Arc<Zone>>,
    pub(super) history: History,
    /// When and how the version served came; not known after a restart.
    pub(super) since: Option<Note>,
    pub(super) contact_ms: Option<u64>,
    pub(super) primary: Option<SocketAddr>,
    pub(super) difference: bool,
    pub(super) expiry_told: bool,
    pub(super) error: Option<String>,
    pub(super) last: Option<Last>,
    /// Answers to questions of an earlier configuration are not for this one.
    pub(super) epoch: u64,
    /// When it is on the agenda.
    pub(super) agenda_ms: u64,
    /// Its file is being read, or what the store kept of it.
    pub(super) reading: bool,
    /// A version of it is being stored.
    pub(super) storing: bool,
    /// What a check refused.
    pub(super) held: Option<Held>,
    /// The version held has passed the checks that are configured.
    pub(super) proven: bool,
    /// What is not taken after a rollback.
    pub(super) pin: Option<Pin>,
    /// What is to be held once the rollback being stored is.
    pub(super) rolled_back: Option<Held>,
    /// The operator waits for the version being stored.
    pub(super) waiting: Option<Reply>,
}

/// A primary and what it said last.
pub(super) struct Known {
    pub(super) primary: Primary,
    pub(super) serial: Option<Serial>,
    pub(super) error: Option<String>,
    pub(super) asked_ms: Option<u64>,
}

/// The last version received.
pub(super) struct Last {
    pub(super) kind: &'static str,
    pub(super) octets: u64,
    pub(super) records: u64,
    pub(super) ms: u64,
    pub(super) at_ms: u64,
}

/// A zone that has no version yet refreshes as soon as it can; these are never waited for.
const NO_TIMES: Times = Times { refresh_ms: 0, retry_ms: 0 };

impl Entry {
    /// A zone without data, due at `due_ms`.
    pub(super) fn new(config: &ZoneConfig, keys: &Keys, due_ms: u64, epoch: u64) -> Self {
        let settings = Arc::clone(&config.settings);
        let primaries = primaries(&settings, keys);
        let refresh = Refresh::new(primaries.len().max(1), settings.ixfr, None, NO_TIMES, due_ms);
        Self {
            apex: config.name.clone(),
            access: access(&settings),
            settings,
            primaries,
            refresh,
            expiry: Arc::new(Expiry::at(0)),
            zone: None,
            history: History::default(),
            since: None,
            contact_ms: None,
            primary: None,
            difference: false,
            expiry_told: false,
            error: None,
            last: None,
            epoch,
            agenda_ms: 0,
            reading: false,
            storing: false,
            held: None,
            proven: false,
            pin: None,
            rolled_back: None,
            waiting: None,
        }
    }

    /// Takes on the version that the store kept.
    pub(super) fn restore(
        &mut self,
        zone: Arc<Zone>,
        history: History,
        state: &store::State,
        due_ms: u64,
    ) {
        let times = self.times(zone.soa());
        let count = self.primaries.len().max(1);
        self.refresh = Refresh::new(count, self.settings.ixfr, Some(zone.serial()), times, due_ms);
        let never = self.file().is_some();
        self.expiry.set(if never { Expiry::NEVER } else { state.expires_at_ms });
        self.contact_ms = Some(state.contact_ms);
        self.primary = state.primary;
        self.history = history;
        self.zone = Some(zone);
        self.trim_history();
    }

    /// Other settings. The version stays; questions under way are forgotten.
    pub(super) fn configure(&mut self, config: &ZoneConfig, keys: &Keys, now_ms: u64, epoch: u64) {
        let due_ms = self.refresh.next_ms().min(now_ms);
        self.settings = Arc::clone(&config.settings);
        self.access = access(&self.settings);
        self.primaries = primaries(&self.settings, keys);
        let soa = self.zone.as_ref().map(|zone| zone.soa().clone());
        let (serial, times) =
            soa.map_or((None, NO_TIMES), |soa| (Some(soa.serial), self.times(&soa)));
        let count = self.primaries.len().max(1);
        self.refresh = Refresh::new(count, self.settings.ixfr, serial, times, due_ms);
        self.reading = false;
        // By other rules it may pass: it is transferred again, and judged again.
        (self.held, self.rolled_back, self.proven) = (None, None, false);
        if let Some(reply) = self.waiting.take() {
            // Who asked may have gone.
            let _ = reply.send(Err(CommandError::Busy));
        }
        self.epoch = epoch;
        if self.file().is_some() && self.zone.is_some() {
            self.expiry.set(Expiry::NEVER);
        } else if self.expiry.get() == Expiry::NEVER {
            self.prolong(now_ms);
        }
    }

    /// The zone file that the zone is from, if it is.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.settings.source {
            Source::File(path) => Some(path),
            Source::Primaries(_) => None,
        }
    }

    /// The SOA's intervals within the configured bounds.
    pub(super) fn times(&self, soa: &Soa) -> Times {
        let ms = |clamp: crate::config::Clamp, seconds: u32| {
            millis(clamp.apply(Duration::from_secs(seconds.into())))
        };
        Times {
            refresh_ms: ms(self.settings.refresh, soa.refresh),
            retry_ms: ms(self.settings.retry, soa.retry),
        }
    }

    /// The interval of expiry in force.
    pub(super) fn expire(&self, soa: &Soa) -> Duration {
        self.settings.expire.apply(Duration::from_secs(soa.expire.into()))
    }

    /// A primary has confirmed or renewed the version.
    pub(super) fn prolong(&mut self, now_ms: u64) {
        let Some(zone) = &self.zone else { return };
        let expire = self.expire(zone.soa());
        let at = if self.file().is_some() { Expiry::NEVER } else { now_ms + millis(expire) };
        self.expiry.set(at);
        self.contact_ms = Some(now_ms);
        self.expiry_told = false;
    }

    /// Keeps as much history as is worth it: as many versions as are configured, together not
    /// larger than half of what sending the zone would take (RFC 1995 section 5 leaves it to us).
    pub(super) fn trim_history(&mut self) {
        let Some(zone) = &self.zone else { return };
        // A record takes some forty octets in a transfer.
        let octets = usize::try_from(zone.records()).unwrap_or(usize::MAX).saturating_mul(20);
        self.history.trim(self.settings.history, octets.max(64 * 1024));
    }

    /// What the workers are to see.
    pub(super) fn served(&self) -> Arc<Served> {
        Arc::new(Served {
            apex: self.apex.clone(),
            access: Arc::clone(&self.access),
            zone: self.zone.clone(),
            expiry: Arc::clone(&self.expiry),
            history: Arc::clone(self.history.diffs()),
        })
    }

    /// What the store is to keep beside the version `soa` is of.
    pub(super) fn kept(&self, soa: &Soa, contact_ms: u64, next_ms: u64) -> store::State {
        let expire = self.expire(soa);
        store::State {
            serial: soa.serial.0,
            has_data: true,
            contact_ms,
            refresh_at_ms: next_ms,
            expires_at_ms: contact_ms.saturating_add(millis(expire)),
            expire_s: u32::try_from(expire.as_secs()).unwrap_or(u32::MAX),
            primary: self.primary,
            retired_at_ms: None,
        }
    }

    /// When the scheduler should look at it next.
    pub(super) fn due_ms(&self) -> u64 {
        let asking = self.refresh.is_asking() || self.reading;
        let ask = if asking || self.file().is_some() && self.zone.is_some() {
            u64::MAX
        } else {
            self.refresh.next_ms()
        };
        let expiry =
            if self.zone.is_some() && !self.expiry_told { self.expiry.get() } else { u64::MAX };
        ask.min(expiry)
    }

    fn state(&self, now_ms: u64) -> State {
        match &self.zone {
            None => State::NeverLoaded,
            Some(_) if self.expiry.is_over(now_ms) => State::Expired,
            Some(_) if self.held.is_some() => State::HeldByCheck,
            Some(_) if self.refresh.failures() > 0 || self.error.is_some() => State::Stale,
            Some(_) if self.difference => State::Diverged,
            Some(_) if self.refresh.is_asking() => State::Refreshing,
            Some(_) => State::Ok,
        }
    }

    pub(super) fn status(&self, now_ms: u64) -> ZoneStatus {
        let ago = |at_ms: u64| now_ms.saturating_sub(at_ms) / 1000;
        let until = |at_ms: u64| at_ms.saturating_sub(now_ms) / 1000;
        let from_file = self.file().is_some();
        let expires = Some(self.expiry.get()).filter(|&at| at != Expiry::NEVER);
        ZoneStatus {
            zone: self.apex.to_string(),
            state: self.state(now_ms),
            serial: self.zone.as_ref().map(|zone| zone.serial().0),
            records: self.zone.as_ref().map_or(0, |zone| zone.records()),
            last_contact_s: self.contact_ms.filter(|_| !from_file).map(ago),
            refresh_in_s: if self.refresh.is_asking() { 0 } else { until(self.refresh.next_ms()) },
            expires_in_s: expires.filter(|_| self.zone.is_some()).map(until),
            primary: self.primary,
            same_serial_difference: self.difference,
            versions_held: self.history.diffs().len(),
            held: self.held.as_ref().map(|held| HeldStatus {
                serial: held.version.zone.serial().0,
                check: held.reason.check().into(),
                why: held.reason.to_string(),
                since_s: ago(held.since_ms),
            }),
            error: self.error.clone(),
            last_transfer: self.last.as_ref().map(|last| LastTransfer {
                kind: last.kind.into(),
                octets: last.octets,
                records: last.records,
                ms: last.ms,
                ago_s: ago(last.at_ms),
            }),
            primaries: self.primaries.iter().map(|known| known.status(now_ms)).collect(),
        }
    }
}

impl Known {
    fn status(&self, now_ms: u64) -> PrimaryStatus {
        PrimaryStatus {
            address: self.primary.address,
            serial: self.serial.map(|serial| serial.0),
            last_error: self.error.clone(),
            asked_s: self.asked_ms.map(|at_ms| now_ms.saturating_sub(at_ms) / 1000),
        }
    }
}

fn primaries(settings: &ZoneSettings, keys: &Keys) -> Vec<Known> {
    let Source::Primaries(primaries) = &settings.source else { return Vec::new() };
    let known = primaries.iter().map(|primary| Known {
        primary: Primary {
            address: primary.address,
            source: primary.source,
            key: primary.key.as_ref().and_then(|key| keys.get(&key.name).cloned()),
        },
        serial: None,
        error: None,
        asked_ms: None,
    });
    known.collect()
}

fn access(settings: &ZoneSettings) -> Arc<Access> {
    Arc::new(Access {
        query: settings.allow_query.clone(),
        transfer: settings.allow_transfer.clone(),
        notify: settings.allow_notify.clone(),
    })
}

/// Milliseconds, as many as there are.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
