//! Signed zones from Backstop as validators see them: Unbound, which resolves, and delv.

use std::{fs, process::Command};

use super::zones;
use crate::common::{
    backstop::Backstop,
    dns::{self, Ask},
    peers::{Setup, ZoneSetup, unbound::Unbound},
    sign::{Denial, Signed, sign, sign_by_knot},
    skip::{self, require},
};

/// What a validator must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Signed, there.
    Secure,
    /// As `Secure`, made by a wildcard.
    Expanded,
    /// Signed, proven not to be there.
    Denied,
    /// As `Denied`, by an interval without it.
    DeniedByInterval,
    /// Proven to be unsigned.
    Insecure,
}

use Found::{Denied, DeniedByInterval, Expanded, Insecure, Secure};

/// Who validates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validator {
    Unbound,
    Delv,
}

impl Found {
    /// What this validator makes of it. In an interval with the opt-out flag there may be unsigned
    /// delegations, so that what rests on it is insecure (RFC 5155 section 9.2); delv says so
    /// of wildcards only.
    fn by(self, validator: Validator, denial: Denial) -> Self {
        match (self, denial, validator) {
            (Expanded, Denial::Nsec3OptOut, _) => Insecure,
            (DeniedByInterval, Denial::Nsec3OptOut, Validator::Unbound) => Insecure,
            (Expanded, ..) => Secure,
            (DeniedByInterval, ..) => Denied,
            (found, ..) => found,
        }
    }
}

/// One question for each kind of answer; names end in the zone's.
const QUESTIONS: [(&str, &str, &str, Found); 25] = [
    ("positive", "www", "A", Secure),
    ("positive, large", "big", "TXT", Secure),
    ("the apex", "@", "DNSKEY", Secure),
    ("NXDOMAIN", "nothing", "A", DeniedByInterval),
    ("NXDOMAIN below a name", "x.y.www", "A", DeniedByInterval),
    ("NODATA", "www", "MX", Denied),
    ("NODATA at an empty name", "c.empty", "A", Denied),
    ("NODATA at the apex", "@", "SRV", Denied),
    ("wildcard", "any.wild", "A", Expanded),
    ("wildcard, deep", "x.y.wild", "TXT", Expanded),
    ("wildcard NODATA", "any.wild", "SRV", DeniedByInterval),
    ("CNAME", "one", "A", Secure),
    ("CNAME by a wildcard", "any.aliases", "A", Expanded),
    ("CNAME to NODATA", "one", "MX", Denied),
    ("DNAME", "www.old", "A", Secure),
    ("DNAME to NXDOMAIN", "nothing.old", "A", DeniedByInterval),
    ("CNAME to a DNAME", "todname", "A", Secure),
    ("CNAME to a wildcard", "towild", "A", Expanded),
    ("CNAME to NXDOMAIN", "dangling", "A", DeniedByInterval),
    ("DS", "secure", "DS", Secure),
    ("no DS", "insecure", "DS", DeniedByInterval),
    ("below a signed delegation", "www.secure", "A", Secure),
    ("below an unsigned delegation", "www.insecure", "A", Insecure),
    ("NXDOMAIN below an unsigned delegation", "nothing.insecure", "A", Insecure),
    ("a CNAME to below an unsigned delegation", "toinsecure", "A", Insecure),
];

/// A signed zone with a signed and an unsigned child, all served by one Backstop.
struct World {
    backstop: Backstop,
    anchor: String,
    zones: [String; 3],
    denial: Denial,
}

/// Who signs the zones.
type Signer = fn(&str, &str, Denial) -> Signed;

impl World {
    fn new(zone: &str, denial: Denial, signer: Signer) -> Self {
        let [secure, insecure] = ["secure", "insecure"].map(|label| format!("{label}.{zone}"));
        let child = signer(&secure, &zones::rich(&secure), denial);
        let delegations = format!(
            "toinsecure CNAME www.insecure
secure NS ns.secure
ns.secure A 127.0.0.1
insecure NS ns.insecure
ns.insecure A 127.0.0.1
{}
",
            child.anchor
        );
        let parent = signer(zone, &(zones::rich(zone) + &delegations), denial);
        let backstop = Backstop::start(&Setup::of([
            ZoneSetup::primary(zone, &parent.text),
            ZoneSetup::primary(&secure, &child.text),
            ZoneSetup::primary(&insecure, &zones::rich(&insecure)),
        ]));
        Self { backstop, anchor: parent.anchor, zones: [zone.to_owned(), secure, insecure], denial }
    }

