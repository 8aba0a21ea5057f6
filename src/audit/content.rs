//! Do servers that say one serial have one zone? Digests of what they transfer, or of what they
//! answer to the same questions.

use super::message::{Reply, Rr};
use crate::name::{Name, NameBuf};
use crate::replica::dial;
use crate::wire::{Rcode, Rtype, fold_data};
use crate::zone::Zone;
use sha2::{Digest, Sha256};
use std::fmt::{self, Write};

/// Questions that are sampled from a zone.
const SAMPLES_MAX: usize = 40;

/// What a whole zone was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Of every record, in canonical order.
    pub digest: Sum,
    /// The same without signatures.
    pub unsigned: Sum,
    /// How many records.
    pub records: u64,
}

/// A digest (SHA-256).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sum(pub [u8; 32]);

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Whole {
    /// Of this zone. The case of names does not count, nor does the order of records.
    pub(super) fn of(zone: &Zone) -> Self {
        let (mut all, mut unsigned) = (Sha256::new(), Sha256::new());
        for (key, node) in zone.entries() {
            let owner = key.name(zone.apex()).expect("the key of an entry of this zone");
            for set in node.sets() {
                let rtype = set.data_type();
                let mut data: Vec<_> = set.iter().map(|data| folded(rtype, data)).collect();
                data.sort_unstable();
                for data in &data {
                    let record = record(owner.as_name(), rtype, set.ttl(), data);
                    all.update(&record);
                    if !set.is_signatures() {
                        unsigned.update(&record);
                    }
                }
            }
        }
        let sum = |digest: Sha256| Sum(digest.finalize().into());
        Self { digest: sum(all), unsigned: sum(unsigned), records: zone.records() }
    }
}

/// A record as it is digested, with its length before it.
fn record(owner: Name<'_>, rtype: Rtype, ttl: u32, data: &[u8]) -> Vec<u8> {
    let len = (owner.len() + 6 + data.len()) as u64;
    let mut record = len.to_be_bytes().to_vec();
    record.extend(owner.as_wire().to_ascii_lowercase());
    record.extend(rtype.0.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend(data);
    record
}

/// The data with the names in them in lower case (RFC 4034 section 6.2).
fn folded(rtype: Rtype, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    fold_data(rtype, data, &mut out);
    out
}

/// A question whose answers are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The name.
    pub name: NameBuf,
    /// The type.
    pub rtype: Rtype,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.rtype)
    }
}

/// Questions for a zone of which no more is known than its name and its name servers: what most
/// zones have, and a name that hardly any has.
pub(super) fn usual_samples<'n>(
    apex: Name<'_>,
    name_servers: impl Iterator<Item = &'n NameBuf>,
) -> Vec<Sample> {
    const AT_APEX: [Rtype; 8] = [
        Rtype::SOA,
        Rtype::NS,
        Rtype::MX,
        Rtype::TXT,
        Rtype::A,
        Rtype::AAAA,
        Rtype::DNSKEY,
        Rtype::CAA,
    ];
    const BELOW: [(&str, Rtype); 9] = [
        ("www", Rtype::A),
        ("www", Rtype::AAAA),
        ("mail", Rtype::A),
        ("ns", Rtype::A),
        ("autodiscover", Rtype::A),
        ("_dmarc", Rtype::TXT),
        ("_acme-challenge", Rtype::TXT),
        ("_sip._tcp", Rtype::SRV),
        ("no-such-name-of-an-audit", Rtype::A),
    ];
    let mut samples: Vec<_> = AT_APEX.map(|rtype| Sample { name: apex.to_owned(), rtype }).to_vec();
    let below =
        |label: &str| if apex.is_root() { format!("{label}.") } else { format!("{label}.{apex}") };
    let names = BELOW.iter().filter_map(|(label, rtype)| {
        // A name that is too long with the label is no name of the zone.
        Some(Sample { name: below(label).parse().ok()?, rtype: *rtype })
    });
    samples.extend(names);
    let inside = name_servers.filter(|name| name.as_name().is_at_or_below(apex));
    samples.extend(inside.take(8).flat_map(|name| {
        [Rtype::A, Rtype::AAAA].map(|rtype| Sample { name: name.clone(), rtype })
    }));
    samples
}

/// Questions for names that the zone has, spread evenly over it from a random place on, and its
/// SOA.
pub(super) fn samples_of(zone: &Zone) -> Vec<Sample> {
    let owners = zone.names().len();
    let step = owners.div_ceil(SAMPLES_MAX).max(1);
    let random = dial::random() as usize;
    let apex = Sample { name: zone.apex().to_owned(), rtype: Rtype::SOA };
    let spread = zone.entries().take(owners).skip(random % step).step_by(step);
    let samples = spread.filter_map(|(key, node)| {
        let denial = |rtype| matches!(rtype, Rtype::NSEC | Rtype::SOA);
        let mut sets = node.sets().filter(|set| !set.is_signatures() && !denial(set.rtype()));
        let first = sets.next()?.rtype();
        let others = sets.map(|set| set.rtype());
        let rtype = others.last().filter(|_| random.is_multiple_of(2)).unwrap_or(first);
        Some(Sample { name: key.name(zone.apex())?, rtype })
    });
    [apex].into_iter().chain(samples).collect()
}

