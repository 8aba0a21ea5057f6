//! A bare echo over AF_XDP: what `io::xdp` costs without a server on top. `scripts/bench xdp` sets
//! the server beside it.
//!
//!     xdp_echo INTERFACE ADDRESS:PORT...
//!
//! It sends every message back as a response (the QR bit set), until it is killed.

use backstop::io::xdp::{Keeper, Options, ZeroCopy};
use backstop::io::{Bind, Packet, Port, bind};
use std::error::Error;
use std::net::SocketAddr;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let interface = arguments.next().ok_or("usage: xdp_echo INTERFACE ADDRESS:PORT...")?;
    let listening: Vec<SocketAddr> =
        arguments.map(|address| address.parse()).collect::<Result<_, _>>()?;
    let options = Options {
        interfaces: vec![interface],
        mode: None,
        zero_copy: ZeroCopy::Auto,
        ring: 4096,
        busy_poll: None,
    };
    let sockets = listening.iter().map(|&address| bind(address, Bind::default()));
    let sockets = sockets.collect::<Result<_, _>>()?;
    let keeper = Keeper::start(options, &listening, 1)?;
    let mut port = Port::open_xdp(sockets, keeper.seat(0))?;
    loop {
        port.turn(None, &mut echo)?;
    }
}

fn echo(batch: &mut [Packet<'_>]) {
    for packet in batch {
        let len = packet.request.len().min(packet.reply.len());
        packet.reply[..len].copy_from_slice(&packet.request[..len]);
        if let Some(flags) = packet.reply[..len].get_mut(2) {
            *flags |= 0x80;
        }
        packet.reply_len = len;
    }
}
