//! What zones with the same settings have in common, made once: a template's thousands of zones
//! share their access lists and the addresses and keys of their primaries.

use super::ask::Primary;
use super::zone::Known;
use crate::config::{AfterExpiry, Source, ZoneSettings};
use crate::tsig::Keys;
use crate::view::Access;
use std::collections::HashMap;
use std::sync::Arc;

/// What follows from a zone's settings.
pub(super) struct Terms {
    pub(super) access: Arc<Access>,
    primaries: Vec<Arc<Primary>>,
}

impl Terms {
    fn new(settings: &ZoneSettings, keys: &Keys) -> Self {
        let access = Access {
            query: settings.allow_query.clone(),
            transfer: settings.allow_transfer.clone(),
            notify: settings.allow_notify.clone(),
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
        Self { access: Arc::new(access), primaries: primaries.collect() }
    }

    /// The primaries, of which nothing is known yet.
    pub(super) fn primaries(&self) -> Box<[Known]> {
        self.primaries.iter().map(Known::new).collect()
    }
}

/// The terms of all settings, by where those are.
pub(super) struct AllTerms<'k> {
    keys: &'k Keys,
    terms: HashMap<*const ZoneSettings, Terms>,
}

impl<'k> AllTerms<'k> {
    pub(super) fn new(keys: &'k Keys) -> Self {
        Self { keys, terms: HashMap::new() }
    }

    /// Those of a zone with these settings.
    pub(super) fn of(&mut self, settings: &Arc<ZoneSettings>) -> &Terms {
        let terms = self.terms.entry(Arc::as_ptr(settings));
        terms.or_insert_with(|| Terms::new(settings, self.keys))
    }
}
