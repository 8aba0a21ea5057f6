//! Both sides talk to each other, with someone between them.

use super::*;
use crate::xfr::{axfr_query, soa_query};

const NOW: u64 = 1_800_000_000;

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

fn key(secret: &[u8]) -> Arc<Key> {
    Arc::new(Key::new(name("Xfr.Key").as_name(), Algorithm::Sha256, secret))
}

fn keys(secret: &[u8]) -> Keys {
    Keys::from([(name("xfr.key"), key(secret))])
}

fn query() -> Vec<u8> {
    soa_query(7, name("example").as_name(), Some(1232))
}

/// What a server makes of `request`, and the reply it signs.
fn answer(request: &mut [u8], keys: &Keys, now_s: u64) -> Result<Vec<u8>, (Vec<u8>, Rcode)> {
    match verify_request(request, keys, now_s) {
        Request::Unsigned(_) => panic!("the signature is not seen"),
        Request::Refused { message, refusal } => {
            assert!(message.starts_with(&query()[..2]));
            let mut reply = query();
            (reply[2], reply[3]) = (0x80, u8::try_from(refusal.rcode().0).unwrap());
            let (error, len) = (refusal.error(), reply.len());
            reply.resize(1000, 0);
            let len = refusal.add(&mut reply, len, now_s).unwrap();
            reply.truncate(len);
            Err((reply, error))
        }
        Request::Signed { message, mut signer } => {
            assert_eq!(message, query());
            let mut reply = message.to_vec();
            reply[2] |= 0x80;
            let len = reply.len();
            reply.resize(len + signer.signature_len(), 0);
            assert_eq!(signer.sign(&mut reply, len, now_s), Ok(len + signer.signature_len()));
            Ok(reply)
        }
    }
}

#[test]
fn a_request_and_its_reply_are_verified_with_every_algorithm() {
    use Algorithm::{Sha1, Sha224, Sha256, Sha384, Sha512};
    for algorithm in [Sha1, Sha224, Sha256, Sha384, Sha512] {
        let key = Arc::new(Key::new(name("k").as_name(), algorithm, b"secret"));
        let keys = Keys::from([(name("K"), Arc::clone(&key))]);
        let mut request = query();
        let mut verifier = key.sign_request(&mut request, NOW);
        assert_eq!(request.len(), query().len() + key.signature_len());
        let mut reply = answer(&mut request, &keys, NOW + 300).unwrap();
        let mut expected = query();
        expected[2] |= 0x80;
        assert_eq!(verifier.verify(&mut reply, NOW + 300).unwrap(), expected);
        assert_eq!(verifier.finish(), Ok(()));
    }
}

/// Time 1 800 000 000 is 0x6b49d200, fudge 300 is 0x012c.
#[test]
fn the_mac_covers_what_rfc_8945_section_4_3_3_says() {
    let mut request = axfr_query(1, name("example").as_name());
    let covered = [
        &request[..],
        b"\x03xfr\x03key\0\0\xff\0\0\0\0\x0bhmac-sha256\0\0\0\x6b\x49\xd2\x00\x01\x2c\0\0\0\0",
    ]
    .concat();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(&covered);
    key(b"secret").sign_request(&mut request, NOW);
    let at = request.len() - 6 - 32;
    assert_eq!(request[at..at + 32], mac.finalize().into_bytes()[..]);
}

#[test]
fn every_changed_octet_of_a_request_is_noticed() {
    let keys = keys(b"secret");
    let mut request = query();
    key(b"secret").sign_request(&mut request, NOW);
    // The ID is free: the original one is in the record (RFC 8945 section 4.2).
    for at in 2..request.len() {
        let mut changed = request.clone();
        changed[at] ^= 0x01;
        let result = verify_request(&mut changed, &keys, NOW);
        assert!(!matches!(result, Request::Signed { .. }), "octet {at}");
    }
}

#[test]
fn an_unknown_key_and_a_wrong_secret_get_an_unsigned_reply_that_says_so() {
    for (keys, expected) in [(Keys::new(), Rcode::BADKEY), (keys(b"other"), Rcode::BADSIG)] {
        let mut request = query();
        let mut verifier = key(b"secret").sign_request(&mut request, NOW);
        let (mut reply, error) = answer(&mut request, &keys, NOW).unwrap_err();
        assert_eq!(error, expected);
        assert_eq!(reply[..4], [0, 7, 0x80, 9], "NOTAUTH");
        assert_eq!(verifier.verify(&mut reply, NOW), Err(TsigError::Rejected(expected)));
    }
}

