//! Who may: network prefixes, and the TSIG keys that requests from them must be signed by.
//!
//! **How it fits.** `config` reads an [`Acl`] wherever access is given (allow-query,
//! allow-transfer, allow-notify, allow-update). A worker asks [`Acl::allows_address`] before it spends
//! anything on a request; whoever has verified the signature asks [`Acl::allows`].
//!
//! **Invariants.**
//! - *canonical*: no [`Prefix`] has host bits, and none is an IPv4 network in IPv6's mapped form;
//!   peers are brought to the same form before they are compared.
//! - *merged*: the networks of an [`Acl`] are kept as disjoint ranges of addresses in order, so
//!   that one binary search says whether a peer is in any of them, however many rules there are.
//!
//! **Sections.** RFC 4291 2.5.5.2 (IPv4-mapped addresses), RFC 8945 (TSIG).
//!
//! An empty list allows nobody. There are no rules that deny.

use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::name::{Name, NameBuf};

/// An IPv4 or IPv6 network: `10.0.0.0/8`, `fd00::/8`, or a single address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    family: Family,
    len: u8,
    /// The network's bits, the first of them in the highest place.
    bits: u128,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// How many bits an address has.
    fn width(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl Prefix {
    /// The network of the first `len` bits of `address`; the others are cleared. `None` if an
    /// address of this family has fewer bits.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let canonical = address.to_canonical();
        if address.is_ipv6() && canonical.is_ipv4() && len >= 96 {
            return Self::new(canonical, len - 96);
        }
        let (family, bits) = place(address);
        (len <= family.width()).then(|| Self { family, len, bits: bits & mask(len) })
    }

    /// The network of one address.
    pub fn host(address: IpAddr) -> Self {
        let (family, bits) = place(address.to_canonical());
        Self { family, len: family.width(), bits }
    }

    /// The network's first address.
    pub fn network(self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::from_bits((self.bits >> 96) as u32).into(),
            Family::V6 => Ipv6Addr::from_bits(self.bits).into(),
        }
    }

    /// How many leading bits its addresses have in common.
    pub fn length(self) -> u8 {
        self.len
    }

    /// Does it hold every address of its family?
    pub fn is_everybody(self) -> bool {
        self.len == 0
    }

    /// Is `peer` within? An IPv4-mapped IPv6 address is the IPv4 address.
    pub fn contains(self, peer: IpAddr) -> bool {
        let (family, bits) = place(peer.to_canonical());
        self.family == family && bits & mask(self.len) == self.bits
    }
}

/// An address as a prefix holds it: its family and its bits, the first in the highest place.
fn place(address: IpAddr) -> (Family, u128) {
    match address {
        IpAddr::V4(v4) => (Family::V4, u128::from(v4.to_bits()) << 96),
        IpAddr::V6(v6) => (Family::V6, v6.to_bits()),
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// As it is written in the configuration: `10.0.0.0/8`; a single address without its length.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.network())?;
        if self.len < self.family.width() { write!(f, "/{}", self.len) } else { Ok(()) }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// What precedes the slash is no address.
    #[error(
        "not an address or network: write one like \"192.0.2.1\", \"10.0.0.0/8\", \"fd00::/8\""
    )]
    Address,
    /// What follows the slash is no number, or too large.
    #[error("not a prefix length: write a number from 0 to {max} after the slash")]
    Length {
        /// The largest for this family.
        max: u8,
    },
    /// Bits are set beyond the prefix.
    #[error("bits are set beyond its first {}: write \"{network}\"", network.length())]
    HostBits {
        /// The network that the address is in.
        network: Prefix,
    },
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Address)?;
        let Some(len) = len else { return Ok(Self::host(address)) };
        let max = if address.is_ipv4() { 32 } else { 128 };
        let digits = !len.is_empty() && len.bytes().all(|byte| byte.is_ascii_digit());
        let network = len.parse().ok().filter(|_| digits).and_then(|len| Self::new(address, len));
        let network = network.ok_or(PrefixError::Length { max })?;
        if network.network().to_canonical() == address.to_canonical() {
            Ok(network)
        } else {
            Err(PrefixError::HostBits { network })
        }
    }
}

