//! Headers, read and written, against a second opinion on checksums.

use super::super::rig::Datagram;
use super::*;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn datagram<'p>(to: &str, from: &str, payload: &'p [u8]) -> Datagram<'p> {
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    Datagram { macs: [OURS, THEIRS], tag: None, from, to, payload }
}

fn both(payload: &[u8]) -> [Datagram<'_>; 4] {
    let v4 = datagram("198.18.0.1:53", "198.18.0.2:4000", payload);
    let v6 = datagram("[fd18::1]:53", "[fd18::2]:4000", payload);
    let tagged =
        |plain: &Datagram<'static>| Datagram { tag: Some(0x2005), payload, ..plain.clone() };
    let tagged_v4 = tagged(&datagram("198.18.0.1:53", "198.18.0.2:4000", b""));
    let tagged_v6 = tagged(&datagram("[fd18::1]:53", "[fd18::2]:4000", b""));
    [v4, v6, tagged_v4, tagged_v6]
}

/// The ones' complement sum of 16-bit words, the slow and obvious way: 0xffff if a checksum in
/// it is right.
fn slow_sum(parts: &[&[u8]]) -> u16 {
    let octets: Vec<u8> = parts.concat();
    let words = octets
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap()
}

/// Checks all of a reply but its payload, which it returns.
fn check(frame: &[u8], asked: &Datagram<'_>) -> Vec<u8> {
    assert_eq!((&frame[..6], &frame[6..12]), (&THEIRS[..], &OURS[..]));
    let ip = match asked.tag {
        None => 14,
        Some(tag) => {
            assert_eq!(frame[12..16], [&[0x81, 0][..], &tag.to_be_bytes()].concat());
            18
        }
    };
    let read = read(frame).expect("a reply can be read");
    assert_eq!((read.from(), read.to()), (asked.to, asked.from));
    let packet = &frame[ip..];
    let (pseudo, udp) = if asked.to.is_ipv4() {
        assert_eq!(frame[ip - 2..ip], [8, 0]);
        assert_eq!(slow_sum(&[&packet[..20]]), 0xffff, "the header's checksum");
        assert_eq!((packet[0], packet[8], packet[9]), (0x45, 64, 17));
        assert_eq!(packet[4..8], [0, 0, 0x40, 0]);
        let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        (packet[12..20].to_vec(), &packet[20..len])
    } else {
        assert_eq!(frame[ip - 2..ip], [0x86, 0xdd]);
        assert_eq!((packet[0], packet[6], packet[7]), (0x60, 17, 64));
        let len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        (packet[8..40].to_vec(), &packet[40..40 + len])
    };
    let len = u16::try_from(udp.len()).unwrap().to_be_bytes();
    assert_eq!(udp[4..6], len);
    assert_ne!(udp[6..8], [0, 0], "0 says that there is none");
    assert_eq!(slow_sum(&[&pseudo, &[0, 17], &len, udp]), 0xffff, "the checksum");
    assert_eq!(frame.len(), read.place.payload().end.max(60), "filled up, and no more");
    assert!(frame[read.place.payload().end..].iter().all(|&octet| octet == 0));
    frame[read.place.payload()].to_vec()
}

/// Replies with `payload`, and checks all but that.
fn reply(asked: &Datagram<'_>, payload: &[u8]) -> Vec<u8> {
    let request = asked.frame();
    let packet = read(&request).expect("it can be read");
    assert_eq!(&request[packet.place.payload()], asked.payload);
    let mut frame = vec![0xee; 2048];
    frame[128..128 + payload.len()].copy_from_slice(payload);
    let range = write(packet.place, &request, &mut frame, 128..128 + payload.len());
    assert!(frame[..range.start].iter().chain(&frame[range.end..]).all(|&octet| octet == 0xee));
    check(&frame[range], asked)
}

#[test]
fn replies_of_every_length_go_back_with_good_checksums() {
    let payload: Vec<u8> = (0..=255).cycle().take(1472).collect();
    for asked in both(b"a request") {
        for len in 1..payload.len() {
            assert_eq!(reply(&asked, &payload[..len]), payload[..len]);
        }
    }
}