#[test]
fn another_algorithm_under_the_same_name_is_another_key() {
    let other = Arc::new(Key::new(name("xfr.key").as_name(), Algorithm::Sha512, b"secret"));
    let mut request = query();
    other.sign_request(&mut request, NOW);
    assert_eq!(answer(&mut request, &keys(b"secret"), NOW).unwrap_err().1, Rcode::BADKEY);
}

#[test]
fn a_wrong_clock_gets_a_signed_reply_with_the_servers_time() {
    for (server, ahead_s) in [(NOW + 301, 301), (NOW - 301, -301)] {
        let mut request = query();
        let mut verifier = key(b"secret").sign_request(&mut request, NOW);
        let (mut reply, error) = answer(&mut request, &keys(b"secret"), server).unwrap_err();
        assert_eq!(error, Rcode::BADTIME);
        let verdict = verifier.verify(&mut reply, NOW);
        assert_eq!(verdict, Err(TsigError::Clock { ahead_s }));
    }
}

#[test]
fn a_reply_that_is_too_old_is_not_believed() {
    let mut request = query();
    let mut verifier = key(b"secret").sign_request(&mut request, NOW);
    let mut reply = answer(&mut request, &keys(b"secret"), NOW).unwrap();
    let verdict = verifier.verify(&mut reply, NOW + 301);
    assert_eq!(verdict, Err(TsigError::Clock { ahead_s: -301 }));
}

#[test]
fn a_reply_without_signature_or_to_another_request_is_not_believed() {
    let mut request = query();
    let mut verifier = key(b"secret").sign_request(&mut request, NOW);
    let mut bare = query();
    bare[3] = 5;
    assert_eq!(verifier.verify(&mut bare, NOW), Err(TsigError::Missing(Rcode::REFUSED)));
    let mut other = query();
    let mut stranger = key(b"secret").sign_request(&mut other, NOW + 1);
    let mut reply = answer(&mut request, &keys(b"secret"), NOW).unwrap();
    assert_eq!(stranger.verify(&mut reply, NOW), Err(TsigError::BadSignature));
}

#[test]
fn a_misplaced_doubled_or_malformed_record_is_a_format_error() {
    let mut signed = query();
    key(b"secret").sign_request(&mut signed, NOW);
    let start = query().len();
    let mut doubled = [&signed[..], &signed[start..]].concat();
    doubled[11] += 1;
    let mut misplaced = signed.clone();
    (misplaced[11], misplaced[7]) = (0, misplaced[11]);
    let trailing = [&signed[..], b"x"].concat();
    let mut class = signed.clone();
    class[start + 9 + 3] = 1;
    let cut = signed[..signed.len() - 1].to_vec();
    for mut bad in [doubled, misplaced, trailing, class, cut] {
        let (reply, error) = answer(&mut bad, &keys(b"secret"), NOW).unwrap_err();
        assert_eq!((error, reply[3]), (Rcode::FORMERR, 1));
        assert_eq!(reply.len(), query().len(), "no record is added");
    }
}

/// `request` with its MAC cut to `len` octets.
fn truncated(request: &[u8], len: u8) -> Vec<u8> {
    let mac = request.len() - 6 - 32;
    let mut out = [&request[..mac + usize::from(len)], &request[mac + 32..]].concat();
    let data = query().len() + 9 + 8;
    out[data + 1] -= 32 - len;
    out[mac - 1] = len;
    out
}

#[test]
fn a_truncated_mac_is_taken_down_to_half_of_it() {
    let mut request = query();
    key(b"secret").sign_request(&mut request, NOW);
    assert!(answer(&mut truncated(&request, 16), &keys(b"secret"), NOW).is_ok());
    for len in [0, 15] {
        let mut short = truncated(&request, len);
        assert_eq!(answer(&mut short, &keys(b"secret"), NOW).unwrap_err().1, Rcode::FORMERR);
    }
}

#[test]
fn what_is_unsigned_is_left_alone() {
    let mut plain = query();
    assert!(matches!(
        verify_request(&mut plain, &keys(b""), NOW),
        Request::Unsigned(message) if message == query()
    ));
    assert!(matches!(verify_request(&mut [0; 5], &keys(b""), NOW), Request::Unsigned(_)));
}

