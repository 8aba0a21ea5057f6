//! Replies given again: what is, what is not, and for how long.

use super::super::recent::{LOOKS, Luck};
use super::*;
use crate::acl::Rule;

const ZONE: &str = "@ SOA ns h 1 2 3 4 300
    @ NS ns
    @ MX 10 ns
    ns A 192.0.2.1
    a A 192.0.2.2
    a AAAA 2001:db8::2
    long TXT \"0123456789012345678901234567890123456789012345678901234567890123456789\"
    *.w A 192.0.2.3
    c CNAME a
    d DNAME elsewhere
    x.elsewhere A 192.0.2.4
    sub NS ns.sub
    ns.sub A 192.0.2.5";

fn one_zone(access: Access) -> View {
    let mut view = View::default();
    view.put(served("example.", Some(zone("example.", ZONE)), access));
    view
}

/// A worker's table, and the view that it answers from.
struct Desk<'v> {
    recent: Recent,
    view: &'v View,
    version: u64,
}

impl<'v> Desk<'v> {
    fn new(view: &'v View) -> Self {
        Self { recent: Recent::new(7), view, version: 0 }
    }

    /// Asks as a worker would be asked. The reply, and whether it was given before.
    fn ask(&mut self, request: &[u8], via: &Via<'_>) -> (Vec<u8>, bool) {
        let mut reply = vec![0xee; 1400];
        self.recent.begin(self.version, via.now_ms);
        let (outcome, again) = match self.recent.repeat(request, via, &mut reply) {
            Ok(outcome) => (outcome, true),
            Err(vacancy) => {
                let outcome = respond(request, via, self.view, &mut reply);
                if let Some(vacancy) = vacancy {
                    self.recent.keep(vacancy, request, via, &reply, outcome);
                }
                (outcome, false)
            }
        };
        let Outcome::Reply { len, .. } = outcome else { panic!("{outcome:?}") };
        let mut anew = vec![0xee; 1400];
        assert_eq!(respond(request, via, self.view, &mut anew), outcome);
        assert_eq!(reply[..len], anew[..len], "as if it were made anew");
        (reply[..len].to_vec(), again)
    }

    /// Is the reply to this, asked three times, one that was given before?
    fn repeats(&mut self, ask: &Ask) -> bool {
        let [_, _, third] = [(); 3].map(|()| self.ask(&ask.message(), &ask.via()).1);
        third
    }
}

#[test]
fn the_third_of_a_kind_is_repeated_with_its_own_id_and_spelling() {
    let view = one_zone(Access::default());
    let names = ["example.", "a.example.", "q.w.example.", "c.example.", "no.example."];
    for name in names.into_iter().chain(["x.sub.example.", "long.example.", "A.exAMPLE."]) {
        for rtype in [Rtype::A, Rtype::MX, Rtype::TXT] {
            for asked in [ask(name, rtype), ask(name, rtype).edns(1232), ask(name, rtype).signed()]
            {
                let mut desk = Desk::new(&view);
                let mut message = asked.message();
                let mut spell = |id: u8| {
                    message[..2].copy_from_slice(&[id, !id]);
                    let end = 12 + name.len() + 1 - usize::from(name == ".");
                    for octet in &mut message[12..end] {
                        if octet.is_ascii_alphabetic() && id % 2 == 1 {
                            *octet ^= 0x20;
                        }
                    }
                    desk.ask(&message, &asked.via()).1
                };
                assert_eq!([1, 2, 3, 4, 5].map(&mut spell), [false, false, true, true, true]);
            }
        }
    }
}

#[test]
fn what_differs_in_more_than_id_and_spelling_is_not_alike() {
    let view = one_zone(Access::default());
    let base = ask("a.example.", Rtype::A);
    let v6 = ask("a.example.", Rtype::A).from("2001:db8::77");
    let others = [
        ask("b.example.", Rtype::A),
        ask("a.example.", Rtype::AAAA),
        base.clone().edns(1232),
        base.clone().edns(600),
        base.clone().signed(),
        v6,
    ];
    let mut desk = Desk::new(&view);
    assert!(desk.repeats(&base));
    for other in &others {
        assert!(!desk.ask(&other.message(), &other.via()).1);
    }
    for bit in [0x01, 0x10, 0x20] {
        let mut message = base.message();
        message[if bit == 1 { 2 } else { 3 }] ^= bit;
        assert!(!desk.ask(&message, &base.via()).1, "another flag");
    }
    assert!(others.iter().all(|other| desk.repeats(other)));
    assert!(desk.ask(&base.message(), &base.via()).1, "it is still there");
}

