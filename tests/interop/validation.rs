//! Signed zones from Backstop as validators see them: Unbound, which resolves, and delv.

use std::{fs, process::Command};

use super::zones;
use crate::common::{
    backstop::Backstop,
    dns::{self, Ask},
    peers::{Setup, ZoneSetup, unbound::Unbound},
    sign::{Denial, sign},
    skip::{self, require},
};

/// What a validator must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Signed, there.
    Secure,
    /// Signed, proven not to be there.
    SecureDenial,
    /// Proven to be unsigned.
    Insecure,
    /// As `SecureDenial`, but under opt-out only proven to be unsigned: there might be an unsigned
    /// delegation (RFC 5155 section 9.2).
    SecureDenialOrOptOut,
}

use Found::*;

/// One question for each kind of answer; names end in the zone's.
const QUESTIONS: [(&str, &str, &str, Found); 18] = [
    ("positive", "www", "A", Secure),
    ("positive, large", "big", "TXT", Secure),
    ("the apex", "@", "DNSKEY", Secure),
    ("NXDOMAIN", "nothing", "A", SecureDenialOrOptOut),
    ("NXDOMAIN below a name", "x.y.www", "A", SecureDenialOrOptOut),
    ("NODATA", "www", "MX", SecureDenial),
    ("NODATA at an empty name", "c.empty", "A", SecureDenial),
    ("NODATA at the apex", "@", "SRV", SecureDenial),
    ("wildcard", "any.wild", "A", Secure),
    ("wildcard, deep", "x.y.wild", "TXT", Secure),
    ("wildcard NODATA", "any.wild", "SRV", SecureDenialOrOptOut),
    ("CNAME", "one", "A", Secure),
    ("CNAME by a wildcard", "any.aliases", "A", Secure),
    ("CNAME to NODATA", "one", "MX", SecureDenial),
    ("DNAME", "www.old", "A", Secure),
    ("DS", "secure", "DS", Secure),
    ("no DS", "insecure", "DS", SecureDenialOrOptOut),
    ("below a signed delegation", "www.secure", "A", Secure),
];

const BELOW_UNSIGNED: (&str, &str, &str, Found) =
    ("below an unsigned delegation", "www.insecure", "A", Insecure);

/// A signed zone with a signed and an unsigned child, all served by one Backstop.
struct World {
    backstop: Backstop,
    anchor: String,
    zones: [String; 3],
    denial: Denial,
}

impl World {
    fn new(zone: &str, denial: Denial) -> Self {
        let [secure, insecure] = ["secure", "insecure"].map(|label| format!("{label}.{zone}"));
        let child = sign(&secure, &zones::rich(&secure), denial);
        let delegations = format!(
            "secure NS ns.secure
ns.secure A 127.0.0.1
insecure NS ns.insecure
ns.insecure A 127.0.0.1
{}
",
            child.anchor
        );
        let parent = sign(zone, &(zones::rich(zone) + &delegations), denial);
        let backstop = Backstop::start(&Setup::of([
            ZoneSetup::primary(zone, &parent.text),
            ZoneSetup::primary(&secure, &child.text),
            ZoneSetup::primary(&insecure, &zones::rich(&insecure)),
        ]));
        Self { backstop, anchor: parent.anchor, zones: [zone.to_owned(), secure, insecure], denial }
    }

    /// The questions as they are asked, with what is to be found in this zone.
    fn questions(&self) -> impl Iterator<Item = (&'static str, String, &'static str, Found)> {
        QUESTIONS.into_iter().chain([BELOW_UNSIGNED]).map(|(what, name, rtype, found)| {
            let zone = &self.zones[0];
            let name = if name == "@" { zone.clone() } else { format!("{name}.{zone}") };
            let found = match found {
                SecureDenialOrOptOut if self.denial == Denial::Nsec3OptOut => Insecure,
                SecureDenialOrOptOut => SecureDenial,
                found => found,
            };
            (what, name, rtype, found)
        })
    }
}

fn unbound_validates(zone: &str, denial: Denial) {
    let world = World::new(zone, denial);
    let addrs = [world.backstop.addr()];
    let stubs: Vec<_> = world.zones.iter().map(|zone| (zone.as_str(), &addrs[..])).collect();
    let resolver = Unbound::start(&stubs, Some(&world.anchor));
    let mut wrong = Vec::new();
    for (what, name, rtype, found) in world.questions() {
        let ask = Ask::new(&name, rtype).recursion_desired().dnssec();
        let reply = dns::tcp(resolver.addr(), &ask).expect("a reply");
        let secure = reply.flags.contains("AD");
        let right = reply.rcode != "SERVFAIL" && secure == (found != Insecure);
        if !right {
            wrong.push(format!("{what}: {name} {rtype} should be {found:?}: {reply}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), resolver.log());
}

fn delv_validates(zone: &str, denial: Denial) {
    let Some(delv) = skip::program("delv") else {
        skip::uninstalled("delv is not installed (scripts/test installs it as root)");
        return;
    };
    let world = World::new(zone, denial);
    let anchor = world.backstop.dir().join("anchor");
    let ds = world.anchor.split_once("DS ").expect("a DS record").1;
    let mut words = ds.splitn(4, ' ');
    let mut next = || words.next().expect("four fields");
    let (tag, algorithm, digest) = (next(), next(), next());
    let hash = next().replace(' ', "");
    let text = format!(
        "trust-anchors {{ \"{zone}\" static-ds {tag} {algorithm} {digest} \"{hash}\"; }};\n"
    );
    fs::write(&anchor, text).expect("a file");
    let mut wrong = Vec::new();
    for (what, name, rtype, found) in world.questions() {
        let output = Command::new(&delv)
            .arg(format!("@{}", world.backstop.addr().ip()))
            .args(["-p", &world.backstop.addr().port().to_string(), "-a"])
            .arg(&anchor)
            .args([&format!("+root={zone}"), &name, rtype])
            .output()
            .expect("delv runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let right = match found {
            Secure => said.contains("; fully validated") && !said.contains("negative"),
            SecureDenial => said.contains("; negative response, fully validated"),
            Insecure => said.contains("; unsigned answer") || said.contains(", unsigned"),
            SecureDenialOrOptOut => unreachable!("made definite before"),
        };
        if !right {
            wrong.push(format!("{what}: {name} {rtype} should be {found:?}:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unbound_validates_every_kind_of_answer_from_an_nsec_zone() {
    require!(Bind, Unbound);
    unbound_validates("nsec.test.", Denial::Nsec);
}

#[test]
fn unbound_validates_every_kind_of_answer_from_an_nsec3_zone() {
    require!(Bind, Unbound);
    unbound_validates("nsec3.test.", Denial::Nsec3);
}

#[test]
fn unbound_validates_every_kind_of_answer_from_an_opt_out_zone() {
    require!(Bind, Unbound);
    unbound_validates("optout.test.", Denial::Nsec3OptOut);
}

#[test]
fn delv_validates_every_kind_of_answer_from_an_nsec_zone() {
    require!(Bind);
    delv_validates("nsec.test.", Denial::Nsec);
}

#[test]
fn delv_validates_every_kind_of_answer_from_an_nsec3_zone() {
    require!(Bind);
    delv_validates("nsec3.test.", Denial::Nsec3);
}

#[test]
fn delv_validates_every_kind_of_answer_from_an_opt_out_zone() {
    require!(Bind);
    delv_validates("optout.test.", Denial::Nsec3OptOut);
}