/// A transfer of `count` messages of which those that `signs` are signed, and its verifier.
fn sequence(count: u16, signs: impl Fn(u16) -> bool) -> (Verifier, Vec<Vec<u8>>) {
    let mut request = query();
    let verifier = key(b"secret").sign_request(&mut request, NOW);
    let keys = keys(b"secret");
    let Request::Signed { mut signer, .. } = verify_request(&mut request, &keys, NOW) else {
        panic!("not verified");
    };
    let messages = (0..count).map(|i| {
        let mut message = soa_query(i, name("example").as_name(), None);
        if signs(i) {
            let len = message.len();
            message.resize(len + signer.signature_len(), 0);
            signer.sign(&mut message, len, NOW).unwrap();
        } else {
            signer.pass(&message);
        }
        message
    });
    (verifier, messages.collect())
}

fn verify_all(verifier: &mut Verifier, messages: &mut [Vec<u8>]) -> Result<(), TsigError> {
    for (i, message) in (0..).zip(messages) {
        let bare = verifier.verify(message, NOW)?;
        assert_eq!(bare, soa_query(i, name("example").as_name(), None));
    }
    verifier.finish()
}

#[test]
fn a_sequence_is_verified_with_all_or_some_messages_signed() {
    let (mut verifier, mut messages) = sequence(5, |_| true);
    assert_eq!(verify_all(&mut verifier, &mut messages), Ok(()));
    let (mut verifier, mut messages) = sequence(301, |i| i % 100 == 0);
    assert_eq!(verify_all(&mut verifier, &mut messages), Ok(()));
}

#[test]
fn a_sequence_with_too_few_signatures_is_not_believed() {
    let (mut verifier, mut messages) = sequence(103, |i| i % 101 == 0);
    let verdict = verify_all(&mut verifier, &mut messages);
    assert_eq!(verdict, Err(TsigError::LongUnsigned));
    let (mut verifier, mut messages) = sequence(3, |i| i != 2);
    assert_eq!(verify_all(&mut verifier, &mut messages), Err(TsigError::EndUnsigned));
    let (mut verifier, mut messages) = sequence(3, |i| i != 0);
    let verdict = verify_all(&mut verifier, &mut messages);
    assert_eq!(verdict, Err(TsigError::Missing(Rcode::NOERROR)));
}

#[test]
fn a_changed_missing_or_moved_message_of_a_sequence_is_noticed() {
    for signs in [|_| true, |i| i % 5 == 0] as [fn(u16) -> bool; 2] {
        for at in 0..10 {
            let (mut verifier, mut messages) = sequence(11, signs);
            messages[at][14] ^= 1;
            let mut verdicts = messages.iter_mut().map(|m| verifier.verify(m, NOW).is_ok());
            assert!(verdicts.any(|good| !good), "message {at} changed");
            let (mut verifier, mut messages) = sequence(11, signs);
            messages.remove(at);
            let mut verdicts = messages.iter_mut().map(|m| verifier.verify(m, NOW).is_ok());
            assert!(verdicts.any(|good| !good), "message {at} missing");
            let (mut verifier, mut messages) = sequence(11, signs);
            messages.swap(at, at + 1);
            let mut verdicts = messages.iter_mut().map(|m| verifier.verify(m, NOW).is_ok());
            assert!(verdicts.any(|good| !good), "message {at} moved");
        }
    }
}

#[test]
fn a_signature_that_does_not_fit_leaves_the_message_to_be_signed_elsewhere() {
    let mut request = query();
    let mut verifier = key(b"secret").sign_request(&mut request, NOW);
    let keys = keys(b"secret");
    let Request::Signed { mut signer, .. } = verify_request(&mut request, &keys, NOW) else {
        panic!("not verified");
    };
    let mut reply = query();
    let len = reply.len();
    reply.resize(len + signer.signature_len(), 0);
    let short = reply.len() - 1;
    assert_eq!(signer.sign(&mut reply[..short], len, NOW), Err(Full));
    assert!(signer.sign(&mut reply, len, NOW).is_ok());
    assert!(verifier.verify(&mut reply, NOW).is_ok());
}

#[test]
fn no_secret_is_printed() {
    assert_eq!(format!("{:?}", key(b"secret")), "Key(xfr.key. Sha256)");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes: Vec<u8>, tail: Vec<u8>) {
        let mut request = query();
        let mut verifier = key(b"secret").sign_request(&mut request, NOW);
        let cut = tail.first().map_or(0, |&at| usize::from(at) % request.len());
        request.truncate(cut);
        request.extend_from_slice(&tail);
        for message in [&mut bytes, &mut request] {
            let _ = verify_request(message, &keys(b"secret"), NOW);
            let _ = verifier.verify(message, NOW);
        }
    }
}
