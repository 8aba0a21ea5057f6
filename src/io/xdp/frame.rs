//! Packets as they are on the wire: Ethernet, one 802.1Q tag, IPv4 or IPv6, UDP.
//!
//! **How it fits.** `queue` [`read`]s what came and, once the payload of the reply is in its frame,
//! [`write()`]s what goes before it, mostly from what came: the reply goes back to where the request
//! came from, by the hardware address too, so no routes and no neighbours are looked up here.
//!
//! **Invariants.** *whatever came*: any octets are read without panic, and what is not a whole UDP
//! packet from an address that can be replied to is none. *as a card wants it*: checksums are
//! there, short frames are filled up to the least that Ethernet has.
//!
//! **Sections.** RFC 894, RFC 2464, IEEE 802.1Q; RFC 791; RFC 8200 section 8.1 (the checksum is
//! compulsory, and 0 is written as 0xffff); RFC 768; RFC 1071; RFC 6864 section 4 (an atomic
//! datagram: don't-fragment, and no identification).
//!
//! Checksums of what came are not looked at: that is the card's job, and on virtual ones they
//! are not even there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Range;

/// The longest of all headers: Ethernet, a tag, IPv6 and UDP.
pub(super) const HEAD_MAX: usize = ETHERNET + TAG + V6 + UDP;
const ETHERNET: usize = 14;
const TAG: usize = 4;
const V4: usize = 20;
const V6: usize = 40;
const UDP: usize = 8;
/// The shortest frame, without its checksum.
const FRAME_MIN: usize = 60;

const TYPE_V4: [u8; 2] = [0x08, 0x00];
const TYPE_V6: [u8; 2] = [0x86, 0xdd];
const TYPE_TAG: [u8; 2] = [0x81, 0x00];
const PROTOCOL_UDP: u8 = 17;
const HOPS: u8 = 64;
const DONT_FRAGMENT: [u8; 2] = [0x40, 0x00];

/// A request's packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) place: Place,
}

/// Where in its frame a packet has what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The IP header begins here.
    ip: u16,
    is_v4: bool,
    /// The payload.
    start: u16,
    end: u16,
}

impl Place {
    pub(super) fn payload(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }

    /// Octets of all headers of the reply.
    pub(super) fn head_len(self) -> usize {
        usize::from(self.ip) + self.overhead()
    }

    /// Octets that IP and UDP take of the MTU.
    pub(super) fn overhead(self) -> usize {
        if self.is_v4 { V4 + UDP } else { V6 + UDP }
    }
}

/// The packet in a frame.
pub(super) fn read(frame: &[u8]) -> Option<Packet> {
    let (ip, kind) = match part(frame, 12)? {
        TYPE_TAG => (ETHERNET + TAG, part(frame, 12 + TAG)?),
        kind => (ETHERNET, kind),
    };
    let packet = frame.get(ip..)?;
    let (from, to, udp) = match kind {
        TYPE_V4 => read_v4(packet)?,
        TYPE_V6 => read_v6(packet)?,
        _ => return None,
    };
    let header = packet.get(udp.clone())?;
    let ports: [u8; 4] = part(header, 0)?;
    let len = usize::from(u16::from_be_bytes(part(header, 4)?));
    // As the kernel does, what is beyond the UDP length is not looked at.
    if len < UDP || len > header.len() {
        return None;
    }
    let from_port = u16::from_be_bytes([ports[0], ports[1]]);
    if from_port == 0 {
        return None;
    }
    let at = |offset: usize| u16::try_from(ip + udp.start + offset).ok();
    let place = Place {
        ip: u16::try_from(ip).ok()?,
        is_v4: kind == TYPE_V4,
        start: at(UDP)?,
        end: at(len)?,
    };
    let to = SocketAddr::new(to, u16::from_be_bytes([ports[2], ports[3]]));
    Some(Packet { from: SocketAddr::new(from, from_port), to, place })
}

/// From, to, and where in the packet UDP is.
fn read_v4(packet: &[u8]) -> Option<(IpAddr, IpAddr, Range<usize>)> {
    let header: &[u8; V4] = packet.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if header[0] != 0x45 || fragment != 0 || header[9] != PROTOCOL_UDP || len < V4 + UDP {
        return None;
    }
    let from = Ipv4Addr::from(part::<4>(header, 12)?);
    let to = Ipv4Addr::from(part::<4>(header, 16)?);
    let bad = from.is_multicast()
        || from.is_broadcast()
        || from.octets()[0] == 0
        || from.is_loopback()
        || from == to;
    (!bad).then_some((from.into(), to.into(), V4..len))
}

