//! The specification in executable form: what an authoritative server says, straight from RFC
//! 1034 section 4.3.2 as RFC 4592 section 3.3.1 and RFC 6672 section 3.2 have it, over plain
//! maps. Slow, obvious, and written without a look at the code under test.

use crate::model::message::Record;
use crate::model::zone::*;
use crate::proof::{Claim, What};
use std::collections::BTreeSet;
use std::fmt;

/// A record set of a reply.
#[derive(Clone)]
pub(crate) struct Answered {
    pub(crate) owner: Labels,
    pub(crate) rtype: u16,
    /// The type covered, of signatures.
    pub(crate) covered: u16,
    pub(crate) set: Set,
    /// The signatures that belong beside it.
    pub(crate) signatures: Option<Set>,
}

impl Answered {
    pub(crate) fn new(owner: &Labels, rtype: u16, set: &Set) -> Self {
        let set = set.clone();
        Self { owner: owner.clone(), rtype, covered: 0, set, signatures: None }
    }

    /// With the signatures that `source` has in `zone`: the owner itself, or a wildcard for it.
    fn signed(mut self, zone: &Model, source: &[Vec<u8>]) -> Self {
        self.signatures = zone.signatures.get(&(source.to_vec(), self.rtype)).cloned();
        self
    }
}

/// Signatures are compared apart.
impl PartialEq for Answered {
    fn eq(&self, other: &Self) -> bool {
        let key = |set: &Self| (set.rtype, set.covered);
        key(self) == key(other) && self.owner == other.owner && self.set == other.set
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = |data: &Vec<u8>| Record {
            owner: wire(&self.owner),
            rtype: self.rtype,
            ttl: self.set.ttl,
            data: data.clone(),
        };
        f.debug_list().entries(self.set.data.iter().map(record)).finish()
    }
}

/// Where the RFCs leave a choice, or say nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// A question for ANY below a DNAME is answered by the synthesized CNAME: that is not followed.
    pub(crate) synthesized_cname_answers: bool,
    /// DS at a served zone's apex is asked of the served parent also if that has no cut there.
    pub(crate) parent_without_cut_answers_ds: bool,
}

impl Reading {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..4).map(|bits| Self {
            synthesized_cname_answers: bits & 1 != 0,
            parent_without_cut_answers_ds: bits & 2 != 0,
        })
    }
}

/// What a reply must be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) rcode: u16,
    pub(crate) aa: bool,
    pub(crate) answer: Vec<Answered>,
    /// The answer is one or more of these sets (RFC 8482 section 4.1) behind `answer`.
    pub(crate) any_of: Vec<Answered>,
    pub(crate) authority: Vec<Answered>,
    /// Addresses that a referral is useless without (RFC 9471): in the additional section or TC.
    pub(crate) glue: Vec<Answered>,
    /// Addresses that belong in the additional section if there is room (RFC 1034 section 4.3.2
    /// step 6, RFC 2782).
    pub(crate) wanted: Vec<Answered>,
    /// What DNSSEC records in the authority section must show, if they are asked for.
    pub(crate) claims: Vec<Claim>,
    /// How many aliases were followed.
    pub(crate) links: usize,
}

pub(crate) const NXDOMAIN: u16 = 3;
pub(crate) const REFUSED: u16 = 5;
pub(crate) const YXDOMAIN: u16 = 6;

/// More than any server follows.
const LINKS_MAX: usize = 20;

impl Expected {
    /// Notes what must be shown. What a cut at a wildcard stands for is undefined (RFC 4592
    /// section 4.2), and if it was left out of the chain nothing can be shown of it.
    fn claim(&mut self, zone: &Model, name: &Labels, what: What) {
        if let What::NoTypeAtWildcard { encloser, .. } | What::Expanded { encloser } = what
            && zone
                .names
                .get(&wildcard(&name[..encloser]))
                .is_some_and(|node| node.contains_key(&NS))
        {
            return;
        }
        let (zone, denial, name) = (zone.apex.clone(), zone.denial, name.clone());
        self.claims.push(Claim { zone, denial, name, what });
    }
}

/// The zones served.
pub(crate) struct World {
    pub(crate) zones: Vec<Model>,
}