/// What a reply says of the zone's own data, in a number: its rcode and the records that the name
/// has, those of a referral if it is one. Where an alias leads to is another name's business, and
/// how far a server pursues it its own.
pub(super) fn sum_of(reply: &Reply, name: Name<'_>) -> u64 {
    let of_type = |records: &'_ [Rr], rtype| records.iter().any(|rr| rr.rtype == rtype);
    let (renamed, aliased) =
        (of_type(&reply.answer, Rtype::DNAME), of_type(&reply.answer, Rtype::CNAME));
    let counts = |rr: &Rr| match rr.rtype {
        Rtype::RRSIG => false,
        Rtype::DNAME => true,
        _ => !renamed && rr.owner.as_name() == name,
    };
    let records: Vec<&Rr> = match &reply.answer[..] {
        [] => reply.authority.iter().filter(|rr| rr.rtype == Rtype::NS).collect(),
        answer => answer.iter().filter(|rr| counts(rr)).collect(),
    };
    let rcode = if renamed || aliased { Rcode::NOERROR } else { reply.rcode };
    let mut records: Vec<_> = records
        .iter()
        .map(|rr| record(rr.owner.as_name(), rr.rtype, rr.ttl, &folded(rr.rtype, &rr.data)))
        .collect();
    records.sort_unstable();
    let mut digest = Sha256::new();
    digest.update(rcode.0.to_be_bytes());
    records.iter().for_each(|record| digest.update(record));
    let sum: [u8; 32] = digest.finalize().into();
    u64::from_be_bytes(*sum.first_chunk().expect("32 octets"))
}

/// Is this reply one of the zone's data? Errors are of the moment, or of access.
pub(super) fn is_comparable(reply: &Reply) -> bool {
    matches!(reply.rcode, Rcode::NOERROR | Rcode::NXDOMAIN | Rcode::YXDOMAIN)
}

/// "a, b, c and 4 more".
pub(super) fn some_of<T: fmt::Display>(all: &[T], shown_max: usize) -> String {
    let mut text = String::new();
    for (at, one) in all.iter().take(shown_max).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{one}");
    }
    if all.len() > shown_max {
        let _ = write!(text, " and {} more", all.len() - shown_max);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::file::{Limits, read_text};
    use std::path::Path;

    fn zone(text: &str) -> Zone {
        let apex: NameBuf = "example.".parse().unwrap();
        let text = format!("$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\n{text}");
        let limits = Limits::default();
        read_text(text.as_bytes(), Path::new("text"), apex.as_name(), limits)
            .unwrap()
            .build()
            .unwrap()
    }

    #[test]
    fn a_digest_sees_data_and_ttls_but_neither_order_nor_the_case_of_names() {
        let of = |text: &str| Whole::of(&zone(text));
        let one = of("a A 192.0.2.1\na A 192.0.2.2\nm MX 1 MAIL\n");
        assert_eq!(one, of("m MX 1 mail\nA A 192.0.2.2\na A 192.0.2.1\n"));
        assert_ne!(one.digest, of("a A 192.0.2.1\na A 192.0.2.3\nm MX 1 mail\n").digest);
        assert_ne!(one.digest, of("a A 192.0.2.1\na A 192.0.2.2\nm 61 MX 1 mail\n").digest);
        assert_ne!(one.digest, of("b A 192.0.2.1\nb A 192.0.2.2\nm MX 1 mail\n").digest);
        assert_ne!(one.records, of("a A 192.0.2.1\nm MX 1 mail\n").records);
    }

    #[test]
    fn signatures_are_in_one_of_two_digests() {
        let signature = |key: &str| {
            format!("a A 192.0.2.1\na RRSIG A 8 2 60 20300101000000 20200101000000 1 @ {key}\n")
        };
        let [one, two] = ["AAAA", "AAAB"].map(|key| Whole::of(&zone(&signature(key))));
        assert_eq!(one.unsigned, two.unsigned);
        assert_ne!(one.digest, two.digest);
    }

    #[test]
    fn samples_are_spread_over_the_zone_and_bounded() {
        let mut text = String::new();
        for i in 0..1000 {
            writeln!(text, "n{i:04} A 192.0.2.1").unwrap();
        }
        let samples = samples_of(&zone(&text));
        assert!((SAMPLES_MAX - 2..=SAMPLES_MAX + 2).contains(&samples.len()), "{}", samples.len());
        assert_eq!(samples[0].to_string(), "example. SOA");
        let last = samples.last().unwrap().to_string();
        assert!(*last > *"n0950", "{last}");
        assert!(samples_of(&zone("")).len() <= 2);
    }

    #[test]
    fn where_an_alias_leads_is_not_compared() {
        let rr = |owner: &str, rtype, data: &[u8]| Rr {
            owner: owner.parse().unwrap(),
            rtype,
            ttl: 60,
            data: data.into(),
        };
        let reply = |rcode, answer: Vec<Rr>| {
            let mut reply = Reply::new(0, rcode);
            reply.answer = answer;
            reply
        };
        let name: NameBuf = "a.example.".parse().unwrap();
        let sum = |reply: &Reply| sum_of(reply, name.as_name());
        let alias = || rr("A.example.", Rtype::CNAME, b"\x01B\0");
        let short = reply(Rcode::NOERROR, vec![alias()]);
        let pursued = vec![rr("b.", Rtype::A, &[192, 0, 2, 1]), alias()];
        assert_eq!(sum(&short), sum(&reply(Rcode::NXDOMAIN, pursued)));
        let other = vec![rr("a.example.", Rtype::CNAME, b"\x01c\0")];
        assert_ne!(sum(&short), sum(&reply(Rcode::NOERROR, other)));
        let none = |rcode| sum(&reply(rcode, vec![]));
        assert_ne!(none(Rcode::NOERROR), none(Rcode::NXDOMAIN));
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(some_of(&[1, 2, 3], 3), "1, 2, 3");
        assert_eq!(some_of(&[1, 2, 3, 4], 2), "1, 2 and 2 more");
    }
}