#[test]
fn a_checksum_that_comes_out_as_zero_is_written_as_all_ones() {
    // Two octets that run through all values hit the one whose sum is 0xffff.
    for asked in both(b"a request") {
        let mut ones = 0;
        for value in 0..=u16::MAX {
            let request = asked.frame();
            let packet = read(&request).unwrap();
            let mut frame = vec![0; 256];
            frame[128..130].copy_from_slice(&value.to_be_bytes());
            let range = write(packet.place, &request, &mut frame, 128..130);
            let udp = range.start + packet.place.head_len() - 8;
            ones += usize::from(frame[udp + 6..udp + 8] == [0xff, 0xff]);
            assert_ne!(frame[udp + 6..udp + 8], [0, 0]);
        }
        assert_eq!(ones, 1);
    }
}

#[test]
fn padding_and_what_follows_the_udp_length_are_not_payload() {
    for asked in both(b"padded") {
        let mut frame = asked.frame();
        frame.extend([0xaa; 30]);
        let packet = read(&frame).unwrap();
        assert_eq!(&frame[packet.place.payload()], b"padded");
        // A UDP length shorter than the IP length.
        let mut frame = asked.frame();
        let udp = frame.len() - 6 - 8;
        frame[udp + 5] -= 2;
        let packet = read(&frame).unwrap();
        assert_eq!(&frame[packet.place.payload()], b"padd");
    }
}

#[test]
fn frames_that_are_cut_anywhere_are_none() {
    for asked in both(b"whole") {
        let frame = asked.frame();
        for len in 0..frame.len() {
            assert_eq!(read(&frame[..len]), None, "{len} octets");
        }
    }
}

#[test]
fn lengths_that_lie_are_none() {
    for asked in both(b"liar") {
        let frame = asked.frame();
        let udp = frame.len() - 4 - 8;
        let ip_len = if asked.to.is_ipv4() { udp - 20 + 2 } else { udp - 40 + 4 };
        for (at, value) in [
            (udp + 4, 7_u16),
            (udp + 4, 13),
            (udp + 4, u16::MAX),
            (ip_len, 0),
            (ip_len, 7),
            (ip_len, u16::MAX),
        ] {
            let mut frame = frame.clone();
            frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
            assert_eq!(read(&frame), None, "{value} at {at}");
        }
    }
}

#[test]
fn what_cannot_be_replied_to_is_none() {
    let to = |from: &str| {
        let to = if from.starts_with('[') { "[fd18::1]:53" } else { "198.18.0.1:53" };
        datagram(to, from, b"?").frame()
    };
    for from in [
        "198.18.0.2:0",
        "0.0.0.0:7",
        "0.1.2.3:7",
        "127.0.0.1:7",
        "224.0.0.1:7",
        "255.255.255.255:7",
        "198.18.0.1:7",
        "[fd18::2]:0",
        "[::]:7",
        "[::1]:7",
        "[ff02::1]:7",
        "[::ffff:198.18.0.2]:7",
        "[fd18::1]:7",
    ] {
        assert_eq!(read(&to(from)), None, "{from}");
    }
    assert!(read(&to("198.18.0.2:1")).is_some() && read(&to("[fe80::1]:1")).is_some());
}

#[test]
fn any_octets_are_read_without_panic() {
    let mut state = 0x5eed_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let seeds = both(b"a request");
    for round in 0..200_000_usize {
        let mut frame = seeds[round % 4].frame();
        for _ in 0..1 + random() % 4 {
            let at = usize::try_from(random()).unwrap() % frame.len();
            frame[at] = random().to_le_bytes()[3];
        }
        frame.truncate(usize::try_from(random()).unwrap() % (frame.len() + 40));
        if let Some(packet) = read(&frame) {
            assert!(
                packet.place.payload().start <= packet.place.payload().end
                    && packet.place.payload().end <= frame.len()
            );
        }
    }
}
