//! The program that takes our queries off the network stack, assembled here.
//!
//! **How it fits.** The keeper [assembles](Filter::assemble) it for an interface and what is listened on there,
//! loads it with [`super::bpf`], and does so again when either changes.
//!
//! **What it takes**, to hand it to the AF_XDP socket of its queue: Ethernet frames no longer than
//! a frame of ours holds, sent to the interface's own address, with at most one 802.1Q tag, that
//! are UDP over IPv4 (no options, no fragment) or IPv6 (no extension header) to an address and port
//! that we listen on. All else passes to the network stack: also what comes by a queue without a
//! socket. So whatever this does not take the ordinary sockets answer.
//!
//! **Invariants.** *nothing to look up*: addresses and ports are immediates, a new list is a new
//! program. *bounded*: at most [`ADDRESSES_MAX`] addresses, so that all jumps are within reach.
//!
//! It drops nothing and judges nothing: lengths are for `frame` to check.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use super::bpf::Instruction;
use super::device::Mac;

/// Addresses that a program can hold: a packet to the last is compared with them all.
pub(super) const ADDRESSES_MAX: usize = 512;

/// enum xdp_action
pub(super) const XDP_PASS: i32 = 2;

/// What a program is made of.
pub(super) struct Filter<'a> {
    /// The interface's hardware address.
    pub(super) mac: Mac,
    /// The longest frame taken, in octets.
    pub(super) frame_max: u16,
    /// What we listen on here.
    pub(super) addresses: &'a [SocketAddr],
    /// Where the sockets are.
    pub(super) map: RawFd,
    /// What becomes of a packet whose queue has no socket.
    pub(super) miss: i32,
}

/// Offsets in an untagged frame.
mod at {
    pub(super) const TYPE: i16 = 12;
    pub(super) const IP: i16 = 14;
    pub(super) const V4_END: i32 = 14 + 20 + 8;
    pub(super) const V4_FRAGMENT: i16 = IP + 6;
    pub(super) const V4_PROTOCOL: i16 = IP + 9;
    pub(super) const V4_TO: i16 = IP + 16;
    pub(super) const V4_PORT: i16 = IP + 22;
    pub(super) const V6_END: i32 = 14 + 40 + 8;
    pub(super) const V6_NEXT: i16 = IP + 6;
    pub(super) const V6_TO: i16 = IP + 24;
    pub(super) const V6_PORT: i16 = IP + 42;
}

const TAG_LEN: i32 = 4;
const UDP: i32 = 17;

