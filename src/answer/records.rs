//! Writing: record sets, whole, with their signatures, by the shortest way there is for each.
//!
//! **Invariants.** *whole or not*: what does not fit is an error, upon which the caller goes back
//! to where the set began or says that it is missing.

use super::{Answer, Owner};
use crate::wire::{Class, Full, Rtype, Section, is_compressed};
use crate::zone::{Node, RecordSet, Zone};

impl Answer<'_, '_> {
    /// As [`put_data`](Self::put_data): what nearly every denial has, so by the shortest way.
    pub(super) fn put_soa(
        &mut self,
        zone: &Zone,
        owner: Owner<'_>,
        soa: &RecordSet<'_>,
        ttl: u32,
    ) -> Result<Option<usize>, Full> {
        if let (Some(at), Some(own)) = (owner.at, zone.soa_names())
            && let Some(written) =
                self.writer.soa_at(Section::Authority, at, (Class::IN, ttl), soa.first(), own)
        {
            return written.map(|()| owner.at);
        }
        self.put_data(Section::Authority, owner, soa, ttl)
    }

    /// Writes a record set, whole, and its signatures if they are wanted. Returns where its owner
    /// lies.
    #[inline(always)]
    pub(super) fn put(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        node: Node<'_>,
        set: &RecordSet<'_>,
    ) -> Result<Option<usize>, Full> {
        let at = self.put_data(section, owner, set, set.ttl())?;
        if self.dnssec_ok
            && !set.is_signatures()
            && let Some(signatures) = node.signatures(set.rtype())
        {
            self.put_data(section, Owner { at, ..owner }, &signatures, signatures.ttl())?;
        }
        Ok(at)
    }

    #[inline(always)]
    pub(super) fn put_data(
        &mut self,
        section: Section,
        mut owner: Owner<'_>,
        set: &RecordSet<'_>,
        ttl: u32,
    ) -> Result<Option<usize>, Full> {
        let rtype = set.data_type();
        if let Some(at) = owner.at
            && !is_compressed(rtype)
        {
            for data in set.iter() {
                self.writer.plain_record_at(section, at, (rtype, Class::IN, ttl), data)?;
            }
            return Ok(owner.at);
        }
        for data in set.iter() {
            owner.at = self.begin_record(section, owner, rtype, ttl)?;
            self.writer.data(rtype, data)?;
        }
        Ok(owner.at)
    }

    /// As [`put`](Self::put), or nothing if it does not fit.
    pub(super) fn try_put(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        node: Node<'_>,
        set: &RecordSet<'_>,
    ) -> Result<Option<usize>, Full> {
        let mark = self.writer.mark();
        self.put(section, owner, node, set).inspect_err(|&Full| self.writer.rewind(mark))
    }

    pub(super) fn begin_record(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: Rtype,
        ttl: u32,
    ) -> Result<Option<usize>, Full> {
        match owner.at {
            Some(at) => {
                self.writer.record_at(section, at, rtype, Class::IN, ttl).map(|()| Some(at))
            }
            None => self.writer.record(section, owner.name, rtype, Class::IN, ttl),
        }
    }
}
