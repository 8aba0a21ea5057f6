//! What must hold of every zone, wherever it came from.

use super::{respond, world};
use backstop::answer::Transport;
use backstop::name::{Name, NameBuf};
use backstop::view::{Access, Expiry, Served, View};
use backstop::wire::Rtype;
use backstop::zone::file::{self, Limits};
use backstop::zone::{Builder, Record, Zone};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// How large zones get here, in octets of records.
pub const LIMIT: usize = 16 << 10;

/// How many owners of a zone are asked for.
const OWNERS_MAX: usize = 8;

const TYPES: [Rtype; 8] = [
    Rtype::A,
    Rtype::NS,
    Rtype::DS,
    Rtype::MX,
    Rtype::CNAME,
    Rtype::RRSIG,
    Rtype::ANY,
    Rtype(65280),
];

pub type Kept = Vec<(Vec<u8>, Vec<u8>)>;

/// A zone as the store keeps it: all that it is, so that zones can be compared.
pub fn kept(zone: &Zone) -> Kept {
    let mut all = Vec::new();
    let flow = zone.kept(None, &mut |key, blob| {
        all.push((key.to_vec(), blob.to_vec()));
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    all
}

/// A zone that was built, read or changed is the one that its records make afresh; it survives
/// the store and its own zone file; and it can be asked.
pub fn is_sound(zone: &Zone) {
    let all = kept(zone);
    assert_eq!(all.len(), zone.owners());
    assert!(kept(&afresh(zone)) == all, "another zone than its records make");
    let restored = Zone::restore(zone.apex(), all.clone()).unwrap();
    assert!(kept(&restored) == all, "the store gives another zone back");
    let mut text = Vec::new();
    file::write(zone, &mut text).unwrap();
    let lines = text.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(lines as u64, zone.records(), "a record a line");
    let limits = Limits { octets: 64 * LIMIT };
    let read = file::read_text(&text, Path::new("written"), zone.apex(), limits);
    let read = read.unwrap_or_else(|error| panic!("{error}")).build().unwrap();
    assert!(kept(&read) == all, "its file is of another zone");
    can_be_asked(zone);
}

fn afresh(zone: &Zone) -> Zone {
    let mut builder = Builder::new(zone.apex());
    for (key, node) in zone.entries() {
        let owner = key.name(zone.apex()).unwrap();
        for set in node.sets() {
            for data in set.iter() {
                let record = Record { rtype: set.data_type(), ttl: set.ttl(), data };
                assert!(builder.add(owner.as_name(), record), "{owner} is not in the zone");
            }
        }
    }
    builder.build().unwrap()
}

/// Whatever the data are, replies are sound.
pub fn can_be_asked(zone: &Zone) {
    let mut view = View::default();
    view.put(Arc::new(Served {
        apex: zone.apex().to_owned(),
        access: Arc::new(Access::default()),
        zone: Some(Arc::new(zone.clone())),
        expiry: Arc::new(Expiry::at(Expiry::NEVER)),
        history: Arc::new([]),
    }));
    let owners = zone.entries().map(|(key, _)| key.name(zone.apex()).unwrap());
    for owner in owners.take(OWNERS_MAX) {
        for name in [below(owner.as_name()), Some(owner)].into_iter().flatten() {
            for rtype in TYPES {
                let request = world::request(&name.to_string(), rtype, Some((1232, true)));
                respond::is_sound(&request, &world::via(Transport::Udp), &view);
            }
        }
    }
}

fn below(name: Name<'_>) -> Option<NameBuf> {
    Name::from_wire(&[b"\x01m", name.as_wire()].concat()).map(Name::to_owned)
}