/// A prefix, and the key that a request from it must be signed by, where one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where the request must come from ...
    pub from: Prefix,
    /// ... *and* the name of the TSIG key that must have signed it.
    pub key: Option<NameBuf>,
}

/// Rules of which any one suffices.
#[derive(Clone, Default)]
pub struct Acl {
    /// As they were given.
    rules: Box<[Rule]>,
    /// Where a request must come from, whatever signs it.
    all: Ranges,
    /// Where nothing needs to sign it.
    unsigned: Ranges,
}

impl Acl {
    /// Allows whom any of `rules` allows: nobody, when there are none.
    pub fn new(rules: Vec<Rule>) -> Self {
        let unsigned = rules.iter().filter(|rule| rule.key.is_none());
        Self {
            all: rules.iter().map(|rule| rule.from).collect(),
            unsigned: unsigned.map(|rule| rule.from).collect(),
            rules: rules.into(),
        }
    }

    /// May a request from `peer`, signed by `key` (verified) or by none, do this?
    pub fn allows(&self, peer: IpAddr, key: Option<Name<'_>>) -> bool {
        if self.unsigned.contains(peer) {
            return true;
        }
        // Whoever gets here has verified a signature: beside that, to ask every rule is nothing.
        key.is_some_and(|key| {
            let signed = |rule: &Rule| rule.key.as_ref().is_some_and(|own| own.as_name() == key);
            self.rules.iter().any(|rule| rule.from.contains(peer) && signed(rule))
        })
    }

    /// May a request from `peer` do this if the right key signed it? What can be asked before a
    /// signature is verified: `false` is final.
    pub fn allows_address(&self, peer: IpAddr) -> bool {
        self.all.contains(peer)
    }

    /// The rules, as they were given.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// Networks as disjoint ranges from first to last address, in order.
#[derive(Clone, Default)]
struct Ranges {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Ranges {
    fn contains(&self, peer: IpAddr) -> bool {
        match peer.to_canonical() {
            IpAddr::V4(v4) => within(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => within(&self.v6, v6.to_bits()),
        }
    }
}

impl FromIterator<Prefix> for Ranges {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Prefix { family, len, bits } in prefixes {
            let (first, last) = (bits, bits | !mask(len));
            match family {
                Family::V4 => v4.push(((first >> 96) as u32, (last >> 96) as u32)),
                Family::V6 => v6.push((first, last)),
            }
        }
        Self { v4: merged(v4), v6: merged(v6) }
    }
}

/// Two networks are disjoint, or one holds the other: only the outermost are kept.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable_by_key(|&(first, last)| (first, Reverse(last)));
    ranges.dedup_by(|inner, outer| inner.1 <= outer.1);
    ranges.into()
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= address);
    after > 0 && address <= ranges[after - 1].1
}

/// As their rules are, one by one.
impl PartialEq for Acl {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Acl {}

impl FromIterator<Rule> for Acl {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self::new(rules.into_iter().collect())
    }
}

