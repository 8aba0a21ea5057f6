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

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
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

/// A request's packet, in the octets of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'f> {
    octets: &'f [u8],
    pub(super) place: Place,
}

impl Packet<'_> {
    /// Who sent it.
    #[inline]
    pub(super) fn from(&self) -> SocketAddr {
        self.address(12, 8, 0)
    }

    /// To whom.
    #[inline]
    pub(super) fn to(&self) -> SocketAddr {
        self.address(16, 24, 2)
    }

    /// The address at one of these places in the IP header, the port at this one in that of UDP.
    #[inline]
    fn address(&self, v4: usize, v6: usize, port: usize) -> SocketAddr {
        let ip = &self.octets[self.place.ip.into()..];
        if self.place.is_v4 {
            let port = u16::from_be_bytes(shared(&ip[V4 + port..]));
            SocketAddrV4::new(shared::<4>(&ip[v4..]).into(), port).into()
        } else {
            let port = u16::from_be_bytes(shared(&ip[V6 + port..]));
            SocketAddrV6::new(shared::<16>(&ip[v6..]).into(), port, 0, 0).into()
        }
    }
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
    /// Of the packet at `ip` whose UDP header this is, if it ends before `end`. As the kernel does,
    /// what is beyond the UDP length is not looked at.
    #[inline]
    fn of(udp: &[u8; UDP], ip: usize, is_v4: bool, end: usize) -> Option<Self> {
        let start = ip + if is_v4 { V4 } else { V6 } + UDP;
        let payload_end = start + usize::from(number(udp, 4)).checked_sub(UDP)?;
        if number(udp, 0) == 0 || payload_end > end {
            return None;
        }
        let at = |offset| u16::try_from(offset).ok();
        Some(Self { ip: at(ip)?, is_v4, start: at(start)?, end: at(payload_end)? })
    }

    #[inline]
    pub(super) fn payload(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }

    /// Octets of all headers of the reply.
    #[inline]
    pub(super) fn head_len(self) -> usize {
        usize::from(self.ip) + self.overhead()
    }

    /// Octets that IP and UDP take of the MTU.
    #[inline]
    pub(super) fn overhead(self) -> usize {
        if self.is_v4 { V4 + UDP } else { V6 + UDP }
    }
}

/// The packet in a frame.
#[inline]
pub(super) fn read(frame: &[u8]) -> Option<Packet<'_>> {
    let place = match part(frame, 12)? {
        TYPE_V4 => read_v4(frame, ETHERNET),
        TYPE_V6 => read_v6(frame, ETHERNET),
        TYPE_TAG => match part(frame, 12 + TAG)? {
            TYPE_V4 => read_v4(frame, ETHERNET + TAG),
            TYPE_V6 => read_v6(frame, ETHERNET + TAG),
            _ => None,
        },
        _ => None,
    };
    Some(Packet { octets: frame, place: place? })
}

#[inline]
fn read_v4(frame: &[u8], ip: usize) -> Option<Place> {
    let packet = frame.get(ip..)?;
    let head: &[u8; V4 + UDP] = packet.first_chunk()?;
    let fragment = number(head, 6) & 0x3fff;
    let len = usize::from(number(head, 2));
    if head[0] != 0x45 || fragment != 0 || head[9] != PROTOCOL_UDP || len > packet.len() {
        return None;
    }
    let from = Ipv4Addr::from(part::<4>(head, 12)?);
    let to = Ipv4Addr::from(part::<4>(head, 16)?);
    let bad = from.is_multicast()
        || from.is_broadcast()
        || from.octets()[0] == 0
        || from.is_loopback()
        || from == to;
    if bad { None } else { Place::of(head.last_chunk()?, ip, true, ip + len) }
}

#[inline]
fn read_v6(frame: &[u8], ip: usize) -> Option<Place> {
    let packet = frame.get(ip..)?;
    let head: &[u8; V6 + UDP] = packet.first_chunk()?;
    let len = V6 + usize::from(number(head, 4));
    if head[0] >> 4 != 6 || head[6] != PROTOCOL_UDP || len > packet.len() {
        return None;
    }
    let from = Ipv6Addr::from(part::<16>(head, 8)?);
    let to = Ipv6Addr::from(part::<16>(head, 24)?);
    let bad = from.is_multicast()
        || from.is_unspecified()
        || from.is_loopback()
        || from.to_ipv4_mapped().is_some()
        || from == to;
    if bad { None } else { Place::of(head.last_chunk()?, ip, false, ip + len) }
}

/// Writes the headers of the reply to the packet at `place` in `request` before the payload that is
/// in `frame` at `payload`, and what may have to follow. Where in `frame` the whole is.
///
/// There must be [`HEAD_MAX`] octets before the payload, and [`FRAME_MIN`] after its start.
#[inline]
pub(super) fn write(
    place: Place,
    request: &[u8],
    frame: &mut [u8],
    payload: Range<usize>,
) -> Range<usize> {
    let (head, body) = frame.split_at_mut(payload.start);
    let head = head.last_chunk_mut().expect("room for the headers");
    let body = &body[..payload.len()];
    // A function for each shape of packet: all its offsets are constants.
    match (usize::from(place.ip), place.is_v4) {
        (ETHERNET, true) => write_v4::<ETHERNET>(head, request, body),
        (ETHERNET, false) => write_v6::<ETHERNET>(head, request, body),
        (_, true) => write_v4::<{ ETHERNET + TAG }>(head, request, body),
        (_, false) => write_v6::<{ ETHERNET + TAG }>(head, request, body),
    }
    let start = payload.start - place.head_len();
    let padded = payload.end.max(start + FRAME_MIN);
    if padded > payload.end {
        frame[payload.end..padded].fill(0);
    }
    start..padded
}

