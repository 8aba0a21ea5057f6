//! The filter, frame by frame, in the kernel (BPF_PROG_TEST_RUN), where that is permitted.

use super::super::bpf::{Map, Program};
use super::super::rig::Datagram;
use super::*;
use std::io::Write as _;

/// enum xdp_action; a hit says so because the map is empty and this is what a miss becomes.
const HIT_SAYS: i32 = 1;

const MAC: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
const THEIRS: [u8; 6] = [0x06, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];
const FRAME_MAX: u16 = 1792;

/// Addresses of all kinds of bits: the first octets would be signs of a 64-bit comparison.
const LISTENING: [&str; 6] = [
    "198.18.0.1:53",
    "255.1.2.3:53",
    "10.0.0.1:5300",
    "[fd18::1]:53",
    "[2001:db8:ffff:ffff:ffff:ffff:ffff:fffe]:53",
    "[fd18::1]:5300",
];

struct Kernel {
    program: Program,
    _map: Map,
}

impl Kernel {
    /// `None`, loudly, where bpf(2) is forbidden.
    fn with(listening: &[SocketAddr]) -> Option<Self> {
        let map = match Map::new(1) {
            Ok(map) => map,
            Err(error) => {
                let line = format!("SKIP the filter of AF_XDP: {error}\n");
                std::io::stderr().write_all(line.as_bytes()).unwrap();
                return None;
            }
        };
        let filter = Filter {
            mac: Mac(MAC),
            frame_max: FRAME_MAX,
            addresses: listening,
            map: map.raw(),
            miss: HIT_SAYS,
        };
        let program = Program::load(&filter.assemble()).unwrap();
        Some(Self { program, _map: map })
    }

    fn takes(&self, frame: &[u8]) -> bool {
        match i32::try_from(self.program.test_run(frame).unwrap()).unwrap() {
            HIT_SAYS => true,
            XDP_PASS => false,
            other => panic!("the filter says {other}"),
        }
    }
}

fn listening() -> Vec<SocketAddr> {
    LISTENING.iter().map(|address| address.parse().unwrap()).collect()
}

fn datagram(to: &str) -> Datagram<'static> {
    let to: SocketAddr = to.parse().unwrap();
    let from = if to.is_ipv4() { "198.18.0.2:4000" } else { "[fd18::2]:4000" };
    Datagram {
        macs: [MAC, THEIRS],
        tag: None,
        from: from.parse().unwrap(),
        to,
        payload: b"twelve octets",
    }
}

#[test]
fn datagrams_to_what_is_listened_on_are_taken_tagged_or_not() {
    let Some(kernel) = Kernel::with(&listening()) else { return };
    for to in LISTENING {
        for tag in [None, Some(1), Some(0xffff)] {
            assert!(kernel.takes(&Datagram { tag, ..datagram(to) }.frame()), "{to} {tag:?}");
        }
    }
}

#[test]
fn datagrams_to_other_addresses_and_ports_pass() {
    let Some(kernel) = Kernel::with(&listening()) else { return };
    for to in [
        "198.18.0.1:54",
        "198.18.0.1:5300",
        "198.18.0.2:53",
        "199.18.0.1:53",
        "10.0.0.1:53",
        "[fd18::2]:53",
        "[fd18::1]:54",
        "[fd19::1]:53",
        "[fd18::1:0:0:1]:53",
        "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:53",
    ] {
        assert!(!kernel.takes(&datagram(to).frame()), "{to}");
    }
}

#[test]
fn what_is_not_for_this_card_passes() {
    let Some(kernel) = Kernel::with(&listening()) else { return };
    for at in 0..6 {
        let mut frame = datagram(LISTENING[0]).frame();
        frame[at] ^= 1;
        assert!(!kernel.takes(&frame), "octet {at} of the hardware address");
    }
}

