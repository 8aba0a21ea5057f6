//! A zone as plain maps, random ones, and random changes to them. Nothing here is shared with
//! the code under test but the last part, which hands the model's records over to it.

use super::random::Random;
use backstop::name::Name;
use backstop::wire::{Rtype, Serial};
use backstop::zone::{Builder, Diff, Record, Records, Zone};
use std::collections::{BTreeMap, BTreeSet};

/// A name: its labels from the top down, lower case.
pub type Labels = Vec<Vec<u8>>;

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const HINFO: u16 = 13;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const DNAME: u16 = 39;
pub const DS: u16 = 43;
pub const RRSIG: u16 = 46;
pub const NSEC: u16 = 47;
pub const DNSKEY: u16 = 48;
pub const NSEC3: u16 = 50;
pub const NSEC3PARAM: u16 = 51;
pub const ANY: u16 = 255;
pub const UNKNOWN: u16 = 65280;

/// The records of one owner and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub ttl: u32,
    /// Canonical data.
    pub data: BTreeSet<Vec<u8>>,
}

/// A zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub apex: Labels,
    pub serial: u32,
    pub names: BTreeMap<Labels, BTreeMap<u16, Set>>,
    /// NSEC3 records: their owners are no names that could be asked for.
    pub hashes: BTreeMap<Labels, Set>,
    /// By owner and type covered.
    pub signatures: BTreeMap<(Labels, u16), Set>,
    /// How it denies: what it is signed with, if it is.
    pub denial: Denial,
}

/// How a zone says what is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Denial {
    #[default]
    Unsigned,
    Nsec,
    Nsec3 {
        iterations: u8,
        salt: &'static [u8],
        opt_out: bool,
    },
}

/// Wire form of a name.
pub fn wire(labels: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for label in labels.iter().rev() {
        out.push(u8::try_from(label.len()).expect("63 at most"));
        out.extend_from_slice(label);
    }
    out.push(0);
    out
}

/// The name that a wire form begins with, and its length.
pub fn labels(wire: &[u8]) -> (Labels, usize) {
    let (mut at, mut labels) = (0, Labels::new());
    while wire[at] != 0 {
        let end = at + 1 + usize::from(wire[at]);
        labels.insert(0, wire[at + 1..end].to_ascii_lowercase());
        at = end;
    }
    (labels, at + 1)
}

/// A name from text without escapes.
pub fn name(text: &str) -> Labels {
    text.split('.').rev().filter(|label| !label.is_empty()).map(|label| label.into()).collect()
}

/// Is it short enough to be a name?
pub fn fits(labels: &[Vec<u8>]) -> bool {
    labels.iter().map(|label| 1 + label.len()).sum::<usize>() < 255
}

impl Model {
    /// A zone with an SOA and an NS record.
    pub fn new(apex: Labels, random: &mut Random) -> Self {
        let mut zone = Self {
            apex: apex.clone(),
            serial: random.next() as u32,
            names: BTreeMap::new(),
            hashes: BTreeMap::new(),
            signatures: BTreeMap::new(),
            denial: Denial::Unsigned,
        };
        let minimum = [60, 300, 7200][random.below(3)];
        let ttl = [60, 300, 3600][random.below(3)];
        let mut data = [wire(&name("ns.example")), wire(&name("root"))].concat();
        for number in [zone.serial, 1800, 600, 86400, minimum] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        zone.names.entry(apex.clone()).or_default().insert(SOA, Set { ttl, data: [data].into() });
        let target = random_target(&[&zone], random);
        zone.add(&apex, NS, 300, wire(&target));
        zone
    }

    /// Adds a record if the rules for CNAME, DNAME and cuts allow it; `false` if not. A second alias
    /// they do not allow, but primaries send it.
    pub fn add(&mut self, owner: &Labels, rtype: u16, ttl: u32, data: Vec<u8>) -> bool {
        let is_apex = *owner == self.apex;
        let node = self.names.entry(owner.clone()).or_default();
        let has = |rtype| node.contains_key(&rtype);
        let allowed = match rtype {
            CNAME => node.keys().all(|&rtype| rtype == CNAME),
            DNAME => !has(CNAME) && (is_apex || !has(NS)),
            NS => !has(CNAME) && (is_apex || !has(DNAME)),
            DS => !is_apex && !has(CNAME),
            SOA => false,
            _ => !has(CNAME),
        };
        if allowed {
            let set = node.entry(rtype).or_insert_with(|| Set { ttl, data: BTreeSet::new() });
            set.data.insert(data);
        } else if node.is_empty() {
            self.names.remove(owner);
        }
        allowed
    }

    /// The SOA's data.
    pub fn soa(&self) -> (u32, Vec<u8>) {
        let set = &self.names[&self.apex][&SOA];
        (set.ttl, set.data.first().expect("a set has a record").clone())
    }

    fn bump(&mut self, random: &mut Random) {
        self.serial = self.serial.wrapping_add(1 + random.below(5) as u32);
        let (ttl, mut data) = self.soa();
        let at = data.len() - 20;
        data[at..at + 4].copy_from_slice(&self.serial.to_be_bytes());
        let set = Set { ttl, data: [data].into() };
        self.names.get_mut(&self.apex).expect("there is an apex").insert(SOA, set);
    }