#[test]
fn what_depends_on_who_asks_is_made_anew() {
    let view = one_zone(Access::default());
    let mut desk = Desk::new(&view);
    let mut with_option = ask("a.example.", Rtype::A).edns(1232);
    with_option.options = b"\0\x0a\0\x0812345678".to_vec();
    assert!(!desk.repeats(&with_option), "a cookie");
    with_option.options = vec![0, 3, 0, 0];
    assert!(!desk.repeats(&with_option), "NSID");
    assert!(!desk.repeats(&ask("a.example.", Rtype::A).tcp()));
    assert!(!desk.repeats(&ask("a.elsewhere.", Rtype::A)), "refused");
    assert!(!desk.repeats(&ask("A.d.example.", Rtype::A)), "the CNAME has the client's spelling");
    assert!(!desk.repeats(&ask("a.example.", Rtype::AXFR)), "an error");
    let from = Rule { from: "192.0.2.0/24".parse().unwrap(), key: None };
    let closed = one_zone(Access { query: Some(Acl::new(vec![from])), ..Access::default() });
    let mut desk = Desk::new(&closed);
    assert!(!desk.repeats(&ask("a.example.", Rtype::A)), "an access list");
    assert!(!desk.repeats(&ask("a.example.", Rtype::A).from("198.51.100.1")));
}

#[test]
fn an_alias_into_a_zone_with_an_access_list_is_followed_anew() {
    let mut view = one_zone(Access::default());
    let text = "@ SOA ns h 1 2 3 4 300\n@ NS ns\nout CNAME a.example.\nin A 192.0.2.9";
    let secret = Access { query: Some(acl("192.0.2.0/24")), ..Access::default() };
    view.put(served("org.", Some(zone("org.", text)), Access::default()));
    view.put(served("secret.", Some(zone("secret.", text)), secret));
    let into = "@ SOA ns h 1 2 3 4 300\n@ NS ns\nto CNAME in.secret.";
    view.put(served("net.", Some(zone("net.", into)), Access::default()));
    let mut desk = Desk::new(&view);
    assert!(desk.repeats(&ask("out.org.", Rtype::A)));
    assert!(!desk.repeats(&ask("to.net.", Rtype::A)));
}

#[test]
fn nothing_is_repeated_after_a_publication_or_a_second() {
    let view = one_zone(Access::default());
    let mut desk = Desk::new(&view);
    let mut asked = ask("a.example.", Rtype::A);
    asked.now_ms = 5000;
    assert!(desk.repeats(&asked));
    asked.now_ms = 5999;
    assert!(desk.ask(&asked.message(), &asked.via()).1);
    asked.now_ms = 6000;
    assert!(!desk.ask(&asked.message(), &asked.via()).1, "a second is over");
    assert!(desk.ask(&asked.message(), &asked.via()).1, "it was kept again at once");
    let changed = ZONE.replace("a A 192.0.2.2", "a A 192.0.2.99");
    let mut next = View::default();
    next.put(served("example.", Some(zone("example.", &changed)), Access::default()));
    desk.view = &next;
    desk.version += 1;
    let (reply, again) = desk.ask(&asked.message(), &asked.via());
    assert!(!again && reply.ends_with(&[192, 0, 2, 99]));
    desk.recent.epoch = u32::MAX;
    desk.version += 1;
    assert!(desk.repeats(&asked), "the count of epochs begins again with an empty table");
}

#[test]
fn what_is_asked_often_outlasts_what_is_asked_once() {
    let text: String = (0..20_000).map(|at| format!("\nn{at} A 192.0.2.1")).collect();
    let mut view = View::default();
    let text = format!("{ZONE}{text}");
    view.put(served("example.", Some(zone("example.", &text)), Access::default()));
    let mut desk = Desk::new(&view);
    let popular = ask("a.example.", Rtype::A);
    let mut found = 0;
    for at in 0..20_000 {
        found += u32::from(desk.ask(&popular.message(), &popular.via()).1);
        let mut message = popular.message();
        let name: NameBuf = format!("n{at}.example.").parse().unwrap();
        message.splice(12..message.len() - 4, name.as_name().as_wire().iter().copied());
        assert!(!desk.ask(&message, &popular.via()).1);
    }
    assert_eq!(found, 19_998);
}

#[test]
fn where_few_are_found_few_are_looked_for() {
    let mut luck = Luck::default();
    let mut looks = |found: u32| {
        let looked = (0..8 * LOOKS).filter(|at| {
            let out = luck.is_out();
            luck.found += u32::from(!out && at % 16 < found);
            !out
        });
        looked.count()
    };
    assert_eq!([looks(1), looks(1)], [LOOKS as usize; 2], "one in eight");
    looks(2);
    assert_eq!(looks(2), 8 * LOOKS as usize, "all, where one in eight is found");
}
