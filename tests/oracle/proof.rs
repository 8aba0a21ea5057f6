//! Do these NSEC or NSEC3 records show what a reply claims? As a validator would look at them
//! (RFC 4035 section 5.4, RFC 5155 section 8), signatures apart.

use crate::model::message::name_text;
use crate::model::sign::{OPT_OUT, has_type, hash};
use crate::model::zone::*;
use crate::resolver::Answered;
use std::fmt;

/// What a reply claims of a name in a signed zone.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) zone: Labels,
    pub(crate) denial: Denial,
    pub(crate) name: Labels,
    pub(crate) what: What,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, zone) = (name_text(&wire(&self.name)), name_text(&wire(&self.zone)));
        write!(f, "{:?} for {name} in {zone} with {:?}", self.what, self.denial)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// It exists without this type.
    NoType(u16),
    /// It does not exist, nor does a wildcard for it.
    NoName,
    /// It does not exist: a wildcard below this closest encloser stands for it.
    Expanded { encloser: usize },
    /// As `Expanded`, the wildcard being without this type.
    NoTypeAtWildcard { encloser: usize, rtype: u16 },
}

/// Is the claim shown by the records of `section`?
pub(crate) fn shows(section: &[Answered], claim: &Claim) -> bool {
    let ours = |set: &&Answered| set.owner.starts_with(&claim.zone);
    match claim.denial {
        Denial::Unsigned => true,
        Denial::Nsec => {
            let sets = section.iter().filter(ours).filter(|set| set.rtype == NSEC);
            Nsec(sets.map(|set| Span::of(set, &claim.zone)).collect()).shows(claim)
        }
        Denial::Nsec3 { iterations, salt, .. } => {
            let sets = section.iter().filter(ours).filter(|set| set.rtype == NSEC3);
            Nsec3 { spans: sets.map(HashSpan::of).collect(), iterations, salt }.shows(claim)
        }
    }
}

/// An NSEC record: nothing is between its owner and the next name.
struct Span {
    owner: Labels,
    next: Labels,
    types: Vec<u8>,
    is_last: bool,
}

impl Span {
    fn of(set: &Answered, apex: &Labels) -> Self {
        let data = set.set.data.first().expect("a set has a record");
        let (next, len) = labels(data);
        let is_last = next == *apex;
        Self { owner: set.owner.clone(), next, types: data[len..].to_vec(), is_last }
    }

    /// Does the name not exist, by this record?
    fn covers(&self, name: &[Vec<u8>]) -> bool {
        // What is below a cut or a DNAME is not this zone's to deny.
        let is_above = name.starts_with(&self.owner) && self.owner.len() < name.len();
        let hides = (has_type(&self.types, NS) && !has_type(&self.types, SOA))
            || has_type(&self.types, DNAME);
        let inside = self.owner[..] < *name && (*name < self.next[..] || self.is_last);
        inside && !self.next.starts_with(name) && !(is_above && hides)
    }

    /// Is the name an empty non-terminal, by this record?
    fn leads_below(&self, name: &[Vec<u8>]) -> bool {
        self.owner[..] < *name && self.next.len() > name.len() && self.next.starts_with(name)
    }
}

struct Nsec(Vec<Span>);

impl Nsec {
    fn covers(&self, name: &[Vec<u8>]) -> bool {
        self.0.iter().any(|span| span.covers(name))
    }

    fn lacks(&self, name: &[Vec<u8>], rtype: u16) -> bool {
        self.0.iter().any(|span| {
            let without = !has_type(&span.types, rtype) && !has_type(&span.types, CNAME);
            (span.owner == name && without) || span.leads_below(name)
        })
    }

    fn shows(&self, claim: &Claim) -> bool {
        let name = &claim.name;
        match claim.what {
            What::NoType(rtype) => self.lacks(name, rtype),
            What::Expanded { encloser } => self.covers(&name[..=encloser]),
            What::NoTypeAtWildcard { encloser, rtype } => {
                self.covers(&name[..=encloser]) && self.lacks(&wildcard(name, encloser), rtype)
            }
            What::NoName => (claim.zone.len()..name.len()).any(|encloser| {
                self.covers(&name[..=encloser]) && self.covers(&wildcard(name, encloser))
            }),
        }
    }
}

/// An NSEC3 record.
struct HashSpan {
    hash: Vec<u8>,
    next: Vec<u8>,
    types: Vec<u8>,
    opt_out: bool,
}

impl HashSpan {
    fn of(set: &Answered) -> Self {
        let data = set.set.data.first().expect("a set has a record");
        let label = String::from_utf8_lossy(set.owner.last().expect("an NSEC3's owner has a hash"));
        let hash = domain::utils::base32::decode_hex(&label).expect("base32");
        let next = 6 + usize::from(data[4]);
        Self {
            hash,
            next: data[next..next + 20].to_vec(),
            types: data[next + 20..].to_vec(),
            opt_out: data[1] & OPT_OUT != 0,
        }
    }
}

struct Nsec3 {
    spans: Vec<HashSpan>,
    iterations: u8,
    salt: &'static [u8],
}

impl Nsec3 {
    fn at(&self, name: &[Vec<u8>]) -> Option<&HashSpan> {
        let hash = hash(name, self.iterations, self.salt);
        self.spans.iter().find(|span| span.hash == hash)
    }

    fn covering(&self, name: &[Vec<u8>]) -> Option<&HashSpan> {
        let hash = &hash(name, self.iterations, self.salt)[..];
        self.spans.iter().find(|span| {
            let (after, before) = (&*span.hash < hash, hash < &*span.next);
            if span.hash < span.next {
                after && before
            } else {
                (after || before) && span.hash != hash
            }
        })
    }

    fn lacks(&self, name: &[Vec<u8>], rtype: u16) -> bool {
        self.at(name)
            .is_some_and(|span| !has_type(&span.types, rtype) && !has_type(&span.types, CNAME))
    }

    /// RFC 5155 section 8.3: the encloser is there, the next closer name is not.
    fn encloses(&self, name: &Labels, encloser: usize) -> bool {
        self.at(&name[..encloser]).is_some() && self.covering(&name[..=encloser]).is_some()
    }

    /// RFC 5155 section 8.6: a delegation left out.
    fn opted_out(&self, zone: &Labels, name: &Labels) -> bool {
        (zone.len()..name.len()).any(|encloser| {
            self.encloses(name, encloser)
                && self.covering(&name[..=encloser]).is_some_and(|span| span.opt_out)
        })
    }

    fn shows(&self, claim: &Claim) -> bool {
        let name = &claim.name;
        match claim.what {
            What::NoType(DS) => self.lacks(name, DS) || self.opted_out(&claim.zone, name),
            What::NoType(rtype) => self.lacks(name, rtype),
            What::Expanded { encloser } => self.covering(&name[..=encloser]).is_some(),
            What::NoTypeAtWildcard { encloser, rtype } => {
                self.encloses(name, encloser) && self.lacks(&wildcard(name, encloser), rtype)
            }
            What::NoName => (claim.zone.len()..name.len()).any(|encloser| {
                let source = wildcard(name, encloser);
                self.encloses(name, encloser) && self.covering(&source).is_some()
            }),
        }
    }
}

fn wildcard(name: &Labels, encloser: usize) -> Labels {
    [&name[..encloser], &[b"*".to_vec()]].concat()
}
