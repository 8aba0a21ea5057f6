//! Data that changed at the primary without their serial: found, told, and mended if that is
//! wanted (`on-same-serial`).
//!
//! Now and then (`compare-every`) the whole zone is transferred from the primary that ours came
//! from and summed up, in a lane of its own and beside the zone's rounds: it delays nothing and
//! holds no second zone. Where the sums differ, all of it is transferred and compared record by
//! record; what is taken is what differs then.

use super::ask::{Answer, Asked};
use super::dial::random;
use super::queue::Lane;
use super::scheduler::Scheduler;
use super::trouble::{Of, tell_failure};
use super::zone::Entry;
use crate::config::SameSerial;
use crate::refresh::{Ask, Event};
use crate::zone::Zone;
use std::fmt;
use std::sync::Arc;
use tracing::{debug, error, info};

impl Scheduler {
    /// Transfers all of a zone to compare it with ours.
    pub(super) fn compare(&mut self, id: usize) {
        let now_ms = self.clock.now_ms();
        let entry = self.entry_mut(id);
        entry.compare_in(10, now_ms, random());
        let Some(primary) = entry.source() else { return };
        entry.comparing = true;
        self.ask(id, primary, Ask::Axfr, Lane::Idle);
    }

    pub(super) fn compared(
        &mut self,
        id: usize,
        primary: usize,
        have: Option<&Arc<Zone>>,
        asked: Asked,
    ) {
        let now_ms = self.clock.now_ms();
        let replicated = &self.stats.replicated;
        replicated.transfer_octets.add(asked.statistics.octets);
        replicated.transfers_failed.add(u64::from(asked.answer.is_err()));
        let entry = self.entry_mut(id);
        entry.comparing = false;
        let ours = entry.zone.clone();
        let is_ours = ours.as_ref().map(Arc::as_ptr) == have.map(Arc::as_ptr);
        let known = &mut entry.primaries[primary];
        let address = known.primary.address;
        if asked.answer.is_ok() {
            known.troubles.end(Of::Sum);
        }
        match asked.answer {
            Err(error) => {
                let next = "compared another time";
                tell_failure(entry, primary, Of::Sum, &error, next, asked.began, now_ms);
            }
            // It changed here meanwhile: there is nothing to be said.
            Ok(_) if !is_ours => entry.compare_in(1, now_ms, random()),
            Ok(Answer::Compared { serial, .. }) if Some(serial) != ours.map(|it| it.serial()) => {
                entry.compare_in(1, now_ms, random());
                self.on(id, Event::Notified { primary, serial: Some(serial) });
            }
            Ok(Answer::Compared { serial, same: true }) => {
                debug!(zone = %entry.apex, primary = %address, serial = serial.0, "compared with its \
                    primary's: the same");
                if std::mem::take(&mut entry.diverged) {
                    info!(zone = %entry.apex, primary = %address, "the primary has the same data \
                        as we");
                }
            }
            Ok(_) if entry.diverged && entry.settings().on_same_serial == SameSerial::Report => {}
            // By the sum. Record by record, it is seen to when all of it has come.
            Ok(_) => self.on(id, Event::Diverged(primary)),
        }
    }

    /// There is a sign that this primary, which ours came from, has other data under our serial.
    pub(super) fn differs(&mut self, id: usize, primary: usize, why: &dyn fmt::Display) {
        let entry = self.entry_mut(id);
        tell_difference(entry, primary, why);
        if entry.settings().on_same_serial == SameSerial::Retransfer {
            self.on(id, Event::Diverged(primary));
        }
    }
}

/// Says that a primary has other data under our serial: once, however often it is found.
pub(super) fn tell_difference(entry: &mut Entry, primary: usize, why: &dyn fmt::Display) {
    let address = entry.primaries[primary].primary.address;
    let serial = entry.zone.as_ref().map(|zone| zone.serial().0);
    let next = match entry.settings().on_same_serial {
        SameSerial::Retransfer => "its data are taken",
        SameSerial::Report => "ours stay served; `backstop retransfer` takes its data",
    };
    entry.difference = true;
    if !std::mem::replace(&mut entry.diverged, true) {
        error!(zone = %entry.apex, primary = %address, serial, %why, next,
            "diverged: the primary has other data under the serial that we have");
    }
}
