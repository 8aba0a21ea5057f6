//! Where it listens.

use super::scripted::watch::{socket, www};
use super::scripted::*;
use crate::common::dns::{Ask, tcp};
use crate::common::ports;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

fn listening(address: SocketAddr, listen: &[SocketAddr], ip: [u8; 4]) -> (Secondary, Primary) {
    let primary =
        Primary::on(ip, |asked| Zone::new(&asked.zone, [3600, 1, 86_400], 1).answer(asked));
    let mut secondary = Secondary::stopped(address, listen);
    secondary.configure(&format!("[[zone]]\nname = \"at.test\"\n{}\n", primary.config()));
    secondary.run();
    secondary.wait_serial("at.test.", 1);
    (secondary, primary)
}

fn answers(address: SocketAddr) {
    // It also looks where the reply comes from.
    assert_eq!(www(&socket(address), address, "at.test.", 1).expect("UDP").version, Some(1));
    assert_eq!(tcp(address, &Ask::new("at.test.", "SOA")).expect("TCP").rcode, "NOERROR");
}

#[test]
fn ipv6_alone_will_do() {
    let address = ports::free_on(Ipv6Addr::LOCALHOST.into());
    let _running = listening(address, &[address], [127, 10, 0, 1]);
    answers(address);
}

#[test]
fn with_a_wildcard_the_answer_comes_from_the_address_that_was_asked() {
    for (any, asked) in [
        (
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            vec![Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into()],
        ),
        (Ipv6Addr::UNSPECIFIED.into(), vec![IpAddr::from(Ipv6Addr::LOCALHOST)]),
    ] {
        let listen = ports::free_on(any);
        let at = |ip: IpAddr| SocketAddr::new(ip, listen.port());
        let _running = listening(at(asked[0]), &[listen], [127, 10, 0, 2]);
        asked.into_iter().map(at).for_each(answers);
    }
}

#[test]
fn an_address_that_is_not_up_yet_is_bound_all_the_same() {
    let here = ports::free();
    let later = SocketAddr::new([198, 18, 77, 7].into(), here.port());
    let _running = listening(here, &[later, here], [127, 10, 0, 3]);
    answers(here);
}
