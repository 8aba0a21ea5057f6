//! Signatures: what is not signed by one of the keys is never believed, and the `domain` crate
//! agrees; what we sign is. Octets are a request, and a reply to one that we signed.
//!
//! The first octet says which key is used.

use super::{Target, world};
use backstop::query::Query;
use backstop::tsig::{Algorithm, Key, Keys, Request, verify_request};
use backstop::wire::Rtype;
use domain::base::Message;
use domain::rdata::tsig::Time48;
use domain::tsig as other;
use std::str::FromStr as _;
use std::sync::{Arc, LazyLock};

pub const TARGET: Target = Target { name: "tsig", run, seeds };

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"sixteen octets and then some";

const ALGORITHMS: [(Algorithm, other::Algorithm); 4] = [
    (Algorithm::Sha1, other::Algorithm::Sha1),
    (Algorithm::Sha256, other::Algorithm::Sha256),
    (Algorithm::Sha384, other::Algorithm::Sha384),
    (Algorithm::Sha512, other::Algorithm::Sha512),
];

static KEYS: LazyLock<Vec<(Arc<Key>, Arc<other::Key>)>> = LazyLock::new(|| {
    let keys = (0..).zip(ALGORITHMS).map(|(number, (ours, theirs))| {
        let name = format!("k{number}.key");
        let key = Key::new(world::name(&name).as_name(), ours, SECRET);
        let name = other::KeyName::from_str(&name).unwrap();
        let least = Some(ours.mac_len() / 2);
        let theirs = other::Key::new(theirs, SECRET, name, least, None).unwrap();
        (Arc::new(key), Arc::new(theirs))
    });
    keys.collect()
});

fn run(data: &[u8]) {
    let Some((&which, message)) = data.split_first() else { return };
    let (key, theirs) = &KEYS[usize::from(which) % KEYS.len()];
    as_it_is(message, key, theirs);
    signed(message, key);
    as_reply(message, key);
}

/// What an attacker sends is believed only if another implementation believes it, too.
fn as_it_is(message: &[u8], key: &Arc<Key>, theirs: &Arc<other::Key>) {
    let keys = Keys::from([(key.name().to_owned(), Arc::clone(key))]);
    match verify_request(&mut message.to_vec(), &keys, NOW) {
        Request::Unsigned(rest) => assert_eq!(rest, message),
        Request::Refused { message: rest, refusal } => {
            assert!(rest.len() <= message.len());
            let mut reply = [0; 1 << 16];
            let len = refusal.add(&mut reply, 12, NOW).unwrap();
            let reply = Message::from_octets(&reply[..len]).unwrap();
            for section in reply.sections().map(|s| [s.1, s.2, s.3]).unwrap() {
                assert!(section.into_iter().all(|record| record.is_ok()));
            }
        }
        Request::Signed { message: rest, .. } => {
            assert!(rest.len() < message.len());
            let mut copy = Message::from_octets(in_lower_case(message)).unwrap();
            let now = Time48::from_u64(NOW);
            let verdict = other::ServerTransaction::request(theirs, &mut copy, now);
            assert!(matches!(verdict, Ok(Some(_))), "domain does not believe it");
        }
    }
}

/// The message with its algorithm's name in lower case: RFC 8945 section 4.2 has it compared
/// without case, `domain` knows it so only. No MAC covers the case of it.
fn in_lower_case(message: &[u8]) -> Vec<u8> {
    const BEGIN: &[u8] = b"hmac-sha";
    let mut copy = message.to_vec();
    let mut windows = message.windows(BEGIN.len());
    if let Some(at) = windows.rposition(|window| window.eq_ignore_ascii_case(BEGIN)) {
        copy[at..at + BEGIN.len()].copy_from_slice(BEGIN);
    }
    copy
}

/// Any sound request that we sign is believed, and comes back as it was; so does its reply.
fn signed(message: &[u8], key: &Arc<Key>) {
    let Ok(query) = Query::read(message) else { return };
    if query.signed {
        return;
    }
    let mut sent = message.to_vec();
    let mut verifier = key.sign_request(&mut sent, NOW);
    let keys = Keys::from([(key.name().to_owned(), Arc::clone(key))]);
    let Request::Signed { message: got, mut signer } = verify_request(&mut sent, &keys, NOW) else {
        panic!("our own signature is not believed");
    };
    assert_eq!(got, message);
    let mut reply = message.to_vec();
    reply.resize(message.len() + signer.signature_len(), 0);
    let len = signer.sign(&mut reply, message.len(), NOW).unwrap();
    assert_eq!(verifier.verify(&mut reply[..len], NOW), Ok(message));
    assert_eq!(verifier.finish(), Ok(()));
}

/// No reply is believed: nobody else knows the MAC of our request.
fn as_reply(message: &[u8], key: &Arc<Key>) {
    let mut request = world::request("example", Rtype::SOA, None);
    let mut verifier = key.sign_request(&mut request, NOW);
    assert!(verifier.verify(&mut message.to_vec(), NOW).is_err());
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (which, (key, _)) in (0_u8..).zip(KEYS.iter()) {
        for edns in [None, Some((1232, true))] {
            let plain = world::request("Example", Rtype::SOA, edns);
            for ago in [0, 300, 301] {
                let mut sent = plain.clone();
                key.sign_request(&mut sent, NOW - ago);
                seeds.push([&[which], &sent[..]].concat());
            }
            seeds.push([&[which], &plain[..]].concat());
        }
    }
    seeds
}