/// Changes of single octets that make another kind of packet of it.
#[test]
fn other_protocols_options_and_fragments_pass() {
    let Some(kernel) = Kernel::with(&listening()) else { return };
    let v4: [(usize, u8, &str); 8] = [
        (12, 0x86, "another type"),
        (14, 0x46, "options"),
        (14, 0x55, "another version"),
        (20, 0x20, "more fragments"),
        (21, 0x01, "a fragment"),
        (20, 0x1f, "a late fragment"),
        (23, 6, "TCP"),
        (23, 1, "ICMP"),
    ];
    let v6: [(usize, u8, &str); 4] = [
        (14, 0x40, "another version"),
        (20, 0, "hop-by-hop options"),
        (20, 44, "a fragment"),
        (20, 58, "ICMP"),
    ];
    let both = [(LISTENING[0], &v4[..]), (LISTENING[3], &v6[..])];
    for (to, changes) in both {
        for tag in [None, Some(7)] {
            let shift = if tag.is_some() { 4 } else { 0 };
            for &(at, octet, what) in changes {
                let mut frame = Datagram { tag, ..datagram(to) }.frame();
                frame[at + shift] = octet;
                assert!(!kernel.takes(&frame), "{to}: {what}");
            }
        }
    }
    let mut allowed = datagram(LISTENING[0]).frame();
    allowed[20] = 0x40;
    assert!(kernel.takes(&allowed), "don't-fragment is no fragment");
    let mut allowed = datagram(LISTENING[3]).frame();
    allowed[14..18].fill(0x6f);
    assert!(kernel.takes(&allowed), "a flow label and a traffic class");
}

#[test]
fn tags_of_other_kinds_and_two_tags_pass() {
    let Some(kernel) = Kernel::with(&listening()) else { return };
    for to in [LISTENING[0], LISTENING[3]] {
        let tagged = Datagram { tag: Some(5), ..datagram(to) }.frame();
        let mut service = tagged.clone();
        service[12..14].copy_from_slice(&[0x88, 0xa8]);
        assert!(!kernel.takes(&service));
        let twice = [&tagged[..12], &[0x81, 0, 0, 9], &tagged[12..]].concat();
        assert!(!kernel.takes(&twice));
    }
}

#[test]
fn what_is_cut_short_or_too_long_passes() {
    let Some(kernel) = Kernel::with(&listening()) else { return };
    for to in [LISTENING[0], LISTENING[3]] {
        for tag in [None, Some(5)] {
            let whole = Datagram { tag, payload: b"", ..datagram(to) }.frame();
            assert!(kernel.takes(&whole));
            // The kernel's test needs an Ethernet header at least.
            for len in 14..whole.len() {
                assert!(!kernel.takes(&whole[..len]), "{to}: {len} octets");
            }
        }
        let head = datagram(to).frame().len() - datagram(to).payload.len();
        let longest = vec![0; usize::from(FRAME_MAX) - head];
        assert!(kernel.takes(&Datagram { payload: &longest, ..datagram(to) }.frame()));
        let longer = vec![0; usize::from(FRAME_MAX) - head + 1];
        assert!(!kernel.takes(&Datagram { payload: &longer, ..datagram(to) }.frame()));
    }
}

#[test]
fn a_filter_of_nothing_takes_nothing_and_one_of_very_much_loads() {
    let Some(kernel) = Kernel::with(&[]) else { return };
    assert!(!kernel.takes(&datagram(LISTENING[0]).frame()));
    assert!(!kernel.takes(&datagram(LISTENING[3]).frame()));
    let v4 = (0..256).map(|n| format!("198.18.1.{n}:53"));
    let v6 = (0..256).map(|n| format!("[fd18::{n:x}]:53"));
    let many: Vec<SocketAddr> = v4.chain(v6).map(|address| address.parse().unwrap()).collect();
    assert_eq!(many.len(), ADDRESSES_MAX);
    let kernel = Kernel::with(&many).unwrap();
    for to in ["198.18.1.0:53", "198.18.1.255:53", "[fd18::]:53", "[fd18::ff]:53"] {
        assert!(kernel.takes(&datagram(to).frame()), "{to}");
    }
    assert!(!kernel.takes(&datagram("[fd18::100]:53").frame()));
}