fn read_v6(packet: &[u8]) -> Option<(IpAddr, IpAddr, Range<usize>)> {
    let header: &[u8; V6] = packet.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || header[6] != PROTOCOL_UDP || len < UDP {
        return None;
    }
    let from = Ipv6Addr::from(part::<16>(header, 8)?);
    let to = Ipv6Addr::from(part::<16>(header, 24)?);
    let bad = from.is_multicast()
        || from.is_unspecified()
        || from.is_loopback()
        || from.to_ipv4_mapped().is_some()
        || from == to;
    (!bad).then_some((from.into(), to.into(), V6..V6 + len))
}

/// Writes the headers of the reply to the packet at `place` in `request` before the payload that is
/// in `frame` at `payload`, and what may have to follow. Where in `frame` the whole is.
///
/// There must be [`HEAD_MAX`] octets before the payload, and [`FRAME_MIN`] after its start.
pub(super) fn write(
    place: Place,
    request: &[u8],
    frame: &mut [u8],
    payload: Range<usize>,
) -> Range<usize> {
    let start = payload.start - place.head_len();
    let (head, body) = frame.split_at_mut(payload.start);
    let (link, head) = head[start..].split_at_mut(place.ip.into());
    let (asked_link, asked) = request.split_at(place.ip.into());
    link.copy_from_slice(asked_link);
    link[..6].copy_from_slice(&asked_link[6..12]);
    link[6..12].copy_from_slice(&asked_link[..6]);
    let body = &body[..payload.len()];
    if place.is_v4 {
        write_v4(array(head), shared(asked), body);
    } else {
        write_v6(array(head), shared(asked), body);
    }
    let padded = payload.end.max(start + FRAME_MIN);
    frame[payload.end..padded].fill(0);
    start..padded
}

fn array<const N: usize>(octets: &mut [u8]) -> &mut [u8; N] {
    octets.first_chunk_mut().expect("room for the headers")
}

fn shared<const N: usize>(octets: &[u8]) -> &[u8; N] {
    octets.first_chunk().expect("headers that were read")
}

// Sums are taken of what came and of constants, not of what was just written: to load four octets
// that were stored as two and two takes the processor longer than to add them.

fn write_v4(head: &mut [u8; V4 + UDP], asked: &[u8; V4 + UDP], body: &[u8]) {
    let (header, udp) = head.split_at_mut(V4);
    let [high, low] = short(V4 + UDP + body.len());
    let [df, offset] = DONT_FRAGMENT;
    let mut fixed = [0x45, 0, high, low, 0, 0, df, offset, HOPS, PROTOCOL_UDP, 0, 0];
    let addresses = sum(0, &asked[12..20]);
    [fixed[10], fixed[11]] = checksum(sum(addresses, &fixed));
    header[..12].copy_from_slice(&fixed);
    header[12..16].copy_from_slice(&asked[16..20]);
    header[16..20].copy_from_slice(&asked[12..16]);
    write_udp(udp, &asked[V4..], body, addresses);
}

fn write_v6(head: &mut [u8; V6 + UDP], asked: &[u8; V6 + UDP], body: &[u8]) {
    let (header, udp) = head.split_at_mut(V6);
    header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    header[4..6].copy_from_slice(&short(UDP + body.len()));
    header[6..8].copy_from_slice(&[PROTOCOL_UDP, HOPS]);
    header[8..24].copy_from_slice(&asked[24..40]);
    header[24..40].copy_from_slice(&asked[8..24]);
    write_udp(udp, &asked[V6..], body, sum(0, &asked[8..40]));
}

/// `addresses`: their sum, for the pseudo-header.
fn write_udp(header: &mut [u8], asked: &[u8], body: &[u8], addresses: u64) {
    let [high, low] = short(UDP + body.len());
    header[..2].copy_from_slice(&asked[2..4]);
    header[2..4].copy_from_slice(&asked[..2]);
    // Exchanged ports have the same sum.
    let head = sum(sum(addresses, &[0, PROTOCOL_UDP, high, low]), &asked[..4]);
    let [first, second] = match checksum(sum(sum(head, &[high, low, 0, 0]), body)) {
        [0, 0] => [0xff, 0xff],
        checksum => checksum,
    };
    header[4..8].copy_from_slice(&[high, low, first, second]);
}

/// The peer's address with the interface's number where it means nothing without.
pub(super) fn scoped(address: SocketAddr, interface: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, interface).into()
        }
        other => other,
    }
}

fn part<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..)?.first_chunk().copied()
}

/// A length, as headers have it: no frame is longer than fits.
fn short(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("a frame has a few thousand octets").to_be_bytes()
}

/// Adds octets to a ones' complement sum (RFC 1071 section 2: in whatever order of octets, by as
/// many as the machine likes). All but the last piece must be of even length.
fn sum(start: u64, octets: &[u8]) -> u64 {
    let (words, rest) = octets.as_chunks::<4>();
    let mut sum = start;
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

/// The checksum of a sum, as it is on the wire.
fn checksum(mut sum: u64) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let folded = u16::try_from(sum).expect("folded until it fits");
    (!folded).to_ne_bytes()
}

#[cfg(test)]
pub(super) mod tests;
