//! The reader: a thread that reads single zones, so that the keeper need not.
//!
//! **How it fits.** The keeper starts it when a zone is first asked for, hands it what to read
//! after the commit of all that came before, and ends it before it closes LMDB. Zones are read one
//! after the other, each in a transaction of its own: memory is what the caller builds.

use super::Damage;
use super::format::ZoneKey;
use super::request::Read;
use super::stored::Stored;
use super::tables::{Environment, Tables};
use crossbeam::channel::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use tracing::error;

/// The thread; dropped, it ends after what it is to read.
pub(super) struct Reader {
    reads: Option<Sender<(ZoneKey, Read)>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn start(env: Environment) -> Self {
        let (reads, of_reads) = channel::unbounded();
        let thread = thread::Builder::new().name("store-reader".into()).spawn(move || {
            if let Err(failed) = read_zones(&env, &of_reads) {
                error!(%failed, "zones that were kept cannot be read");
            }
        });
        // Without a thread nothing is read, which is what askers are told then.
        let thread = thread.inspect_err(|failed| error!(%failed, "no thread to read")).ok();
        Self { reads: Some(reads), thread }
    }

    /// Has a zone read; what cannot be read is dropped.
    pub(super) fn take(&self, read: (ZoneKey, Read)) {
        if let Some(reads) = &self.reads {
            reads.send(read).ok();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.reads = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn read_zones(env: &Environment, reads: &Receiver<(ZoneKey, Read)>) -> heed::Result<()> {
    let tables = Tables::of(env)?;
    for (key, read) in reads {
        let key = key.as_bytes();
        let txn = env.read_txn()?;
        let Some(value) = tables.zones.get(&txn, key)? else {
            read(None);
            continue;
        };
        let stored = Stored::examine(tables, &txn, key, value).map(|(_, stored)| stored);
        let apex = ZoneKey::apex(key);
        read(Some(stored.map_err(|unusable| Damage { apex, what: unusable.what, aside: None })));
    }
    Ok(())
}