/// How the walk down a zone ends (step 3).
enum End<'z> {
    /// 3a: the whole name is there; or 3c: a wildcard stands for it, below an encloser of so many
    /// labels. Its sets, if it has any.
    Node(Vec<(u16, &'z Set)>, Option<usize>),
    /// 3b: a cut.
    Cut(Labels),
    /// 3c with RFC 6672: a DNAME at this owner.
    Renamed(Labels),
    /// 3c: no such name.
    Nothing,
}

impl World {
    /// Step 2: the zone that is the nearest ancestor of the name.
    fn nearest(&self, name: &[Vec<u8>]) -> Option<&Model> {
        let above = self.zones.iter().filter(|zone| name.starts_with(&zone.apex));
        above.max_by_key(|zone| zone.apex.len())
    }

    /// RFC 4035 section 3.1.4.1: DS is the parent's.
    fn responsible(&self, name: &Labels, rtype: u16, reading: Reading) -> Option<&Model> {
        let zone = self.nearest(name)?;
        if rtype != DS || *name != zone.apex || name.is_empty() {
            return Some(zone);
        }
        let parent = self.nearest(&name[..name.len() - 1]);
        let has_cut = |parent: &&Model| {
            reading.parent_without_cut_answers_ds || matches!(walk(parent, name, NS), End::Cut(_))
        };
        Some(parent.filter(has_cut).unwrap_or(zone))
    }

    /// The answer.
    pub(crate) fn resolve(
        &self,
        qname: &Labels,
        qtype: u16,
        dnssec: bool,
        reading: Reading,
    ) -> Expected {
        let mut expected = Expected::default();
        let (mut name, mut seen) = (qname.clone(), BTreeSet::new());
        while seen.insert(name.clone()) && expected.links < LINKS_MAX {
            let first = expected.links == 0;
            let Some(zone) = self.responsible(&name, qtype, reading) else {
                if first {
                    expected.rcode = REFUSED;
                }
                return expected;
            };
            let end = walk(zone, &name, qtype);
            expected.aa |= first && !matches!(end, End::Cut(_));
            let next = match end {
                End::Node(sets, encloser) => {
                    self.at_node(zone, (&name, encloser), qtype, &sets, &mut expected)
                }
                End::Cut(cut) => {
                    self.refer(zone, cut, dnssec, &mut expected);
                    None
                }
                End::Nothing => {
                    expected.rcode = NXDOMAIN;
                    expected.authority = vec![negative(zone)];
                    expected.claim(zone, &name, What::NoName);
                    None
                }
                End::Renamed(owner) => {
                    let next = rename(zone, owner, &name, &mut expected);
                    let any = reading.synthesized_cname_answers && qtype == ANY;
                    next.filter(|_| qtype != CNAME && !any)
                }
            };
            let Some(next) = next else { return expected };
            expected.links += 1;
            name = next;
        }
        expected
    }

    /// Step 3a: an alias to follow, or what there is.
    fn at_node(
        &self,
        zone: &Model,
        (name, encloser): (&Labels, Option<usize>),
        qtype: u16,
        sets: &[(u16, &Set)],
        expected: &mut Expected,
    ) -> Option<Labels> {
        let source = encloser.map_or_else(|| name.clone(), |len| wildcard(&name[..len]));
        let answered = |&(rtype, set): &(u16, &Set)| {
            Answered::new(name, rtype, &told(rtype, set)).signed(zone, &source)
        };
        let found = sets.iter().find(|(rtype, _)| *rtype == qtype);
        let alias = sets.iter().find(|(rtype, _)| *rtype == CNAME);
        let signatures = || zone.signatures.iter().filter(|((owner, _), _)| *owner == source);
        let mut next = None;
        if qtype == ANY && !sets.is_empty() {
            expected.any_of = sets.iter().map(answered).collect();
        } else if qtype == RRSIG && signatures().next().is_some() {
            let signature = |((_, covered), set): (&(Labels, u16), &Set)| Answered {
                covered: *covered,
                ..Answered::new(name, RRSIG, set)
            };
            expected.any_of = signatures().map(signature).collect();
        } else if let Some(found) = found {
            // Once is enough (RFC 2181 section 5): a DNAME may have renamed a name on the way here.
            if !expected.answer.contains(&answered(found)) {
                expected.answer.push(answered(found));
            }
            self.add_addresses(zone, found, expected);
        } else if let Some(alias) = alias {
            expected.answer.push(answered(alias));
            next = Some(labels(alias.1.data.first().expect("a set has a record")).0);
        } else {
            expected.authority = vec![negative(zone)];
            let what = match encloser {
                None => What::NoType(qtype),
                Some(encloser) => What::NoTypeAtWildcard { encloser, rtype: qtype },
            };
            expected.claim(zone, name, what);
            return None;
        }
        if let Some(encloser) = encloser {
            expected.claim(zone, name, What::Expanded { encloser });
        }
        next
    }

    /// Step 6.
    fn add_addresses(&self, zone: &Model, (rtype, set): &(u16, &Set), expected: &mut Expected) {
        for target in targets(*rtype, set) {
            let ours = self.nearest(&target).is_some_and(|nearest| nearest.apex == zone.apex);
            let Some(node) = zone.names.get(&target).filter(|_| ours) else { continue };
            for rtype in [A, AAAA] {
                if let (End::Node(..), Some(set)) = (walk(zone, &target, rtype), node.get(&rtype)) {
                    expected.wanted.push(Answered::new(&target, rtype, set));
                }
            }
        }
    }

    /// Step 3b.
    fn refer(&self, zone: &Model, cut: Labels, dnssec: bool, expected: &mut Expected) {
        let set = &zone.names[&cut][&NS];
        for target in targets(NS, set).into_iter().filter(|target| target.starts_with(&cut)) {
            for rtype in [A, AAAA] {
                if let Some(set) = zone.names.get(&target).and_then(|node| node.get(&rtype)) {
                    expected.glue.push(Answered::new(&target, rtype, set));
                }
            }
        }
        self.add_addresses(zone, &(NS, set), expected);
        // RFC 4035 section 3.1.4: with DO also what is known of the child's keys.
        let node = zone.names[&cut].iter();
        let secure = dnssec && zone.denial != Denial::Unsigned;
        let sets = node.filter(|(rtype, _)| **rtype == NS || (secure && **rtype == DS));
        let answered = |(&rtype, set)| Answered::new(&cut, rtype, set).signed(zone, &cut);
        expected.authority = sets.map(answered).collect();
        if !zone.names[&cut].contains_key(&DS) {
            expected.claim(zone, &cut, What::NoType(DS));
        }
    }

    /// Every address set that may stand in an additional section for this name.
    pub(crate) fn addresses(&self, target: &Labels) -> Vec<Answered> {
        let mut all = Vec::new();
        for zone in self.zones.iter().filter(|zone| target.starts_with(&zone.apex)) {
            for rtype in [A, AAAA] {
                let mut found = |set: &Set, source: &[Vec<u8>]| {
                    all.push(Answered::new(target, rtype, set).signed(zone, source));
                };
                if let Some(set) = zone.names.get(target).and_then(|node| node.get(&rtype)) {
                    found(set, target);
                }
                if let End::Node(sets, Some(encloser)) = walk(zone, target, rtype) {
                    let source = wildcard(&target[..encloser]);
                    let sets = sets.iter().filter(|(have, _)| *have == rtype);
                    sets.for_each(|(_, set)| found(set, &source));
                }
            }
        }
        all
    }
}

/// Step 3: down from the apex, label by label.
fn walk<'z>(zone: &'z Model, name: &Labels, qtype: u16) -> End<'z> {
    let has = |owner: &[Vec<u8>], rtype| {
        zone.names.get(owner).is_some_and(|node| node.contains_key(&rtype))
    };
    // An empty non-terminal exists too (RFC 4592 section 2.2.2).
    let exists = |owner: &[Vec<u8>]| {
        zone.names.range(owner.to_vec()..).next().is_some_and(|(next, _)| next.starts_with(owner))
    };
    let sets = |owner: &[Vec<u8>]| {
        let node = zone.names.get(owner);
        node.into_iter().flatten().map(|(&rtype, set)| (rtype, set)).collect()
    };
    let mut matched = zone.apex.len();
    loop {
        let here = &name[..matched];
        let whole = matched == name.len();
        let is_parents = whole && qtype == DS;
        if matched > zone.apex.len() && has(here, NS) && !is_parents {
            return End::Cut(here.to_vec());
        }
        if whole {
            return End::Node(sets(here), None);
        }
        if has(here, DNAME) {
            return End::Renamed(here.to_vec());
        }
        if !exists(&name[..=matched]) {
            // `here` is the closest encloser; this is the source of synthesis (RFC 4592 3.3.1).
            let source = wildcard(here);
            return match exists(&source) {
                true => End::Node(sets(&source), Some(matched)),
                false => End::Nothing,
            };
        }
        matched += 1;
    }
}

