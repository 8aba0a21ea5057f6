//! What a zone's data can say to a question: the look-up of RFC 1034 section 4.3.2 step 3 inside
//! one zone, wildcards (RFC 4592) and DNAME (RFC 6672) included. What it means for the reply is
//! decided by `answer`.

use super::{Node, RecordSet, Zone};
use crate::name::Key;
use crate::tree::Place;
use crate::wire::Rtype;

/// Where an answer comes from: lengths of keys, octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The owner itself.
    Owner,
    /// The wildcard below the closest encloser, whose key has so many octets.
    Wildcard(usize),
}

/// What the data say.
#[derive(Clone)]
pub enum Found<'z> {
    /// The type asked for (for ANY and RRSIG: one of the sets there are, RFC 8482 section 4.1).
    Records {
        /// The owner's records.
        node: Node<'z>,
        /// The set.
        set: RecordSet<'z>,
        /// The owner, or a wildcard for it.
        at: At,
    },
    /// A CNAME in place of the type asked for.
    Alias {
        /// The owner's records.
        node: Node<'z>,
        /// The CNAME.
        set: RecordSet<'z>,
        /// The owner, or a wildcard for it.
        at: At,
    },
    /// The name is below a DNAME.
    Rename {
        /// The DNAME owner's records.
        node: Node<'z>,
        /// The DNAME.
        set: RecordSet<'z>,
        /// Octets of the DNAME owner's key.
        owner: usize,
    },
    /// The name is at or below a cut: another zone's (for DS: strictly below).
    Delegation {
        /// The cut's records.
        node: Node<'z>,
        /// Its NS records.
        set: RecordSet<'z>,
        /// Octets of the cut's key.
        cut: usize,
    },
    /// The name exists, the type does not.
    NoData {
        /// The name's records, or its wildcard's; none for an empty non-terminal.
        node: Option<Node<'z>>,
        /// The owner, or a wildcard for it.
        at: At,
    },
    /// The name does not exist.
    NoName {
        /// Octets of the closest encloser's key.
        encloser: usize,
    },
}