    /// The questions as they are asked, with what this validator is to find.
    fn questions(
        &self,
        validator: Validator,
    ) -> impl Iterator<Item = (&'static str, String, &'static str, Found)> {
        QUESTIONS.into_iter().map(move |(what, name, rtype, found)| {
            let zone = &self.zones[0];
            let name = if name == "@" { zone.clone() } else { format!("{name}.{zone}") };
            (what, name, rtype, found.by(validator, self.denial))
        })
    }
}

fn unbound_validates(zone: &str, denial: Denial, signer: Signer) {
    let world = World::new(zone, denial, signer);
    let addrs = [world.backstop.addr()];
    let stubs: Vec<_> = world.zones.iter().map(|zone| (zone.as_str(), &addrs[..])).collect();
    let resolver = Unbound::start(&stubs, Some(&world.anchor));
    let mut wrong = Vec::new();
    for (what, name, rtype, found) in world.questions(Validator::Unbound) {
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

fn delv_validates(zone: &str, denial: Denial, signer: Signer) {
    let Some(delv) = skip::program("delv") else {
        skip::uninstalled("delv is not installed (scripts/test installs it as root)");
        return;
    };
    let world = World::new(zone, denial, signer);
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
    for (what, name, rtype, found) in world.questions(Validator::Delv) {
        let output = Command::new(&delv)
            .arg(format!("@{}", world.backstop.addr().ip()))
            .args(["-p", &world.backstop.addr().port().to_string(), "-a"])
            .arg(&anchor)
            .args([&format!("+root={zone}"), &name, rtype])
            .output()
            .expect("delv runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // A status line stands before each record set that was found or denied.
        let is_secure = said.contains("fully validated") && !said.contains("unsigned");
        let is_denial = said.contains(";-$NX");
        let right = match found {
            Secure => is_secure && !is_denial,
            Denied => is_secure && is_denial,
            _ => said.contains("unsigned") && !said.contains("resolution failed: broken"),
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
    unbound_validates("nsec.test.", Denial::Nsec, sign);
}

#[test]
fn unbound_validates_every_kind_of_answer_from_an_nsec3_zone() {
    require!(Bind, Unbound);
    unbound_validates("nsec3.test.", Denial::Nsec3, sign);
}

#[test]
fn unbound_validates_every_kind_of_answer_from_an_opt_out_zone() {
    require!(Bind, Unbound);
    unbound_validates("optout.test.", Denial::Nsec3OptOut, sign);
}

#[test]
fn delv_validates_every_kind_of_answer_from_an_nsec_zone() {
    require!(Bind);
    delv_validates("nsec.test.", Denial::Nsec, sign);
}

#[test]
fn delv_validates_every_kind_of_answer_from_an_nsec3_zone() {
    require!(Bind);
    delv_validates("nsec3.test.", Denial::Nsec3, sign);
}

#[test]
fn delv_validates_every_kind_of_answer_from_an_opt_out_zone() {
    require!(Bind);
    delv_validates("optout.test.", Denial::Nsec3OptOut, sign);
}

#[test]
fn unbound_validates_every_kind_of_answer_from_an_nsec_zone_that_knot_signed() {
    require!(Knot, Bind, Unbound);
    unbound_validates("nsec.test.", Denial::Nsec, sign_by_knot);
}

#[test]
fn unbound_validates_every_kind_of_answer_from_an_nsec3_zone_that_knot_signed() {
    require!(Knot, Bind, Unbound);
    unbound_validates("nsec3.test.", Denial::Nsec3, sign_by_knot);
}

#[test]
fn unbound_validates_every_kind_of_answer_from_an_opt_out_zone_that_knot_signed() {
    require!(Knot, Bind, Unbound);
    unbound_validates("optout.test.", Denial::Nsec3OptOut, sign_by_knot);
}

#[test]
fn delv_validates_every_kind_of_answer_from_an_nsec_zone_that_knot_signed() {
    require!(Knot, Bind);
    delv_validates("nsec.test.", Denial::Nsec, sign_by_knot);
}

#[test]
fn delv_validates_every_kind_of_answer_from_an_nsec3_zone_that_knot_signed() {
    require!(Knot, Bind);
    delv_validates("nsec3.test.", Denial::Nsec3, sign_by_knot);
}

#[test]
fn delv_validates_every_kind_of_answer_from_an_opt_out_zone_that_knot_signed() {
    require!(Knot, Bind);
    delv_validates("optout.test.", Denial::Nsec3OptOut, sign_by_knot);
}