    /// Makes a random change: sets that come, go, or change.
    pub fn change(&mut self, others: &[&Self], random: &mut Random) {
        self.bump(random);
        for _ in 0..=random.below(6) {
            let owners: Vec<Labels> = self.names.keys().cloned().collect();
            let owner = random.pick(&owners).clone();
            let types: Vec<u16> =
                self.names[&owner].keys().copied().filter(|&t| t != SOA).collect();
            match random.below(10) {
                0..=2 if !types.is_empty() => {
                    let gone = *random.pick(&types);
                    self.take(&owner, gone);
                }
                3 if owner != self.apex => drop(self.names.remove(&owner)),
                4 if owner != self.apex => {
                    // The whole subtree.
                    self.names.retain(|name, _| !name.starts_with(&owner));
                }
                5 if owner != self.apex && !types.contains(&DNAME) && !types.contains(&CNAME) => {
                    // A new cut, which occludes what is below.
                    let server = [&owner[..], &[b"ns".to_vec()]].concat();
                    let server = if fits(&server) { server } else { owner.clone() };
                    self.add(&owner, NS, 60, wire(&server));
                }
                6 if !types.is_empty() => {
                    let rtype = *random.pick(&types);
                    let node = self.names.get_mut(&owner).expect("it was listed");
                    node.get_mut(&rtype).expect("it was listed").ttl = 60 + random.below(9) as u32;
                }
                _ => self.grow(others, random),
            }
        }
    }

    fn take(&mut self, owner: &Labels, rtype: u16) {
        let node = self.names.get_mut(owner).expect("it was listed");
        node.remove(&rtype);
        if node.is_empty() {
            self.names.remove(owner);
        }
    }

    /// Adds a random set.
    pub fn grow(&mut self, others: &[&Self], random: &mut Random) {
        let owner = random_owner(self, random);
        let rtypes = [A, A, A, AAAA, NS, NS, CNAME, CNAME, DNAME, MX, SRV, TXT, DS, HINFO, UNKNOWN];
        let rtype = *random.pick(&rtypes);
        let ttl = 60 + random.below(4) as u32;
        let count = match rtype {
            CNAME | DNAME => 1 + usize::from(random.chance(5)),
            TXT if random.chance(10) => 30,
            _ => 1 + random.below(3),
        };
        for _ in 0..count {
            let mut zones = vec![&*self];
            zones.extend(others);
            let data = random_data(&owner, rtype, &zones, random);
            if !self.add(&owner, rtype, ttl, data) {
                break;
            }
        }
        // Cuts usually have glue.
        let targets: Vec<Labels> = match self.names.get(&owner).and_then(|node| node.get(&NS)) {
            Some(set) => set.data.iter().map(|data| labels(data).0).collect(),
            None => Vec::new(),
        };
        for target in &targets {
            if target.starts_with(&self.apex) && random.chance(70) {
                let data = random_data(target, A, &[], random);
                self.add(target, A, 60, data);
            }
        }
    }

    /// Adds a random record of DNSSEC's, which no question of the oracle's would understand: what
    /// is signed does not matter here, where the records are kept does.
    pub fn grow_dnssec(&mut self, random: &mut Random) {
        if random.chance(50) {
            let hash = vec![b'0' + random.below(10) as u8; 32];
            let owner = [&self.apex[..], &[hash]].concat();
            let data = [&[1, 0, 0, 0, 0, 20][..], &[random.below(9) as u8; 20], &[0, 1, 0x40]];
            if fits(&owner) {
                self.add(&owner, NSEC3, 60, data.concat());
                self.add(&owner, RRSIG, 60, signature(NSEC3, random));
            }
        } else {
            let owner = random_owner(self, random);
            let covered = *random.pick(&[A, NS, SOA, TXT, CNAME]);
            self.add(&owner, RRSIG, 60, signature(covered, random));
        }
    }

    /// All records.
    pub fn records(&self) -> impl Iterator<Item = (&Labels, u16, u32, &Vec<u8>)> {
        let names = self
            .names
            .iter()
            .flat_map(|(owner, node)| node.iter().map(move |(&rtype, set)| (owner, rtype, set)));
        let hashes = self.hashes.iter().map(|(owner, set)| (owner, NSEC3, set));
        let signatures = self.signatures.iter().map(|((owner, _), set)| (owner, RRSIG, set));
        names.chain(hashes).chain(signatures).flat_map(|(owner, rtype, set)| {
            set.data.iter().map(move |data| (owner, rtype, set.ttl, data))
        })
    }

    /// The zone under test, freshly built, its records in random order.
    pub fn build(&self, random: &mut Random) -> Zone {
        let apex = wire(&self.apex);
        let mut builder = Builder::new(Name::from_wire(&apex).expect("a name"));
        let mut records: Vec<_> = self.records().collect();
        for at in (1..records.len()).rev() {
            records.swap(at, random.below(at + 1));
        }
        for (owner, rtype, ttl, data) in records {
            let owner = wire(&respelled(owner, random));
            let owner = Name::from_wire(&owner).expect("a name");
            assert!(builder.add(owner, Record { rtype: Rtype(rtype), ttl, data }));
        }
        builder.build().expect("the model has an SOA")
    }

