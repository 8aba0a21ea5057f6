//! Data that changed at the primary without their serial: found, told, and mended if that is
//! wanted (`on-same-serial`).
//!
//! Now and then (`compare-every`) the whole zone is transferred from the primary that ours came
//! from and compared, in a lane of its own and beside the zone's rounds: it delays nothing.

use super::ask::{Answer, Asked, random};
use super::limits::Lane;
use super::scheduler::{Scheduler, What};
use crate::config::SameSerial;
use crate::refresh::{Ask, Event};
use crate::zone::Zone;
use std::fmt;
use std::sync::Arc;
use tracing::{debug, error, info, warn};

impl Scheduler {
    /// Transfers all of a zone to compare it with ours.
    pub(super) fn compare(&mut self, id: usize) {
        let now_ms = self.clock.now_ms();
        let entry = self.entry_mut(id);
        entry.compare_in(10, now_ms, random());
        let Some(primary) = entry.source() else { return };
        entry.comparing = true;
        let have = entry.zone.clone();
        let what = move |asked| What::Compared { primary, have, asked };
        self.spawn(id, primary, Ask::Axfr, Lane::Idle, what);
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
        let is_ours = match (&entry.zone, have) {
            (Some(ours), Some(have)) => Arc::ptr_eq(ours, have),
            _ => false,
        };
        let address = entry.primaries[primary].primary.address;
        match asked.answer {
            Err(error) => {
                warn!(zone = %entry.apex, primary = %address, why = %error,
                    "the zone could not be compared with its primary's");
            }
            // It changed here meanwhile: there is nothing to be said.
            Ok(_) if !is_ours => entry.compare_in(1, now_ms, random()),
            Ok(Answer::Whole { zone, differs }) if Some(zone.serial()) == serial(have) => {
                if differs {
                    return self.differs(id, primary, &"all records were compared");
                }
                debug!(zone = %entry.apex, primary = %address, serial = %zone.serial(),
                    records = zone.records(), "compared with its primary's: the same");
                if std::mem::take(&mut entry.diverged) {
                    info!(zone = %entry.apex, primary = %address, "the primary has the same data \
                        as we");
                }
            }
            Ok(answer) => {
                entry.compare_in(1, now_ms, random());
                let newer = match &answer {
                    Answer::Changed { changes, .. } => changes.last().map(|it| it.zone.serial()),
                    Answer::Whole { zone, .. } => Some(zone.serial()),
                    Answer::Told(_) => None,
                };
                self.on(id, Event::Notified { primary, serial: newer });
            }
        }
    }

    /// This primary, which ours came from, has other data under our serial.
    pub(super) fn differs(&mut self, id: usize, primary: usize, why: &dyn fmt::Display) {
        let entry = self.entry_mut(id);
        let address = entry.primaries[primary].primary.address;
        let serial = entry.zone.as_ref().map(|zone| zone.serial().0);
        let repair = entry.settings.on_same_serial == SameSerial::Retransfer;
        entry.difference = true;
        // Told once, however often it is found.
        if !std::mem::replace(&mut entry.diverged, true) {
            let next = match repair {
                true => "its data are transferred",
                false => "ours stay served; `backstop retransfer` takes its data",
            };
            error!(zone = %entry.apex, primary = %address, serial, %why, next,
                "diverged: the primary has other data under the serial that we have");
        }
        if repair {
            self.on(id, Event::Diverged(primary));
        }
    }
}

fn serial(zone: Option<&Arc<Zone>>) -> Option<crate::wire::Serial> {
    zone.map(|zone| zone.serial())
}
