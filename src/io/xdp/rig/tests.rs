//! Queues turned by hand: what comes back, and that no frame is lost whatever the kernel does.

use super::super::super::{BATCH, Packet as Asked};
use super::*;
use proptest::prelude::*;

const RING: u32 = 64;
const MTU: usize = 1500;

fn ask(payload: &[u8]) -> Vec<u8> {
    datagram(payload).frame()
}

fn datagram(payload: &[u8]) -> Datagram<'_> {
    Datagram {
        macs: [[2; 6], [4; 6]],
        tag: None,
        from: "198.18.0.2:4000".parse().unwrap(),
        to: "198.18.0.1:53".parse().unwrap(),
        payload,
    }
}

fn reverse(batch: &mut [Asked<'_>]) {
    for packet in batch {
        packet.reply_len = packet.request.len();
        packet.reply[..packet.reply_len].copy_from_slice(packet.request);
        packet.reply[..packet.reply_len].reverse();
    }
}

fn payload(frame: &[u8]) -> Vec<u8> {
    frame[frame::read(frame).unwrap().place.payload()].to_vec()
}

#[test]
fn requests_are_answered_in_order_and_every_frame_comes_back() {
    let mut rig = Rig::new(RING, MTU).unwrap();
    assert_eq!(rig.lent(), (RING as usize, 0), "ready to receive from the start");
    for number in 0..20_000_u32 {
        assert!(rig.deliver(&ask(&number.to_be_bytes())));
        if number % 37 == 36 {
            while rig.turn(&mut reverse).received > 0 {}
            for expected in number - 36..=number {
                assert_eq!(payload(&rig.send().unwrap()), expected.to_le_bytes());
            }
            assert!(rig.send().is_none());
            rig.check();
        }
    }
    rig.turn(&mut reverse);
    while rig.send().is_some() {}
    rig.turn(&mut reverse);
    assert_eq!(rig.lent(), (RING as usize, 0));
}

#[test]
fn a_kernel_that_sends_nothing_costs_replies_and_no_more() {
    let mut rig = Rig::new(RING, MTU).unwrap();
    let mut total = Turn::default();
    for _ in 0..10 {
        while rig.deliver(&ask(b"never sent")) {}
        let turn = rig.turn(&mut reverse);
        total.sent += turn.sent;
        total.dropped += turn.dropped;
        assert_eq!(rig.lent().0, RING as usize, "what comes is still received");
        rig.check();
    }
    assert_eq!((total.sent, total.dropped), (RING as usize, 9 * RING as usize));
    while rig.send().is_some() {}
    assert!(rig.deliver(&ask(b"now")));
    assert_eq!(rig.turn(&mut reverse).sent, 1);
    rig.check();
}

#[test]
fn a_batch_is_bounded_and_the_rest_is_for_the_next_turn() {
    let mut rig = Rig::new(256, MTU).unwrap();
    for _ in 0..BATCH + 10 {
        assert!(rig.deliver(&ask(b"many")));
    }
    assert_eq!(rig.turn(&mut reverse).received, BATCH);
    assert_eq!(rig.turn(&mut reverse).received, 10);
    rig.check();
}

#[test]
fn the_room_for_a_reply_is_what_the_mtu_leaves() {
    for mtu in [576, 1280, 1500, 1700] {
        let mut rig = Rig::new(RING, mtu).unwrap();
        let v6 = Datagram {
            from: "[fd18::2]:4000".parse().unwrap(),
            to: "[fd18::1]:53".parse().unwrap(),
            ..datagram(b"six")
        };
        rig.deliver(&ask(b"four"));
        rig.deliver(&v6.frame());
        let mut rooms = Vec::new();
        rig.turn(&mut |batch: &mut [Asked<'_>]| {
            for packet in batch {
                rooms.push(packet.reply.len());
                packet.reply_len = packet.reply.len();
            }
        });
        assert_eq!(rooms, [mtu - 28, mtu - 48]);
        assert_eq!([rig.send().unwrap().len(), rig.send().unwrap().len()], [mtu + 14, mtu + 14]);
    }
}

#[test]
fn a_panic_loses_its_batch_and_no_frame() {
    let mut rig = Rig::new(RING, MTU).unwrap();
    for _ in 0..3 * RING {
        assert!(rig.deliver(&ask(b"bad")));
        let turn = std::panic::AssertUnwindSafe(|| {
            rig.turn(&mut |_: &mut [Asked<'_>]| std::panic::resume_unwind(Box::new(())))
        });
        assert!(std::panic::catch_unwind(turn).is_err());
    }
    assert!(rig.deliver(&ask(b"good")));
    assert_eq!(rig.turn(&mut reverse).sent, 1);
    rig.check();
}

#[test]
fn silence_sends_nothing_and_what_is_no_request_is_dropped() {
    let mut rig = Rig::new(RING, MTU).unwrap();
    rig.deliver(&ask(b"silence"));
    rig.deliver(b"no packet at all");
    let turn = rig.turn(&mut |_: &mut [Asked<'_>]| {});
    assert_eq!((turn.received, turn.sent, turn.dropped), (1, 0, 1));
    assert!(rig.send().is_none());
    rig.check();
}

/// What may happen to a queue.
#[derive(Clone, Debug)]
enum Step {
    Deliver(usize),
    Garbage(Vec<u8>),
    Turn,
    Silence,
    Send,
    ForgeArrival(u64, u32),
    ForgeCompletion(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let address = prop_oneof![0..2 * 64 * 2048_u64, any::<u64>()];
    prop_oneof![
        6 => (0..1473_usize).prop_map(Step::Deliver),
        1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Garbage),
        3 => Just(Step::Turn),
        1 => Just(Step::Silence),
        5 => Just(Step::Send),
        1 => (address.clone(), any::<u32>()).prop_map(|(at, len)| Step::ForgeArrival(at, len)),
        1 => address.prop_map(Step::ForgeCompletion),
    ]
}

proptest! {
    #[test]
    fn no_frame_is_lost_or_in_two_places_whatever_happens(
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let mut rig = Rig::new(RING, MTU).unwrap();
        for step in steps {
            match step {
                Step::Deliver(len) => _ = rig.deliver(&ask(&vec![7; len])),
                Step::Garbage(octets) => _ = rig.deliver(&octets),
                Step::Turn => _ = rig.turn(&mut reverse),
                Step::Silence => _ = rig.turn(&mut |_: &mut [Asked<'_>]| {}),
                Step::Send => _ = rig.send(),
                Step::ForgeArrival(address, len) => rig.forge_arrival(address, len),
                Step::ForgeCompletion(address) => rig.forge_completion(address),
            }
            rig.check();
        }
    }
}
