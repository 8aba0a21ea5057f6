//! Aliases: CNAME, DNAME, and the way on to the name that they lead to.
//!
//! **How it fits.** `pursue` hands on to one of these what it has found; they write it, and pursue
//! the next name.
//!
//! **Invariants.** *bounded*: [`LINKS_MAX`] aliases at most. *each once*: an alias that was written
//! already ends the chain, which goes round in a circle then. *one alias a name*: of several CNAME or
//! DNAME records that a primary sent for one name, against RFC 2181 section 10.1 and RFC 6672
//! section 2.4, a reply tells the first: resolvers take two for an error.
//!
//! **Sections.** RFC 1034 4.3.2 step 3a, RFC 6672 3.2.

use super::{Answer, Kind, LINKS_MAX, Owner, Sought, served_for};
use crate::name::{Key, NAME_MAX, Name};
use crate::wire::{Full, Rcode, Rtype, Section};
use crate::zone::{Node, RecordSet};

impl<'a> Answer<'a, '_> {
    /// Step 3a: a CNAME. The question goes on with its target, unless that closes a loop.
    pub(super) fn alias(
        &mut self,
        from: Sought<'_>,
        rtype: Rtype,
        node: Node<'_>,
        set: &RecordSet<'_>,
    ) -> Result<(), Full> {
        (self.aa, self.kind) = (true, Kind::Records);
        if self.is_linked(from.name, Rtype::CNAME) {
            return Ok(());
        }
        let set = &set.sole();
        let at = self.put(Section::Answer, from.owner(), node, set)?;
        self.link(at, Rtype::CNAME);
        match Name::from_wire(set.first()) {
            Some(target) => self.follow(target, rtype),
            None => Ok(()),
        }
    }

    /// RFC 6672 section 3.2: a DNAME, and the CNAME that it makes of the name.
    pub(super) fn rename(
        &mut self,
        from: Sought<'_>,
        owner: Owner<'_>,
        rtype: Rtype,
        node: Node<'_>,
        set: &RecordSet<'_>,
    ) -> Result<(), Full> {
        (self.aa, self.kind) = (true, Kind::Records);
        let set = &set.sole();
        self.personal = true; // The CNAME's target has what the client wrote in the client's case.
        if !self.is_linked(owner.name, Rtype::DNAME) {
            let at = self.writer.len();
            self.put(Section::Answer, owner, node, set)?;
            self.link(Some(at), Rtype::DNAME);
        }
        let mut buffer = [0; NAME_MAX];
        let Some(target) = substitute(from.name, owner.name, set.first(), &mut buffer) else {
            self.rcode = Rcode::YXDOMAIN;
            return Ok(());
        };
        if self.is_linked(from.name, Rtype::CNAME) {
            return Ok(());
        }
        let at = self.begin_record(Section::Answer, from.owner(), Rtype::CNAME, set.ttl())?;
        self.writer.data(Rtype::CNAME, target.as_wire())?;
        self.link(at, Rtype::CNAME);
        // The CNAME may be all that was asked for; and a name that is renamed to below where it
        // was would grow with every step.
        let grows = Name::from_wire(set.first()).is_some_and(|to| to.is_at_or_below(owner.name));
        if rtype == Rtype::CNAME || grows { Ok(()) } else { self.follow(target, rtype) }
    }

    /// Goes on with the target of an alias, if it is served: else what there is is the answer.
    fn follow(&mut self, target: Name<'_>, rtype: Rtype) -> Result<(), Full> {
        if self.followed == LINKS_MAX {
            return Ok(());
        }
        self.followed += 1;
        let mut key = Key::of(target, 0);
        match self.enter(served_for(self.view, target, &key, rtype)) {
            Ok((zone, _)) => {
                key.enter(zone.apex());
                let place = zone.names().seek(&key);
                self.pursue(zone, Sought { name: target, at: None }, &place, &key, rtype)
            }
            Err(_) => Ok(()),
        }
    }

    /// Was an alias of this owner and type written already?
    pub(super) fn is_linked(&self, owner: Name<'_>, rtype: Rtype) -> bool {
        let is_at = |at: u16| self.writer.has_name_at(usize::from(at), owner);
        self.links.iter().any(|&(at, written)| written == rtype && is_at(at))
    }

    fn link(&mut self, owner_at: Option<usize>, rtype: Rtype) {
        if let Some(at) = owner_at.and_then(|at| u16::try_from(at).ok()) {
            let _ = self.links.try_push((at, rtype));
        }
    }
}

/// `name` with its ancestor `owner` replaced by `target`, written to `buffer`. `None`: it would
/// be too long (RFC 6672 section 2.2).
fn substitute<'t>(
    name: Name<'_>,
    owner: Name<'_>,
    target: &[u8],
    buffer: &'t mut [u8; NAME_MAX],
) -> Option<Name<'t>> {
    let prefix = &name.as_wire()[..name.len() - owner.len()];
    let whole = buffer.get_mut(..prefix.len() + target.len())?;
    whole[..prefix.len()].copy_from_slice(prefix);
    whole[prefix.len()..].copy_from_slice(target);
    Name::from_wire(whole)
}
