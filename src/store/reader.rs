//! The reader: a thread that reads single zones, so that the keeper need not.
//!
//! **How it fits.** The keeper starts it when a zone is first asked for, hands it what to read
//! after the commit of all that came before, and ends it before it closes LMDB. Zones are read one
//! after the other, each in a transaction of its own: memory is what the caller builds.

use super::Damage;
use super::format::ZoneKey;
use super::keeper::Failed;
use super::request::{Read, Which};
use super::stored::Stored;
use super::tables::{Environment, Tables};
use crossbeam::channel::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use tracing::error;

/// The thread; dropped, it ends after what it is to read.
pub(super) struct Reader {
    reads: Option<Sender<Read>>,
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
    pub(super) fn take(&self, read: Read) {
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

fn read_zones(env: &Environment, reads: &Receiver<Read>) -> heed::Result<()> {
    let tables = Tables::of(env)?;
    for Read { key, which, with } in reads {
        let txn = env.read_txn()?;
        let row = match which {
            Which::Newest => tables.row(&txn, &key),
            Which::Before => tables.row_before(&txn, &key),
        };
        let stored = match row {
            Ok(None) => {
                with(None);
                continue;
            }
            Ok(Some(row)) => Stored::of_row(tables, &txn, &key, row).map_err(|found| found.what),
            Err(Failed::Change(damaged)) => Err(damaged.to_string()),
            Err(Failed::Transaction(failed)) => return Err(failed),
        };
        let damage = |what| Damage { apex: ZoneKey::apex(key.as_bytes()), what, aside: None };
        with(Some(stored.map_err(damage)));
    }
    Ok(())
}
