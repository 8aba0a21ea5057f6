//! What zones with the same settings have in common, made once: a template's thousands of zones
//! share their access lists and the addresses and keys of their primaries.

use super::ask::Primary;
use super::zone::Known;
use crate::config::{AfterExpiry, Source, ZoneSettings};
use crate::tsig::Keys;
use crate::view::Access;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A zone's settings, and what follows from them.
pub(super) struct Terms {
    pub(super) settings: Arc<ZoneSettings>,
    pub(super) access: Arc<Access>,
    primaries: Vec<Arc<Primary>>,
}

impl Terms {
    fn new(settings: &Arc<ZoneSettings>, keys: &Keys) -> Self {
        let access = Access {
            query: settings.allow_query.clone(),
            transfer: settings.allow_transfer.clone(),
            notify: settings.allow_notify.clone(),
            update: settings.allow_update.clone(),
            serve_stale: settings.after_expiry == AfterExpiry::ServeStale,
        };
        let primaries = match &settings.source {
            Source::File(_) => &[],
            Source::Primaries(primaries) => &primaries[..],
        };
        let primaries = primaries.iter().map(|primary| {
            Arc::new(Primary {
                address: primary.address,
                source: primary.source,
                key: primary.key.as_ref().and_then(|key| keys.get(&key.name).cloned()),
            })
        });
        let settings = Arc::clone(settings);
        Self { settings, access: Arc::new(access), primaries: primaries.collect() }
    }

    /// The primary at this address; it may have been one by earlier settings.
    pub(super) fn primary(&self, address: SocketAddr) -> Arc<Primary> {
        let known = self.primaries.iter().find(|primary| primary.address == address);
        let former = || Arc::new(Primary { address, source: None, key: None });
        known.map_or_else(former, Arc::clone)
    }

    /// The primaries, of which nothing is known yet.
    pub(super) fn primaries(&self) -> Box<[Known]> {
        self.primaries.iter().map(Known::new).collect()
    }
}

/// The terms of all settings, by where those are.
pub(super) struct AllTerms<'k> {
    keys: &'k Keys,
    terms: HashMap<*const ZoneSettings, Arc<Terms>>,
}

impl<'k> AllTerms<'k> {
    pub(super) fn new(keys: &'k Keys) -> Self {
        Self { keys, terms: HashMap::new() }
    }

    /// Those of a zone with these settings.
    pub(super) fn of(&mut self, settings: &Arc<ZoneSettings>) -> &Arc<Terms> {
        let terms = self.terms.entry(Arc::as_ptr(settings));
        terms.or_insert_with(|| Arc::new(Terms::new(settings, self.keys)))
    }
}