impl fmt::Debug for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn name(text: &str) -> NameBuf {
        text.parse().unwrap()
    }

    fn acl(rules: &[(&str, Option<&str>)]) -> Acl {
        rules
            .iter()
            .map(|(from, key)| Rule { from: from.parse().unwrap(), key: key.map(name) })
            .collect()
    }

    #[test]
    fn prefixes_are_read_and_written_the_same() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1", "fd00::/8", "::/0", "2001:db8::1"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.1/32".parse::<Prefix>(), "192.0.2.1".parse());
        assert_eq!("::ffff:10.0.0.0/104".parse::<Prefix>(), "10.0.0.0/8".parse());
        assert_eq!("::ffff:0:0/96".parse::<Prefix>(), "0.0.0.0/0".parse());
        assert_eq!("::/90".parse::<Prefix>().unwrap().to_string(), "::/90");
    }

    #[test]
    fn what_is_no_prefix_is_told_what_to_write() {
        for (text, told) in [
            ("10.0.0.1/8", "bits are set beyond its first 8: write \"10.0.0.0/8\""),
            ("fd00::1/64", "bits are set beyond its first 64: write \"fd00::/64\""),
            ("::ffff:10.0.0.0/90", "bits are set beyond its first 90: write \"::ffc0:0:0/90\""),
            ("10.0.0.0/33", "not a prefix length: write a number from 0 to 32 after the slash"),
            ("::/129", "not a prefix length: write a number from 0 to 128 after the slash"),
            ("10.0.0.0/+8", "not a prefix length: write a number from 0 to 32 after the slash"),
            ("10.0.0.0/", "not a prefix length: write a number from 0 to 32 after the slash"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap_err().to_string(), told, "{text}");
        }
        for text in ["", "10.0.0/8", "any", "10.0.0.1:53"] {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError::Address), "{text}");
        }
    }

    #[test]
    fn a_mapped_peer_is_the_ipv4_peer_and_no_ipv6_peer() {
        let mapped = ip("::ffff:10.1.2.3");
        assert!(acl(&[("10.0.0.0/8", None)]).allows(mapped, None));
        assert!(acl(&[("::ffff:10.1.2.3", None)]).allows(ip("10.1.2.3"), None));
        assert!(!acl(&[("::/0", None)]).allows(mapped, None));
        assert!(!acl(&[("::/0", None)]).allows(ip("10.1.2.3"), None));
        assert!(!acl(&[("0.0.0.0/0", None)]).allows(ip("::1"), None));
    }

    #[test]
    fn a_rule_wants_the_address_and_the_key() {
        let acl = acl(&[("10.0.0.0/8", Some("a.key.")), ("10.0.0.0/8", Some("b.key."))]);
        let (a, b, c) = (name("A.key."), name("b.key."), name("c.key."));
        assert!(acl.allows(ip("10.9.9.9"), Some(a.as_name())));
        assert!(acl.allows(ip("10.9.9.9"), Some(b.as_name())));
        assert!(!acl.allows(ip("10.9.9.9"), Some(c.as_name())));
        assert!(!acl.allows(ip("10.9.9.9"), None));
        assert!(!acl.allows(ip("11.9.9.9"), Some(a.as_name())));
        assert!(acl.allows_address(ip("10.9.9.9")) && !acl.allows_address(ip("11.9.9.9")));
    }

    #[test]
    fn a_rule_without_a_key_takes_signed_requests_too() {
        let key = name("a.key.");
        assert!(acl(&[("::1", None)]).allows(ip("::1"), Some(key.as_name())));
    }

    #[test]
    fn an_empty_list_allows_nobody() {
        assert!(!Acl::default().allows(ip("127.0.0.1"), None));
        assert!(!Acl::new(vec![]).allows_address(ip("::1")));
    }

    #[test]
    fn a_narrow_rule_does_not_hide_a_wide_one() {
        let acl = acl(&[("10.0.0.0/8", None), ("10.1.0.0/16", Some("a.key.")), ("fd00::/8", None)]);
        assert!(acl.allows(ip("10.1.2.3"), None));
        assert!(acl.allows(ip("fd12::1"), None));
        assert!(!acl.allows(ip("fe80::1"), None));
    }

    proptest::proptest! {
        /// Against the obvious way: ask every rule in turn.
        #[test]
        fn a_long_list_says_what_its_rules_say_one_by_one(
            rules in proptest::collection::vec((proptest::num::u32::ANY, 0_u8..=32, 0_u8..4), 0..300),
            peers in proptest::collection::vec(proptest::num::u32::ANY, 20),
        ) {
            let keys = [name("a."), name("b."), name("c.")];
            let rules: Vec<Rule> = rules
                .iter()
                .map(|&(bits, len, key)| Rule {
                    from: Prefix::new(Ipv4Addr::from_bits(bits & 0xc0ff_00ff).into(), len).unwrap(),
                    key: keys.get(usize::from(key)).cloned(),
                })
                .collect();
            let acl = Acl::new(rules.clone());
            for peer in peers {
                let peer = IpAddr::V4(Ipv4Addr::from_bits(peer & 0xc0ff_00ff));
                for key in [None, Some(&keys[0]), Some(&keys[2])] {
                    let slow = rules.iter().any(|rule| {
                        rule.from.contains(peer) && (rule.key.is_none() || rule.key.as_ref() == key)
                    });
                    assert_eq!(acl.allows(peer, key.map(NameBuf::as_name)), slow);
                }
                let slow = rules.iter().any(|rule| rule.from.contains(peer));
                assert_eq!(acl.allows_address(peer), slow);
            }
        }
    }
}
