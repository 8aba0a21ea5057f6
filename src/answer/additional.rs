//! The additional section: addresses of the names in the records sent (RFC 1034 section 4.3.2
//! step 6), and the glue without which a referral leads nowhere (RFC 9471).

use super::{Answer, Owner};
use crate::name::Name;
use crate::tree::Place;
use crate::wire::{Rtype, Section, data_names};
use crate::zone::{At, Found, Node, RecordSet, Zone};

/// How many targets of an answer are looked up. What they add is a courtesy: the client can ask.
const TARGETS_MAX: usize = 16;

/// What a name in record data points at: the name, and the types that help there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Target<'z> {
    name: Name<'z>,
    types: &'static [Rtype],
}

const ADDRESSES: &[Rtype] = &[Rtype::A, Rtype::AAAA];

/// Adds what an answer's records [point at](points_at_hosts), as far as there is room. `owner` is
/// theirs.
pub(super) fn of_answer<'a>(
    answer: &mut Answer<'a, '_>,
    zone: &'a Zone,
    owner: Owner<'_>,
    set: &RecordSet<'_>,
) {
    answer.reserve_options();
    for (index, target) in targets(set, owner.name).take(TARGETS_MAX).enumerate() {
        if targets(set, owner.name).take(index).any(|earlier| earlier == target) {
            continue;
        }
        if let Some(node) = host(zone, target.name, set.rtype(), answer.dnssec_ok)
            && !add(answer, target, node)
        {
            return;
        }
    }
}

/// Adds glue: first the addresses of servers within the zone that is referred to, without which
/// it cannot be reached, so that one missing means TC; then those of other servers we know of.
/// `place` is one at or below the cut.
pub(super) fn of_referral<'a>(
    answer: &mut Answer<'a, '_>,
    zone: &'a Zone,
    place: &Place<'a, '_, ()>,
    cut: Name<'_>,
    set: &RecordSet<'_>,
) {
    let names = || set.iter().filter_map(Name::from_wire);
    let inside = |name: &Name<'_>| name.is_at_or_below(cut);
    let mut are_all_inside = true;
    for name in names() {
        if !inside(&name) {
            are_all_inside = false;
        } else if let Some(node) = zone.node_near(place, &zone.key(name))
            && !add(answer, Target { name, types: ADDRESSES }, node)
        {
            answer.tc = true;
            return;
        }
    }
    answer.reserve_options();
    if are_all_inside {
        return;
    }
    for name in names().filter(|name| !inside(name)) {
        if let Some(node) = host(zone, name, Rtype::NS, answer.dnssec_ok)
            && !add(answer, Target { name, types: ADDRESSES }, node)
        {
            return;
        }
    }
}

/// Have these records names in them that more records help to use?
pub(super) fn points_at_hosts(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::NS | Rtype::MX | Rtype::SRV | Rtype::SVCB | Rtype::HTTPS | Rtype::NAPTR)
}

fn targets<'z>(set: &RecordSet<'z>, owner: Name<'z>) -> impl Iterator<Item = Target<'z>> + use<'z> {
    let rtype = set.rtype();
    set.iter().filter_map(move |data| {
        let name = data_names(rtype, data).next()?;
        match rtype {
            Rtype::SVCB | Rtype::HTTPS => service_target(rtype, data, name, owner),
            Rtype::NAPTR => Some(Target { name, types: naptr_types(data) }),
            _ => Some(Target { name, types: ADDRESSES }),
        }
    })
}

/// RFC 9460 sections 2.4 and 4.1: an alias (priority 0) points at more of its kind, and the root
/// stands for the owner itself.
fn service_target<'z>(
    rtype: Rtype,
    data: &[u8],
    name: Name<'z>,
    owner: Name<'z>,
) -> Option<Target<'z>> {
    let is_alias = data.starts_with(&[0, 0]);
    let types: &[Rtype] = match rtype {
        Rtype::SVCB if is_alias => &[Rtype::SVCB, Rtype::A, Rtype::AAAA],
        Rtype::HTTPS if is_alias => &[Rtype::HTTPS, Rtype::A, Rtype::AAAA],
        _ => ADDRESSES,
    };
    match (name.is_root(), is_alias) {
        (true, true) => None, // The service does not exist.
        (true, false) => Some(Target { name: owner, types }),
        (false, _) => Some(Target { name, types }),
    }
}

/// What the flags of a NAPTR record say comes next (RFC 3404 section 4.3).
fn naptr_types(data: &[u8]) -> &'static [Rtype] {
    match data.get(4..6) {
        Some([1, b'A' | b'a']) => ADDRESSES,
        Some([1, b'S' | b's']) => &[Rtype::SRV],
        _ => &[],
    }
}

/// The records of a name that this zone knows of, also by a wildcard; for name servers also glue.
fn host<'z>(zone: &'z Zone, target: Name<'_>, of: Rtype, dnssec_ok: bool) -> Option<Node<'z>> {
    if !target.is_at_or_below(zone.apex()) {
        return None;
    }
    let key = zone.key(target);
    match zone.lookup(&key, Rtype::A) {
        Found::Records { node, at, .. } | Found::NoData { node: Some(node), at } => {
            // A wildcard's signatures are worth nothing without a proof, which has no place here.
            let is_provable = at == At::Owner || !dnssec_ok || !has_signatures(node);
            Some(node).filter(|_| is_provable)
        }
        Found::Delegation { .. } if of == Rtype::NS => zone.node(&key),
        _ => None,
    }
}

fn has_signatures(node: Node<'_>) -> bool {
    node.sets().any(|set| set.is_signatures())
}

/// Adds a target's records. Do they all fit?
fn add(answer: &mut Answer<'_, '_>, target: Target<'_>, node: Node<'_>) -> bool {
    let mut owner = Owner { name: target.name, at: None };
    for &rtype in target.types {
        let Some(set) = node.find(rtype) else { continue };
        match answer.try_put(Section::Additional, owner, node, &set) {
            Ok(at) => owner.at = at,
            Err(_) => return false,
        }
    }
    true
}