impl Filter<'_> {
    /// The program.
    pub(super) fn assemble(&self) -> Vec<Instruction> {
        let mut asm = Assembler::default();
        if self.addresses.is_empty() {
            // The verifier takes no program with steps that nothing leads to.
            asm.give_back(XDP_PASS);
            return asm.finish();
        }
        let (v4, v6) = (asm.label(), asm.label());
        self.ethernet(&mut asm, v4, v6);
        asm.place(v6);
        asm.need(at::V6_END);
        asm.load(SCRATCH, PACKET, at::IP, BYTE);
        asm.and(SCRATCH, 0xf0);
        asm.unless(SCRATCH, 0x60, PASS);
        asm.load(SCRATCH, PACKET, at::V6_NEXT, BYTE);
        asm.unless(SCRATCH, UDP, PASS);
        asm.load(PORT, PACKET, at::V6_PORT, HALF);
        for (word, offset) in V6_WORDS.into_iter().zip([0, 4, 8, 12]) {
            asm.load(word, PACKET, at::V6_TO + offset, WORD);
        }
        self.compare(&mut asm, false);
        asm.jump(PASS);
        asm.place(v4);
        asm.need(at::V4_END);
        asm.load(SCRATCH, PACKET, at::IP, BYTE);
        asm.unless(SCRATCH, 0x45, PASS);
        asm.load(SCRATCH, PACKET, at::V4_FRAGMENT, HALF);
        asm.and(SCRATCH, wire16(0x3fff));
        asm.unless(SCRATCH, 0, PASS);
        asm.load(SCRATCH, PACKET, at::V4_PROTOCOL, BYTE);
        asm.unless(SCRATCH, UDP, PASS);
        asm.load(PORT, PACKET, at::V4_PORT, HALF);
        asm.load(V6_WORDS[0], PACKET, at::V4_TO, WORD);
        self.compare(&mut asm, true);
        asm.jump(PASS);
        asm.place(HIT);
        asm.redirect(self.map, self.miss);
        asm.place(PASS);
        asm.give_back(XDP_PASS);
        asm.finish()
    }

    /// Ours, not too long, IP: jumps to `v4`, goes on for IPv6.
    fn ethernet(&self, asm: &mut Assembler, v4: Label, v6: Label) {
        let [a, b, c, d, e, f] = self.mac.0;
        let plain = asm.label();
        asm.begin();
        asm.no_longer_than(i32::from(self.frame_max));
        asm.need(at::V4_END);
        asm.load(SCRATCH, PACKET, 0, WORD);
        asm.unless(SCRATCH, i32::from_ne_bytes([a, b, c, d]), PASS);
        asm.load(SCRATCH, PACKET, 4, HALF);
        asm.unless(SCRATCH, i32::from(u16::from_ne_bytes([e, f])), PASS);
        asm.load(SCRATCH, PACKET, at::TYPE, HALF);
        asm.unless(SCRATCH, wire16(0x8100), plain);
        asm.add(PACKET, TAG_LEN);
        asm.need(at::V4_END);
        asm.load(SCRATCH, PACKET, at::TYPE, HALF);
        asm.place(plain);
        asm.when(SCRATCH, wire16(0x0800), v4);
        asm.when(SCRATCH, wire16(0x86dd), v6);
        asm.jump(PASS);
    }

    /// Jumps to the hit for each address of a family that is the packet's, with its port.
    fn compare(&self, asm: &mut Assembler, v4: bool) {
        for address in self.addresses.iter().filter(|a| a.is_ipv4() == v4).take(ADDRESSES_MAX) {
            let next = asm.label();
            match address.ip() {
                IpAddr::V4(ip) => asm.unless(V6_WORDS[0], i32::from_ne_bytes(ip.octets()), next),
                IpAddr::V6(ip) => {
                    for (register, word) in V6_WORDS.into_iter().zip(ip.octets().as_chunks().0) {
                        asm.unless(register, i32::from_ne_bytes(*word), next);
                    }
                }
            }
            asm.when(PORT, wire16(address.port()), HIT);
            asm.place(next);
        }
    }
}

/// A 16-bit number as it reads when loaded from a packet.
fn wire16(number: u16) -> i32 {
    i32::from(number.to_be())
}

// Registers. r1 to r5 are the arguments of a call, r6 to r9 survive it.
const R0: u8 = 0;
const CONTEXT: u8 = 6;
const PACKET: u8 = 2;
const END: u8 = 3;
const LIMIT: u8 = 4;
const SCRATCH: u8 = 5;
const PORT: u8 = 0;
const V6_WORDS: [u8; 4] = [5, 7, 8, 9];

// Sizes of loads: BPF_B, BPF_H, BPF_W.
const BYTE: u8 = 0x10;
const HALF: u8 = 0x08;
const WORD: u8 = 0x00;

// Classes and operations (linux/bpf_common.h, linux/bpf.h).
const LOAD: u8 = 0x61; // BPF_LDX | BPF_MEM, a word
const LOAD_IMMEDIATE: u8 = 0x18; // BPF_LD | BPF_IMM | BPF_DW, two instructions
const MAP_FD: u8 = 1; // BPF_PSEUDO_MAP_FD
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD_NUMBER: u8 = 0x07;
const AND_NUMBER: u8 = 0x57;
const JUMP: u8 = 0x05;
const JUMP_GREATER: u8 = 0x2d; // of registers, unsigned
const JUMP_LESS_OR_EQUAL: u8 = 0xbd;
const JUMP_EQUAL_32: u8 = 0x16;
const JUMP_UNEQUAL_32: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const REDIRECT_MAP: i32 = 51;

/// `struct xdp_md`
mod context {
    pub(super) const DATA: i16 = 0;
    pub(super) const DATA_END: i16 = 4;
    pub(super) const QUEUE: i16 = 16;
}