impl Zone {
    /// What the data say about `rtype` at the name with this key.
    pub fn lookup(&self, key: &Key, rtype: Rtype) -> Found<'_> {
        let place = self.names.seek(key);
        match self.direct(&place, rtype) {
            Some((node, set)) => Found::Records { node, set, at: At::Owner },
            None => self.lookup_at(&place, key, rtype),
        }
    }

    /// The usual case of [`lookup`](Self::lookup): records of the very name whose place among the
    /// names this is, with no cut or DNAME above it. `None`: all else, for
    /// [`lookup_at`](Self::lookup_at). Parted, because what is found then needs no [`Found`] to be
    /// told in.
    #[inline(always)]
    pub fn direct<'z>(
        &self,
        place: &Place<'z, '_, ()>,
        rtype: Rtype,
    ) -> Option<(Node<'z>, RecordSet<'z>)> {
        let node = Node::of(place.exact()?.0);
        if node.cut() > 0 || self.apex_renames {
            return None;
        }
        Some((node, node.find(rtype)?))
    }

    /// What the data say about `rtype` at the name with this key, whose place among the names is
    /// known.
    pub fn lookup_at<'z>(
        &'z self,
        place: &Place<'z, '_, ()>,
        key: &Key,
        rtype: Rtype,
    ) -> Found<'z> {
        if self.apex_renames && !key.as_bytes().is_empty() {
            let node = self.apex_node();
            let set = node.find(Rtype::DNAME).expect("apex_renames says so");
            return Found::Rename { node, set, owner: 0 };
        }
        if let Some((blob, ())) = place.exact() {
            let node = Node::of(blob);
            let at_cut =
                if node.cut() > 0 { self.at_cut(key, place, node.cut(), rtype) } else { None };
            return at_cut.unwrap_or_else(|| at_node(node, rtype, At::Owner));
        }
        self.beside(key, place, rtype)
    }

    /// What is to be said of a name without records.
    fn beside<'z>(&'z self, key: &Key, place: &Place<'z, '_, ()>, rtype: Rtype) -> Found<'z> {
        // If there is a cut or a DNAME above it, then the last name before is that or below it.
        let (mut shared, mut cut) = (0, 0);
        if let Some(before) = place.at_or_before() {
            (shared, cut) = (before.key.common_labels(key), Node::of(before.blob).cut());
        }
        if (1..=shared).contains(&cut)
            && let Some(found) = self.at_cut(key, place, cut, rtype)
        {
            return found;
        }
        // An empty non-terminal may have all it encloses on one side.
        let after = place.after().map_or(0, |after| after.key.common_labels(key));
        let encloser = shared.max(after);
        if encloser == key.len() {
            return Found::NoData { node: None, at: At::Owner };
        }
        self.at_wildcard(key, encloser, rtype)
    }

    /// What the wildcard below the closest encloser says. It may be an empty non-terminal: then
    /// it exists without having records (RFC 4592 sections 2.2.2 and 3.3.1).
    fn at_wildcard(&self, key: &Key, encloser: usize, rtype: Rtype) -> Found<'_> {
        let Some(wildcard) = key.wildcard(encloser) else { return Found::NoName { encloser } };
        let place = self.names.seek(&wildcard);
        let at = At::Wildcard(encloser);
        if let Some((blob, ())) = place.exact() {
            return at_node(Node::of(blob), rtype, at);
        }
        if place.after().is_some_and(|after| after.key.starts_with(wildcard.as_bytes())) {
            return Found::NoData { node: None, at };
        }
        Found::NoName { encloser }
    }

    /// What the topmost cut or DNAME, at or above the key, makes of the question. `None`: the
    /// key is its owner, and answers for itself (a DNAME's owner; DS at a cut, RFC 4035 section
    /// 3.1.4.1).
    fn at_cut<'z>(
        &'z self,
        key: &Key,
        place: &Place<'z, '_, ()>,
        cut: usize,
        rtype: Rtype,
    ) -> Option<Found<'z>> {
        let near = place.ancestor(cut).map(Node::of);
        let node =
            near.or_else(|| self.node_near(place, &key.ancestor(cut))).expect("a cut has records");
        let exact = key.as_bytes().len() == cut;
        match node.find(Rtype::NS) {
            Some(_) if exact && rtype == Rtype::DS => None,
            Some(set) => Some(Found::Delegation { node, set, cut }),
            None if exact => None,
            None => node.find(Rtype::DNAME).map(|set| Found::Rename { node, set, owner: cut }),
        }
    }
}

/// What one owner's records say about `rtype`.
#[inline(always)]
fn at_node(node: Node<'_>, rtype: Rtype, at: At) -> Found<'_> {
    let set = match rtype {
        Rtype::ANY => any_of(node),
        Rtype::RRSIG => node.sets().find(RecordSet::is_signatures),
        _ => node.find(rtype),
    };
    if let Some(set) = set {
        return Found::Records { node, set, at };
    }
    // Also for NSEC and RRSIG, which may stand beside an alias, if they do not: no proof could be
    // given that the type is not there where an alias is (RFC 6840 section 4.3).
    match node.find(Rtype::CNAME) {
        Some(set) => Found::Alias { node, set, at },
        None => Found::NoData { node: Some(node), at },
    }
}

/// One set in place of all (RFC 8482 section 4.1): the smallest, so that nobody gains by asking;
/// one of DNSSEC's own only if there is no other.
fn any_of(node: Node<'_>) -> Option<RecordSet<'_>> {
    let is_dnssec = |set: &RecordSet<'_>| {
        matches!(
            set.rtype(),
            Rtype::NSEC
                | Rtype::NSEC3
                | Rtype::NSEC3PARAM
                | Rtype::DNSKEY
                | Rtype::CDNSKEY
                | Rtype::CDS
        )
    };
    // Beside each record's data are its type, class, TTL and length, and a pointer to its owner.
    let octets = |set: &RecordSet<'_>| set.data_len() + 12 * set.count();
    let sets = || node.sets().filter(|set| !set.is_signatures());
    sets().filter(|set| !is_dnssec(set)).min_by_key(octets).or_else(|| sets().min_by_key(octets))
}
