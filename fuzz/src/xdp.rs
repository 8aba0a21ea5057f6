//! Frames of any octets through a queue of AF_XDP, and a kernel that lies: no frame of memory is
//! lost or in two places, and every reply is a sound packet with good checksums.
//!
//! Octets are steps: the first says what happens, those after it how.

use super::Target;
use backstop::io::Packet;
use backstop::io::xdp::{Datagram, Rig};
use std::cell::Cell;

pub const TARGET: Target = Target { name: "xdp", run, seeds };

const RING: u32 = 16;
const MTU: usize = 1500;

fn run(data: &[u8]) {
    thread_local! {
        /// The one of the run before, if that did not panic.
        static LAST: Cell<Option<Rig>> = const { Cell::new(None) };
    }
    let mut rig = LAST.take().map_or_else(|| Rig::new(RING, MTU).unwrap(), Rig::renew);
    go(data, &mut rig);
    LAST.set(Some(rig));
}

fn go(data: &[u8], rig: &mut Rig) {
    let mut rest = data;
    while let Some((&step, after)) = rest.split_first() {
        rest = step_of(step, after, rig);
        rig.check();
    }
    // Whatever happened, it goes on once the kernel behaves.
    for _ in 0..2 * RING {
        rig.turn(&mut answer);
        while let Some(frame) = rig.send() {
            is_sound(&frame);
        }
    }
    rig.check();
    let (receiving, sending) = rig.lent();
    assert!(receiving <= RING as usize && sending <= RING as usize);
}

/// Does one step; what is left.
fn step_of<'d>(step: u8, rest: &'d [u8], rig: &mut Rig) -> &'d [u8] {
    match step % 8 {
        0..=2 => {
            let (len, rest) = rest.split_first_chunk::<2>().unwrap_or((&[0; 2], rest));
            let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
            let (frame, rest) = rest.split_at(len);
            rig.deliver(frame);
            rest
        }
        3 => {
            rig.turn(&mut answer);
            rest
        }
        4 => {
            rig.turn(&mut |_: &mut [Packet<'_>]| {});
            rest
        }
        5 => {
            if let Some(frame) = rig.send() {
                is_sound(&frame);
            }
            rest
        }
        lie => {
            let (address, rest) = rest.split_first_chunk::<3>().unwrap_or((&[0xff; 3], rest));
            let [a, b, c] = address.map(u64::from);
            if lie == 6 {
                rig.forge_arrival(a << 16 | b << 8 | c, u32::MAX >> (step >> 3));
            } else {
                rig.forge_completion(a << 16 | b << 8 | c);
            }
            rest
        }
    }
}

/// As many octets as fit, of the request backwards, over and over.
fn answer(batch: &mut [Packet<'_>]) {
    for packet in batch {
        let octets = packet.request.iter().rev().cycle();
        let count = (packet.request.len() * 3).min(packet.reply.len());
        packet.reply[..count].iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        packet.reply_len = count;
    }
}

/// An opinion of its own on what a frame is.
fn is_sound(frame: &[u8]) {
    assert!((60..=14 + 4 + MTU).contains(&frame.len()), "{} octets", frame.len());
    let ip = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
    let packet = &frame[ip..];
    let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (udp, addresses) = match frame[ip - 2..ip] {
        [8, 0] => {
            assert_eq!((packet[0], packet[9]), (0x45, 17));
            assert_eq!(sum(&packet[..20]), 0xffff);
            (&packet[20..word(2)], &packet[12..20])
        }
        [0x86, 0xdd] => {
            assert_eq!((packet[0] >> 4, packet[6]), (6, 17));
            (&packet[40..40 + word(4)], &packet[8..40])
        }
        ref other => panic!("type {other:02x?}"),
    };
    let len = u16::try_from(udp.len()).unwrap().to_be_bytes();
    assert_eq!((&udp[4..6], udp[6..8] == [0, 0]), (&len[..], false));
    assert_ne!(udp[2..4], [0, 0], "to port 0");
    let pseudo = [addresses, &[0, 17], &len, udp].concat();
    assert_eq!(sum(&pseudo), 0xffff);
}

/// The ones' complement sum (RFC 1071), the obvious way.
fn sum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let sum = words.fold(0, |sum: u32, word| (sum + word) % 0xffff);
    // 0 and 0xffff are the same; no sum here is of zeros alone.
    if sum == 0 { 0xffff } else { u16::try_from(sum).unwrap() }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let pairs = [("198.18.0.2:4000", "198.18.0.1:53"), ("[fd18::2]:4000", "[fd18::1]:53")];
    for (from, to) in pairs {
        for tag in [None, Some(7)] {
            for len in [0, 1, 12, 40, 500, 1400] {
                let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
                let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
                let macs = [[2; 6], [4; 6]];
                let frame = Datagram { macs, tag, from, to, payload: &payload }.frame();
                let len = u16::try_from(frame.len()).unwrap().to_be_bytes();
                let deliver = [&[0], &len[..], &frame].concat();
                let after: [&[u8]; 3] = [&[3, 5], &[4], &[6, 0, 8, 0, 7, 0, 8, 0, 3, 5, 5]];
                seeds.extend(after.map(|after| [&deliver.repeat(3), after].concat()));
            }
        }
    }
    seeds
}