/// RFC 6672: the DNAME, the CNAME made from it, and the next name, if it is not too long.
fn rename(zone: &Model, owner: Labels, name: &Labels, expected: &mut Expected) -> Option<Labels> {
    let set = told(DNAME, &zone.names[&owner][&DNAME]);
    let target = labels(set.data.first().expect("a set has a record")).0;
    let next = [&target[..], &name[owner.len()..]].concat();
    let ttl = set.ttl;
    let grows = target.starts_with(&owner);
    let dname = Answered::new(&owner, DNAME, &set).signed(zone, &owner);
    if !expected.answer.contains(&dname) {
        expected.answer.push(dname);
    }
    if !fits(&next) {
        expected.rcode = YXDOMAIN;
        return None;
    }
    let set = Set { ttl, data: [wire(&next)].into() };
    expected.answer.push(Answered::new(name, CNAME, &set));
    // Every step would only make it longer.
    (!grows).then_some(next)
}

/// A name has one alias: of more, the first is told (RFC 2181 section 10.1, RFC 6672 section 2.4).
fn told(rtype: u16, set: &Set) -> Set {
    let count = if [CNAME, DNAME].contains(&rtype) { 1 } else { set.data.len() };
    Set { ttl: set.ttl, data: set.data.iter().take(count).cloned().collect() }
}

/// The SOA of a negative answer (RFC 2308 section 3).
fn negative(zone: &Model) -> Answered {
    let (ttl, data) = zone.soa();
    let last = data.last_chunk::<4>().expect("an SOA ends with a number");
    let ttl = ttl.min(u32::from_be_bytes(*last));
    Answered::new(&zone.apex, SOA, &Set { ttl, data: [data].into() }).signed(zone, &zone.apex)
}

/// The names that addresses are added for.
pub(crate) fn targets(rtype: u16, set: &Set) -> Vec<Labels> {
    let before = match rtype {
        NS => 0,
        MX => 2,
        SRV => 6,
        _ => return Vec::new(),
    };
    set.data.iter().map(|data| labels(&data[before..]).0).collect()
}

fn wildcard(encloser: &[Vec<u8>]) -> Labels {
    [encloser, &[b"*".to_vec()]].concat()
}