// Sums are taken of what came and of constants, not of what was just written: to load four octets
// that were stored as two and two takes the processor longer than to add them.

#[inline]
fn write_v4<const LINK: usize>(head: &mut [u8; HEAD_MAX], asked: &[u8], body: &[u8]) {
    let asked = &asked[..LINK + V4 + UDP];
    let head = &mut head[HEAD_MAX - LINK - V4 - UDP..];
    let (link, head) = head.split_at_mut(LINK);
    let (header, udp) = head.split_at_mut(V4);
    write_link(link, &asked[..LINK]);
    let [df, offset] = DONT_FRAGMENT;
    let len = short(V4 + UDP + body.len());
    let both = u64::from_ne_bytes(shared(&asked[LINK + 12..]));
    let addresses = Sum(both.into());
    let fixed = addresses.and([0x45, 0]).and(len).and([df, offset]).and([HOPS, PROTOCOL_UDP]);
    let [first, second] = fixed.checksum();
    let [high, low] = len;
    header[..8].copy_from_slice(&[0x45, 0, high, low, 0, 0, df, offset]);
    header[8..12].copy_from_slice(&[HOPS, PROTOCOL_UDP, first, second]);
    // The halves exchanged: from is to.
    header[12..].copy_from_slice(&both.rotate_left(32).to_ne_bytes());
    write_udp(udp, &asked[LINK + V4..], body, addresses);
}

#[inline]
fn write_v6<const LINK: usize>(head: &mut [u8; HEAD_MAX], asked: &[u8], body: &[u8]) {
    let asked = &asked[..LINK + V6 + UDP];
    let head = &mut head[HEAD_MAX - LINK - V6 - UDP..];
    let (link, head) = head.split_at_mut(LINK);
    let (header, udp) = head.split_at_mut(V6);
    write_link(link, &asked[..LINK]);
    let [high, low] = short(UDP + body.len());
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, PROTOCOL_UDP, HOPS]);
    header[8..24].copy_from_slice(&asked[LINK + 24..LINK + 40]);
    header[24..40].copy_from_slice(&asked[LINK + 8..LINK + 24]);
    write_udp(udp, &asked[LINK + V6..], body, Sum(0).and_all(&asked[LINK + 8..LINK + 40]));
}

/// Back to where it came from; the tag stays.
#[inline]
fn write_link(link: &mut [u8], asked: &[u8]) {
    link[..6].copy_from_slice(&asked[6..12]);
    link[6..12].copy_from_slice(&asked[..6]);
    link[12..].copy_from_slice(&asked[12..]);
}

/// `addresses`: their sum, for the pseudo-header.
#[inline]
fn write_udp(header: &mut [u8], asked: &[u8], body: &[u8], addresses: Sum) {
    let len = short(UDP + body.len());
    let ports = u32::from_ne_bytes(shared(asked));
    // Exchanged ports have the same sum.
    let head = Sum(addresses.0 + u128::from(ports)).and([0, PROTOCOL_UDP]).and(len).and(len);
    let [first, second] = match head.and_all(body).checksum() {
        [0, 0] => [0xff, 0xff],
        checksum => checksum,
    };
    header[..4].copy_from_slice(&ports.rotate_left(16).to_ne_bytes());
    header[4..].copy_from_slice(&[len[0], len[1], first, second]);
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

#[inline]
fn part<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..)?.first_chunk().copied()
}

/// The 16-bit number at an offset in a header.
#[inline]
fn number<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

/// The first octets of headers that were read.
#[inline]
fn shared<const N: usize>(octets: &[u8]) -> [u8; N] {
    *octets.first_chunk().expect("headers that were read")
}

/// A length, as headers have it: no frame is longer than fits.
#[inline]
fn short(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("a frame has a few thousand octets").to_be_bytes()
}

/// A ones' complement sum (RFC 1071 section 2: in whatever order of octets, by as many as the
/// machine likes), taken eight octets at a time, with the carries above them.
#[derive(Clone, Copy)]
struct Sum(u128);

impl Sum {
    #[inline]
    fn and(self, octets: [u8; 2]) -> Self {
        Self(self.0 + u128::from(u16::from_ne_bytes(octets)))
    }

    /// Adds octets, of which only the last to be added may be of odd length.
    #[inline]
    fn and_all(self, octets: &[u8]) -> Self {
        let mut sum = self.0;
        let (words, mut rest) = octets.as_chunks::<8>();
        for word in words {
            sum += u128::from(u64::from_ne_bytes(*word));
        }
        if let Some((word, after)) = rest.split_first_chunk() {
            sum += u128::from(u32::from_ne_bytes(*word));
            rest = after;
        }
        if let Some((word, after)) = rest.split_first_chunk() {
            sum += u128::from(u16::from_ne_bytes(*word));
            rest = after;
        }
        if let Some(&last) = rest.first() {
            sum += u128::from(u16::from_ne_bytes([last, 0]));
        }
        Self(sum)
    }

    /// What headers have of it, as it is on the wire.
    #[inline]
    fn checksum(self) -> [u8; 2] {
        let mut carried = self.0;
        for _ in 0..2 {
            carried = (carried & u128::from(u64::MAX)) + (carried >> 64);
        }
        let mut sum = u64::try_from(carried).expect("the second carry is the last");
        for bits in [32, 16, 16, 16] {
            sum = (sum & ((1 << bits) - 1)) + (sum >> bits);
        }
        let folded = u16::try_from(sum).expect("folded until it fits");
        (!folded).to_ne_bytes()
    }
}

#[cfg(test)]
pub(super) mod tests;
