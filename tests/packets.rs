//! A million random and mutated requests: no panic, and every reply is a sound message.
#![allow(clippy::unwrap_used)]

mod world;

use backstop::answer::{Outcome, Transport, respond};
use backstop::view::View;
use domain::base::{Message, ParsedName, Record};
use domain::rdata::AllRecordData;

/// xorshift64*: the same requests each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap() % n
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// Changes, removes and inserts some octets; now and then all of it is random.
fn mutate(random: &mut Random, message: &mut Vec<u8>) {
    if random.below(50) == 0 {
        let len = random.below(120);
        message.clear();
        message.extend((0..len).map(|_| random.byte()));
        return;
    }
    for _ in 0..random.below(4) {
        if message.is_empty() {
            return;
        }
        let at = random.below(message.len());
        match random.below(6) {
            0 => message.truncate(at),
            1 => message.insert(at, random.byte()),
            2 => message[at] ^= 1 << random.below(8),
            3 => message[at] = *random.pick(&[0, 1, 0x3f, 0x40, 0xc0, 0xc0, 0xff]),
            4 => message.extend_from_slice(random.pick(TAILS)),
            _ => message[at] = random.byte(),
        }
    }
}

impl Random {
    fn pick<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// Records that change how a request is read.
const TAILS: &[&[u8]] = &[
    b"\0\0\x29\x04\xd0\0\0\x80\0\0\0",
    b"\0\0\x29\xff\xff\0\0\x80\0\0\x0c\0\x0a\0\x08abcdefgh",
    b"\0\0\x29\0\0\0\x01\0\0\0\0",
    b"\xc0\x0c\0\xfa\0\xff\0\0\0\0\0\0",
    b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\0",
];

fn check(request: &[u8], reply: &[u8], transport: Transport) {
    assert_eq!(request[2] & 0x80, 0, "never a reply to a response");
    assert_eq!(reply[..2], request[..2], "the id");
    assert_ne!(reply[2] & 0x80, 0, "QR");
    assert_eq!(reply[2] & 0x79, request[2] & 0x79, "opcode and RD");
    assert_eq!(reply[3] & 0xf0, request[3] & 0x10, "RA, Z, AD are clear, CD is copied");
    assert!(transport == Transport::Tcp || reply.len() <= 1232);
    let message = Message::from_octets(reply).unwrap();
    let (_, answer, authority, additional) = message.sections().unwrap();
    let mut end = 0;
    for section in [answer, authority, additional] {
        for record in section {
            let record = record.unwrap();
            end += 1;
            let _: Record<ParsedName<_>, AllRecordData<_, _>> =
                record.into_record().unwrap().unwrap();
        }
    }
    let counts = message.header_counts();
    assert_eq!(end, counts.ancount() + counts.nscount() + counts.arcount());
}

#[test]
fn every_reply_to_a_million_requests_is_a_sound_message() {
    let views = world::views();
    let all = world::requests();
    let seeds = [0x5eed, 0x1dea, 0xf00d, 0xcafe];
    let replies: usize = std::thread::scope(|scope| {
        let threads = seeds.map(|seed| {
            let (view, all) = (&views[usize::try_from(seed % 3).unwrap()], &all);
            scope.spawn(move || run(view, all, Random(seed), 250_000))
        });
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    });
    assert!(replies > 700_000, "{replies} replies");
}

/// Sends `count` requests. How many were answered?
fn run(view: &View, all: &[Vec<u8>], mut random: Random, count: usize) -> usize {
    let mut reply = vec![0; 65535];
    let (mut request, mut replies) = (Vec::new(), 0);
    for _ in 0..count {
        request.clone_from(random.pick(all));
        mutate(&mut random, &mut request);
        let transport = *random.pick(&[Transport::Udp, Transport::Udp, Transport::Tcp]);
        let mut via = world::via(transport);
        if random.below(3) == 0 {
            via.peer = "fd18::1".parse().unwrap();
        }
        if let Outcome::Reply { len, .. } = respond(&request, &via, view, &mut reply) {
            check(&request, &reply[..len], transport);
            replies += 1;
        }
    }
    replies
}