    /// The difference to a later version.
    pub fn diff(&self, later: &Self) -> Diff {
        let list = |these: &Self, those: &Self| {
            let those: BTreeSet<_> = those.records().collect();
            let mut list = Records::default();
            for record in these.records().filter(|record| !those.contains(record)) {
                let (owner, rtype, ttl, data) = record;
                let owner = wire(owner);
                let owner = Name::from_wire(&owner).expect("a name");
                list.push(owner, Record { rtype: Rtype(rtype), ttl, data });
            }
            list
        };
        Diff {
            from: Serial(self.serial),
            to: Serial(later.serial),
            removed: list(self, later),
            added: list(later, self),
        }
    }
}

fn signature(covered: u16, random: &mut Random) -> Vec<u8> {
    let fixed = [8, 2, 0, 0, 0, 60, 9, 9, 9, 9, 1, 1, 1, 1, 0, random.below(9) as u8];
    [&covered.to_be_bytes()[..], &fixed, b"\x01s\0", &[7; 8]].concat()
}

/// Some letters upper case.
pub fn respelled(labels: &Labels, random: &mut Random) -> Labels {
    let spell = |byte: &u8, up: bool| if up { byte.to_ascii_uppercase() } else { *byte };
    labels
        .iter()
        .map(|label| label.iter().map(|byte| spell(byte, random.chance(20))).collect())
        .collect()
}

/// A label: mostly one of a few, so that names meet.
pub fn random_label(random: &mut Random) -> Vec<u8> {
    match random.below(40) {
        0..=24 => random.pick(&[b"a", b"b", b"c", b"w"]).to_vec(),
        25..=32 => b"*".to_vec(),
        33 => b"\0".to_vec(),
        34 => b"a.b".to_vec(),
        35 => b"\xff\\".to_vec(),
        36 => b"*a".to_vec(),
        37 => b"ns".to_vec(),
        38 => vec![b'l'; 63],
        _ => vec![random.below(256) as u8; 1 + random.below(3)].to_ascii_lowercase(),
    }
}

/// A name at or below `top`, seldom as long as names get.
pub fn random_below(top: &Labels, random: &mut Random) -> Labels {
    let mut name = top.clone();
    let depth = if random.chance(3) { 6 } else { random.below(4) };
    for _ in 0..depth {
        name.push(random_label(random));
    }
    if random.chance(2) {
        // Fills up to 255 octets, or one less where no label of one octet fits.
        while let left @ 2.. = 255_usize.saturating_sub(wire(&name).len()) {
            name.push(vec![b'x'; (left - 1).min(63)]);
        }
    }
    if fits(&name) { name } else { top.clone() }
}

fn random_owner(zone: &Model, random: &mut Random) -> Labels {
    let owners: Vec<&Labels> = zone.names.keys().collect();
    let near = (*random.pick(&owners)).clone();
    let name = match random.below(4) {
        0 => random_below(&zone.apex, random),
        1 => random_below(&near, random),
        2 => [&near[..], &[random_label(random)]].concat(),
        _ => near,
    };
    if fits(&name) { name } else { zone.apex.clone() }
}

/// A name that a record may lead to.
pub fn random_target(zones: &[&Model], random: &mut Random) -> Labels {
    if zones.is_empty() || random.chance(10) {
        return random_below(&name(["", "outside", "example"][random.below(3)]), random);
    }
    let zone = random.pick(zones);
    match random.below(3) {
        0 => random_below(&zone.apex, random),
        _ => {
            let owners: Vec<&Labels> = zone.names.keys().collect();
            match owners.is_empty() {
                true => zone.apex.clone(),
                false => (*random.pick(&owners)).clone(),
            }
        }
    }
}

fn random_data(owner: &Labels, rtype: u16, zones: &[&Model], random: &mut Random) -> Vec<u8> {
    let target = |random: &mut Random| match random.below(4) {
        // A name server inside its own zone.
        0 if rtype == NS => random_below(owner, random),
        // Below itself: a DNAME that grows, or a loop.
        1 if rtype == DNAME && random.chance(10) => random_below(owner, random),
        _ => random_target(zones, random),
    };
    match rtype {
        A => vec![192, 0, 2, random.below(256) as u8],
        AAAA => [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[random.below(256) as u8]].concat(),
        NS | CNAME | DNAME => wire(&target(random)),
        MX => [&[0, random.below(3) as u8][..], &wire(&target(random))].concat(),
        SRV => [&[0, 1, 0, 2, 0, random.below(3) as u8][..], &wire(&target(random))].concat(),
        TXT => [&[60], &[b'a' + random.below(26) as u8; 58][..], &random.next().to_be_bytes()[..2]]
            .concat(),
        DS => [&[0, random.below(9) as u8, 8, 2][..], &[7; 32]].concat(),
        HINFO => b"\x03cpu\x02os".to_vec(),
        _ => random.next().to_be_bytes()[..1 + random.below(4)].to_vec(),
    }
}
