//! Signing a model: what a signer would add, the signatures themselves being made up.

use super::zone::*;
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, BTreeSet};

/// The flag of NSEC3 that lets unsigned delegations be left out (RFC 5155 section 3.1.2.1).
pub const OPT_OUT: u8 = 1;

impl Model {
    /// The zone signed.
    pub fn signed(&self, denial: Denial) -> Self {
        let mut zone = Self { denial, ..self.unsigned() };
        match denial {
            Denial::Unsigned => return zone,
            Denial::Nsec => zone.add_nsec(),
            Denial::Nsec3 { iterations, salt, opt_out } => {
                zone.add_nsec3(iterations, salt, opt_out)
            }
        }
        zone.add_signatures();
        zone
    }

    /// The zone without what [`signed`](Self::signed) added.
    pub fn unsigned(&self) -> Self {
        let mut zone = self.clone();
        (zone.denial, zone.hashes, zone.signatures) = Default::default();
        for node in zone.names.values_mut() {
            node.retain(|rtype, _| ![NSEC, DNSKEY, NSEC3PARAM].contains(rtype));
        }
        zone
    }

    /// Is this name, or one above it in the zone, a cut or the owner of a DNAME?
    fn is_hidden(&self, name: &Labels) -> bool {
        (self.apex.len()..name.len()).any(|len| {
            let node = self.names.get(&name[..len]);
            let is_apex = len == self.apex.len();
            node.is_some_and(|node| {
                node.contains_key(&DNAME) || (!is_apex && node.contains_key(&NS))
            })
        })
    }

    /// The types that the parent is responsible for at this name, in order.
    fn own_types(&self, name: &Labels) -> Vec<u16> {
        let node = &self.names[name];
        let is_cut = *name != self.apex && node.contains_key(&NS);
        node.keys().copied().filter(|rtype| !is_cut || [NS, DS, NSEC].contains(rtype)).collect()
    }

    fn visible(&self) -> Vec<Labels> {
        self.names.keys().filter(|name| !self.is_hidden(name)).cloned().collect()
    }

    fn add_apex_set(&mut self, rtype: u16, data: Vec<u8>) {
        let set = Set { ttl: 60, data: [data].into() };
        self.names.get_mut(&self.apex).expect("there is an apex").insert(rtype, set);
    }

    fn negative_ttl(&self) -> u32 {
        let (ttl, data) = self.soa();
        ttl.min(u32::from_be_bytes(*data.last_chunk().expect("an SOA ends with a number")))
    }

    /// RFC 4034 section 4.
    fn add_nsec(&mut self) {
        self.add_apex_set(DNSKEY, vec![1, 0, 3, 8, 1, 2, 3]);
        let (names, ttl) = (self.visible(), self.negative_ttl());
        for (at, name) in names.iter().enumerate() {
            let mut types = self.own_types(name);
            types.extend([RRSIG, NSEC]);
            let next = &names[(at + 1) % names.len()];
            let data = [wire(next), bitmap(types)].concat();
            let node = self.names.get_mut(name).expect("it is visible");
            node.insert(NSEC, Set { ttl, data: [data].into() });
        }
    }

