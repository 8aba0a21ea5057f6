//! The additional section: addresses of the names in the records sent (RFC 1034 section 4.3.2
//! step 6), and the glue without which a referral leads nowhere (RFC 9471).

use super::{Answer, Owner};
use crate::name::Name;
use crate::wire::{Rtype, Section, data_names};
use crate::zone::{Found, Node, RecordSet, Zone};

/// How many targets of an answer are looked up. What they add is a courtesy: the client can ask.
const TARGETS_MAX: usize = 16;

/// Adds the addresses that an answer's records point at, as far as there is room.
pub(super) fn of_answer(answer: &mut Answer<'_, '_>, zone: &Zone, set: &RecordSet<'_>) {
    if !points_at_hosts(set.data_type()) {
        return;
    }
    for (index, target) in targets(set).take(TARGETS_MAX).enumerate() {
        if targets(set).take(index).any(|earlier| earlier == target) {
            continue;
        }
        if let Some(node) = host(zone, target, set.rtype())
            && !addresses(answer, target, node)
        {
            return;
        }
    }
}

/// Adds glue: first the addresses of servers within the zone that is referred to, without which
/// it cannot be reached, so that one missing means TC; then those of other servers we know of.
pub(super) fn of_referral(
    answer: &mut Answer<'_, '_>,
    zone: &Zone,
    cut: Name<'_>,
    set: &RecordSet<'_>,
) {
    for target in targets(set).filter(|target| target.is_at_or_below(cut)) {
        if let Some(node) = zone.node(&zone.key(target))
            && !addresses(answer, target, node)
        {
            answer.tc = true;
            return;
        }
    }
    for target in targets(set).filter(|target| !target.is_at_or_below(cut)) {
        if let Some(node) = host(zone, target, Rtype::NS)
            && !addresses(answer, target, node)
        {
            return;
        }
    }
}

/// Have these records names of hosts in them, whose addresses help?
fn points_at_hosts(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::NS | Rtype::MX | Rtype::SRV)
}

fn targets<'z>(set: &RecordSet<'z>) -> impl Iterator<Item = Name<'z>> + use<'z> {
    let rtype = set.rtype();
    set.iter().filter_map(move |data| data_names(rtype, data).next())
}

/// The records of a host that this zone knows of, also by a wildcard; for name servers also glue.
fn host<'z>(zone: &'z Zone, target: Name<'_>, of: Rtype) -> Option<Node<'z>> {
    if !target.is_at_or_below(zone.apex()) {
        return None;
    }
    let key = zone.key(target);
    match zone.lookup(&key, Rtype::A) {
        Found::Records { node, .. } | Found::NoData { node: Some(node), .. } => Some(node),
        Found::Delegation { .. } if of == Rtype::NS => zone.node(&key),
        _ => None,
    }
}

/// Adds a host's addresses. Do they all fit?
fn addresses(answer: &mut Answer<'_, '_>, host: Name<'_>, node: Node<'_>) -> bool {
    let mut owner = Owner { name: host, at: None };
    for rtype in [Rtype::A, Rtype::AAAA] {
        let Some(set) = node.find(rtype) else { continue };
        match answer.try_put(Section::Additional, owner, &set) {
            Ok(at) => owner.at = at,
            Err(_) => return false,
        }
    }
    true
}