/// A place to jump to.
#[derive(Clone, Copy)]
struct Label(usize);

const PASS: Label = Label(0);
const HIT: Label = Label(1);

/// Instructions, and jumps whose distance is not known yet.
struct Assembler {
    steps: Vec<Instruction>,
    /// Where each label is, once placed.
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Default for Assembler {
    fn default() -> Self {
        Self { steps: Vec::new(), labels: vec![None; 2], jumps: Vec::new() }
    }
}

impl Assembler {
    fn step(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        let registers = match cfg!(target_endian = "little") {
            true => from << 4 | to,
            false => to << 4 | from,
        };
        self.steps.push(Instruction { code, registers, offset, immediate });
    }

    fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    fn place(&mut self, label: Label) {
        let before = self.labels[label.0].replace(self.steps.len());
        debug_assert!(before.is_none(), "a label is placed once");
    }

    fn branch(&mut self, code: u8, left: u8, right: u8, number: i32, to: Label) {
        self.jumps.push((self.steps.len(), to));
        self.step(code, left, right, 0, number);
    }

    /// Finds the packet.
    fn begin(&mut self) {
        self.step(MOVE, CONTEXT, 1, 0, 0);
        self.load(PACKET, CONTEXT, context::DATA, WORD);
        self.load(END, CONTEXT, context::DATA_END, WORD);
    }

    /// Passes packets that have fewer octets from `PACKET` on. The verifier learns from this.
    fn need(&mut self, octets: i32) {
        self.step(MOVE, LIMIT, PACKET, 0, 0);
        self.add(LIMIT, octets);
        self.branch(JUMP_GREATER, LIMIT, END, 0, PASS);
    }

    fn no_longer_than(&mut self, octets: i32) {
        self.step(MOVE, LIMIT, PACKET, 0, 0);
        self.add(LIMIT, octets + 1);
        self.branch(JUMP_LESS_OR_EQUAL, LIMIT, END, 0, PASS);
    }

    fn load(&mut self, to: u8, from: u8, offset: i16, size: u8) {
        self.step(LOAD | size, to, from, offset, 0);
    }

    fn add(&mut self, to: u8, number: i32) {
        self.step(ADD_NUMBER, to, 0, 0, number);
    }

    fn and(&mut self, to: u8, number: i32) {
        self.step(AND_NUMBER, to, 0, 0, number);
    }

    /// Jumps where the lower half of a register is this.
    fn when(&mut self, register: u8, number: i32, to: Label) {
        self.branch(JUMP_EQUAL_32, register, 0, number, to);
    }

    /// Jumps where it is not.
    fn unless(&mut self, register: u8, number: i32, to: Label) {
        self.branch(JUMP_UNEQUAL_32, register, 0, number, to);
    }

    fn jump(&mut self, to: Label) {
        self.branch(JUMP, 0, 0, 0, to);
    }

    /// Ends with the socket of the packet's queue.
    fn redirect(&mut self, map: RawFd, miss: i32) {
        self.load(PACKET, CONTEXT, context::QUEUE, WORD); // the second argument
        self.step(LOAD_IMMEDIATE, 1, MAP_FD, 0, map);
        self.step(0, 0, 0, 0, 0);
        self.step(MOVE_NUMBER, END, 0, 0, miss); // the third
        self.step(CALL, 0, 0, 0, REDIRECT_MAP);
        self.step(EXIT, 0, 0, 0, 0);
    }

    fn give_back(&mut self, verdict: i32) {
        self.step(MOVE_NUMBER, R0, 0, 0, verdict);
        self.step(EXIT, 0, 0, 0, 0);
    }

    /// The program, with its jumps.
    fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let to = self.labels[label.0].expect("every label is placed");
            let distance = isize::try_from(to).ok().zip(isize::try_from(at + 1).ok());
            let distance = distance.and_then(|(to, next)| i16::try_from(to - next).ok());
            self.steps[at].offset = distance.expect("a program is shorter than a jump reaches");
        }
        self.steps
    }
}

#[cfg(test)]
mod tests;