    /// RFC 5155 section 7.1.
    fn add_nsec3(&mut self, iterations: u8, salt: &[u8], opt_out: bool) {
        self.add_apex_set(DNSKEY, vec![1, 0, 3, 8, 1, 2, 3]);
        let parameters = |flags| [&[1, flags, 0, iterations, salt.len() as u8], salt].concat();
        self.add_apex_set(NSEC3PARAM, parameters(0));
        let mut chain = BTreeMap::new();
        for name in self.visible() {
            let mut types = self.own_types(&name);
            let is_cut = name != self.apex && types.contains(&NS);
            if !is_cut || types.contains(&DS) {
                types.push(RRSIG);
            }
            // Empty non-terminals, also those that lead to delegations left out.
            for len in self.apex.len()..name.len() {
                chain.entry(hash(&name[..len], iterations, salt)).or_insert_with(Vec::new);
            }
            if !(opt_out && is_cut && !types.contains(&DS)) {
                chain.insert(hash(&name, iterations, salt), types);
            }
        }
        let (hashes, ttl): (Vec<_>, _) = (chain.keys().copied().collect(), self.negative_ttl());
        for (at, (hash, types)) in chain.into_iter().enumerate() {
            let flags = if opt_out { OPT_OUT } else { 0 };
            let next = hashes[(at + 1) % hashes.len()];
            let data = [&parameters(flags)[..], &[20], &next, &bitmap(types)].concat();
            let label = domain::utils::base32::encode_string_hex(&hash).to_lowercase();
            let owner = [&self.apex[..], &[label.into_bytes()]].concat();
            self.hashes.insert(owner, Set { ttl, data: [data].into() });
        }
    }

    fn add_signatures(&mut self) {
        for name in self.visible() {
            let is_cut = name != self.apex && self.names[&name].contains_key(&NS);
            for rtype in self.own_types(&name).into_iter().filter(|&rtype| !(is_cut && rtype == NS))
            {
                self.add_signature(name.clone(), rtype, self.names[&name][&rtype].ttl);
            }
        }
        for (owner, set) in self.hashes.clone() {
            self.add_signature(owner, NSEC3, set.ttl);
        }
    }

    fn add_signature(&mut self, owner: Labels, covered: u16, ttl: u32) {
        let labels = owner.len() - usize::from(owner.last().is_some_and(|label| label == b"*"));
        let mut data = covered.to_be_bytes().to_vec();
        data.extend_from_slice(&[8, labels as u8]);
        data.extend_from_slice(&ttl.to_be_bytes());
        data.extend_from_slice(&[99, 0, 0, 0, 1, 0, 0, 0, 0, 7]);
        data.extend_from_slice(&wire(&self.apex));
        // The owner, the type and the version decide a real one too.
        let digest = Sha1::new().chain_update(wire(&owner)).chain_update(&data);
        data.extend_from_slice(&digest.chain_update(self.serial.to_be_bytes()).finalize());
        self.signatures.insert((owner, covered), Set { ttl, data: [data].into() });
    }
}

/// RFC 5155 section 5.
pub fn hash(name: &[Vec<u8>], iterations: u8, salt: &[u8]) -> [u8; 20] {
    let mut digest = Sha1::new().chain_update(wire(name)).chain_update(salt).finalize();
    for _ in 0..iterations {
        digest = Sha1::new().chain_update(digest).chain_update(salt).finalize();
    }
    digest.into()
}

/// RFC 4034 section 4.1.2.
pub fn bitmap(types: Vec<u16>) -> Vec<u8> {
    let types: BTreeSet<u16> = types.into_iter().collect();
    let mut out = Vec::new();
    for window in 0..=255 {
        let mut bits = [0_u8; 32];
        for rtype in types.iter().filter(|&rtype| rtype >> 8 == window) {
            bits[usize::from(rtype & 255) / 8] |= 0x80 >> (rtype & 7);
        }
        if let Some(last) = bits.iter().rposition(|&bits| bits != 0) {
            out.extend_from_slice(&[window as u8, last as u8 + 1]);
            out.extend_from_slice(&bits[..=last]);
        }
    }
    out
}

/// Does this bitmap have the type?
pub fn has_type(mut bitmap: &[u8], rtype: u16) -> bool {
    let [window, place] = rtype.to_be_bytes();
    while let [number, len, rest @ ..] = bitmap {
        let (bits, after) = rest.split_at(usize::from(*len));
        if *number == window {
            let bits = bits.get(usize::from(place) / 8);
            return bits.is_some_and(|bits| bits & (0x80 >> (place & 7)) != 0);
        }
        bitmap = after;
    }
    false
}
