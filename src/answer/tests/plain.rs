//! Unsigned answers.

use super::*;

const EXAMPLE: &str = "
@        SOA    ns1 hostmaster 7 3600 600 86400 300
@        NS     ns1
@        NS     ns.other.
@        MX     10 mail
@        MX     20 mail
@        MX     30 x.wild
ns1      A      192.0.2.1
ns1      AAAA   2001:db8::1
mail     A      192.0.2.2
mail     A      192.0.2.3
www 60   A      192.0.2.4
alias    CNAME  www
away     CNAME  www.elsewhere.net.
over     CNAME  www.other.
secret   CNAME  a.private.
loop1    CNAME  loop2
loop2    CNAME  loop1
self     CNAME  self
tochild  CNAME  www.child
tonone   CNAME  none
tosub    CNAME  x.sub
a.b.c    TXT    deep
*.wild   A      192.0.2.5
*.wild   TXT    wild
*.walias CNAME  www
*.wloop  CNAME  x.wloop
old 77   DNAME  new
www.new  A      192.0.2.6
far      DNAME  elsewhere.net.
turn     DNAME  turn2
turn2    DNAME  turn
long     DNAME  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.cccccccc.new
sub      NS     ns.sub
sub      NS     ns.sister
sub      NS     ns1
sub      NS     ns.far.
sub      DS     1 8 2 00000000000000000000000000000000000000000000000000000000000000ff
ns.sub   A      192.0.2.7
ns.sub   AAAA   2001:db8::7
sister   NS     ns.sister
ns.sister A     192.0.2.8
child    NS     ns.child
ns.child A      192.0.2.9
_s._tcp  SRV    1 2 53 mail
svc      HTTPS  1 . alpn=h2
svc      A      192.0.2.13
svc2     HTTPS  0 svc
svc3     HTTPS  0 .
naptr    NAPTR  1 1 \"s\" \"x\" \"\" _s._tcp
naptr    NAPTR  2 1 \"a\" \"x\" \"\" mail
naptr    NAPTR  3 1 \"\" \"x\" \"\" www
any      TXT    any
any      A      192.0.2.10
odd      TYPE65280 \\# 3 010203
";

const CHILD: &str = "
@        SOA    ns h 1 3600 600 86400 60
@        NS     ns
ns       A      192.0.2.9
www      A      192.0.2.11
";

const OTHER: &str = "
@        SOA    ns h 1 3600 600 86400 60
@        NS     ns
www      A      192.0.2.12
back     CNAME  www.example.
";

fn view() -> View {
    let mut view = View::default();
    let some = Access {
        notify: acl("192.0.2.0/24"),
        update: acl("192.0.2.1"),
        transfer: acl("::1"),
        ..Access::default()
    };
    view.put(served("example.", Some(zone("example.", EXAMPLE)), some));
    view.put(served("child.example.", Some(zone("child.example.", CHILD)), Access::default()));
    view.put(served("other.", Some(zone("other.", OTHER)), Access::default()));
    let closed = Access { query: Some(acl("10.0.0.0/8")), ..Access::default() };
    view.put(served("private.", Some(zone("private.", CHILD)), closed));
    view.put(served("empty.example.", None, Access::default()));
    let identity = Identity { id: Some("here".into()), ..Identity::default() };
    view.identity = Arc::new(identity);
    view
}

/// The SOA of a negative answer from `example.`
const SOA: &str = "au example. 300 SOA ns1.example. hostmaster.example. 7 3600 600 86400 300";

#[test]
fn records_are_given_without_the_zones_servers() {
    expect(&view(), &ask("www.example", Rtype::A), "NOERROR AA\nan www.example. 60 A 192.0.2.4");
}

#[test]
fn the_questions_case_is_kept() {
    let reply = ask("wWw.eXample", Rtype::A).of(&view());
    assert_eq!(&reply[12..25], b"\x03wWw\x07eXample\0");
    expect(
        &view(),
        &ask("MAIL.example", Rtype::A),
        "
        NOERROR AA
        an MAIL.example. 3600 A 192.0.2.2
        an MAIL.example. 3600 A 192.0.2.3",
    );
}

#[test]
fn a_missing_type_and_a_missing_name_are_told_apart_with_the_soa() {
    expect(&view(), &ask("www.example", Rtype::TXT), &format!("NOERROR AA\n{SOA}"));
    expect(&view(), &ask("b.c.example", Rtype::TXT), &format!("NOERROR AA\n{SOA}"));
    expect(&view(), &ask("none.example", Rtype::TXT), &format!("NXDOMAIN AA\n{SOA}"));
    expect(&view(), &ask("x.b.c.example", Rtype::TXT), &format!("NXDOMAIN AA\n{SOA}"));
}

#[test]
fn wildcards_answer_for_names_that_do_not_exist() {
    expect(
        &view(),
        &ask("q.r.wild.example", Rtype::TXT),
        "
        NOERROR AA
        an q.r.wild.example. 3600 TXT \"wild\"",
    );
    expect(&view(), &ask("q.wild.example", Rtype::MX), &format!("NOERROR AA\n{SOA}"));
    expect(
        &view(),
        &ask("*.wild.example", Rtype::TXT),
        "
        NOERROR AA
        an *.wild.example. 3600 TXT \"wild\"",
    );
    expect(
        &view(),
        &ask("q.walias.example", Rtype::A),
        "
        NOERROR AA
        an q.walias.example. 3600 CNAME www.example.
        an www.example. 60 A 192.0.2.4",
    );
}

#[test]
fn aliases_are_followed_also_into_other_zones_this_client_may_query() {
    expect(
        &view(),
        &ask("alias.example", Rtype::A),
        "
        NOERROR AA
        an alias.example. 3600 CNAME www.example.
        an www.example. 60 A 192.0.2.4",
    );
    expect(
        &view(),
        &ask("over.example", Rtype::A),
        "
        NOERROR AA
        an over.example. 3600 CNAME www.other.
        an www.other. 3600 A 192.0.2.12",
    );
    expect(
        &view(),
        &ask("tochild.example", Rtype::A),
        "
        NOERROR AA
        an tochild.example. 3600 CNAME www.child.example.
        an www.child.example. 3600 A 192.0.2.11",
    );
    let secret = ask("secret.example", Rtype::MX);
    let alone = "NOERROR AA\nan secret.example. 3600 CNAME a.private.";
    expect(&view(), &secret, alone);
    expect(
        &view(),
        &secret.from("10.1.1.1"),
        "
        NXDOMAIN AA
        an secret.example. 3600 CNAME a.private.
        au private. 60 SOA ns.private. h.private. 1 3600 600 86400 60",
    );
}

#[test]
fn an_alias_asked_for_is_not_followed() {
    expect(
        &view(),
        &ask("alias.example", Rtype::CNAME),
        "
        NOERROR AA
        an alias.example. 3600 CNAME www.example.",
    );
    expect(
        &view(),
        &ask("alias.example", Rtype::ANY),
        "
        NOERROR AA
        an alias.example. 3600 CNAME www.example.",
    );
}

#[test]
fn the_rcode_is_that_of_the_last_name_that_is_ours() {
    expect(
        &view(),
        &ask("tonone.example", Rtype::A),
        &format!(
            "
        NXDOMAIN AA
        an tonone.example. 3600 CNAME none.example.\n{SOA}"
        ),
    );
    expect(
        &view(),
        &ask("away.example", Rtype::A),
        "
        NOERROR AA
        an away.example. 3600 CNAME www.elsewhere.net.",
    );
}

#[test]
fn an_alias_below_a_cut_ends_in_a_referral_that_is_still_authoritative_for_the_alias() {
    expect(
        &view(),
        &ask("tosub.example", Rtype::A),
        "
        NOERROR AA
        an tosub.example. 3600 CNAME x.sub.example.
        au sub.example. 3600 NS ns.far.
        au sub.example. 3600 NS ns.sub.example.
        au sub.example. 3600 NS ns.sister.example.
        au sub.example. 3600 NS ns1.example.
        ad ns.sub.example. 3600 A 192.0.2.7
        ad ns.sub.example. 3600 AAAA 2001:db8::7
        ad ns.sister.example. 3600 A 192.0.2.8
        ad ns1.example. 3600 A 192.0.2.1
        ad ns1.example. 3600 AAAA 2001:db8::1",
    );
}

#[test]
fn loops_of_aliases_end() {
    expect(
        &view(),
        &ask("loop1.example", Rtype::A),
        "
        NOERROR AA
        an loop1.example. 3600 CNAME loop2.example.
        an loop2.example. 3600 CNAME loop1.example.",
    );
    expect(
        &view(),
        &ask("self.example", Rtype::A),
        "
        NOERROR AA
        an self.example. 3600 CNAME self.example.",
    );
    expect(
        &view(),
        &ask("q.wloop.example", Rtype::A),
        "
        NOERROR AA
        an q.wloop.example. 3600 CNAME x.wloop.example.
        an x.wloop.example. 3600 CNAME x.wloop.example.",
    );
    expect(
        &view(),
        &ask("q.turn.example", Rtype::A),
        "
        NOERROR AA
        an turn.example. 3600 DNAME turn2.example.
        an q.turn.example. 3600 CNAME q.turn2.example.
        an turn2.example. 3600 DNAME turn.example.
        an q.turn2.example. 3600 CNAME q.turn.example.",
    );
}

#[test]
fn a_long_chain_of_aliases_is_cut_off() {
    let links: String = (0..40).map(|i| format!("c{i} CNAME c{}\n", i + 1)).collect();
    let mut view = View::default();
    let text = format!("@ SOA ns h 1 1 1 1 1\n{links}");
    view.put(served("example.", Some(zone("example.", &text)), Access::default()));
    let reply = ask("c0.example", Rtype::A).tcp().of(&view);
    assert_eq!(usize::from(reply[7]), LINKS_MAX + 1);
}

#[test]
fn a_dname_renames_what_is_below_it() {
    expect(
        &view(),
        &ask("www.old.example", Rtype::A),
        "
        NOERROR AA
        an old.example. 77 DNAME new.example.
        an www.old.example. 77 CNAME www.new.example.
        an www.new.example. 3600 A 192.0.2.6",
    );
    expect(
        &view(),
        &ask("q.far.example", Rtype::A),
        "
        NOERROR AA
        an far.example. 3600 DNAME elsewhere.net.
        an q.far.example. 3600 CNAME q.elsewhere.net.",
    );
    expect(&view(), &ask("old.example", Rtype::A), &format!("NOERROR AA\n{SOA}"));
    expect(
        &view(),
        &ask("old.example", Rtype::DNAME),
        "
        NOERROR AA
        an old.example. 77 DNAME new.example.",
    );
}

#[test]
fn a_name_that_a_dname_makes_too_long_is_yxdomain() {
    let long = "1234567890123456789012345678901234567890123456789012345678901.\
        1234567890123456789012345678901234567890123456789012345678901.\
        1234567890123456789012345678901234567890123456789012345678901.long.example";
    let reply = ask(long, Rtype::A).of(&view());
    let shown = show(&reply);
    assert!(shown.starts_with("YXDOMAIN AA\nan long.example. 3600 DNAME aaaa"), "{shown}");
    assert_eq!(shown.lines().count(), 2);
}

#[test]
fn a_referral_has_the_glue_it_needs_first_and_is_not_authoritative() {
    expect(
        &view(),
        &ask("x.sub.example", Rtype::A),
        "
        NOERROR
        au sub.example. 3600 NS ns.far.
        au sub.example. 3600 NS ns.sub.example.
        au sub.example. 3600 NS ns.sister.example.
        au sub.example. 3600 NS ns1.example.
        ad ns.sub.example. 3600 A 192.0.2.7
        ad ns.sub.example. 3600 AAAA 2001:db8::7
        ad ns.sister.example. 3600 A 192.0.2.8
        ad ns1.example. 3600 A 192.0.2.1
        ad ns1.example. 3600 AAAA 2001:db8::1",
    );
}

#[test]
fn glue_that_is_missing_means_tc_only_if_the_zone_cannot_be_reached_without_it() {
    let servers = |n: usize, of: &str| -> String {
        (0..n)
            .map(|i| format!("cut NS server{i}.{of}\nserver{i}.{of} AAAA 2001:db8::{i}\n"))
            .collect()
    };
    let build = |text: String| {
        let mut view = View::default();
        let text = format!("@ SOA ns h 1 1 1 1 1\n{text}");
        view.put(served("example.", Some(zone("example.", &text)), Access::default()));
        view
    };
    for (of, tc) in [("cut", true), ("sister", false)] {
        let view = build(servers(12, of));
        let reply = ask("x.cut.example", Rtype::A).of(&view);
        let message = Message::from_octets(&reply).unwrap();
        assert_eq!(message.header().tc(), tc, "{of}");
        assert_eq!(message.header_counts().nscount(), 12);
        let glue = message.header_counts().arcount();
        assert!((5..12).contains(&glue) && reply.len() <= 512, "{glue}");
        let whole = ask("x.cut.example", Rtype::A).edns(1232).of(&view);
        assert_eq!(Message::from_octets(&whole).unwrap().header_counts().arcount(), 12 + 1);
    }
    let none = ask("x.cut.example", Rtype::A).of(&build(servers(60, "cut")));
    assert_eq!(show(&none), "NOERROR TC", "the servers themselves do not fit");
}

#[test]
fn ds_at_a_cut_is_the_parents() {
    let ds = "00000000000000000000000000000000000000000000000000000000000000ff";
    expect(
        &view(),
        &ask("sub.example", Rtype::DS),
        &format!(
            "
        NOERROR AA
        an sub.example. 3600 DS 1 8 2 {ds}"
        ),
    );
    // The parent answers also when the child is served here too ...
    expect(&view(), &ask("child.example", Rtype::DS), &format!("NOERROR AA\n{SOA}"));
    // ... and when only the child is, it can but say that it has none.
    expect(
        &view(),
        &ask("other", Rtype::DS),
        "
        NOERROR AA
        au other. 60 SOA ns.other. h.other. 1 3600 600 86400 60",
    );
}

#[test]
fn servers_and_exchanges_come_with_their_addresses() {
    expect(
        &view(),
        &ask("example", Rtype::NS),
        "
        NOERROR AA
        an example. 3600 NS ns.other.
        an example. 3600 NS ns1.example.
        ad ns1.example. 3600 A 192.0.2.1
        ad ns1.example. 3600 AAAA 2001:db8::1",
    );
    expect(
        &view(),
        &ask("example", Rtype::MX),
        "
        NOERROR AA
        an example. 3600 MX 10 mail.example.
        an example. 3600 MX 20 mail.example.
        an example. 3600 MX 30 x.wild.example.
        ad mail.example. 3600 A 192.0.2.2
        ad mail.example. 3600 A 192.0.2.3
        ad x.wild.example. 3600 A 192.0.2.5",
    );
    expect(
        &view(),
        &ask("_s._tcp.example", Rtype::SRV),
        "
        NOERROR AA
        an _s._tcp.example. 3600 SRV 1 2 53 mail.example
        ad mail.example. 3600 A 192.0.2.2
        ad mail.example. 3600 A 192.0.2.3",
    );
}

#[test]
fn services_come_with_what_they_point_at() {
    expect(
        &view(),
        &ask("svc.example", Rtype::HTTPS),
        "
        NOERROR AA
        an svc.example. 3600 HTTPS 1 . alpn=h2
        ad svc.example. 3600 A 192.0.2.13",
    );
    expect(
        &view(),
        &ask("svc2.example", Rtype::HTTPS),
        "
        NOERROR AA
        an svc2.example. 3600 HTTPS 0 svc.example.
        ad svc.example. 3600 HTTPS 1 . alpn=h2
        ad svc.example. 3600 A 192.0.2.13",
    );
    expect(
        &view(),
        &ask("svc3.example", Rtype::HTTPS),
        "
        NOERROR AA
        an svc3.example. 3600 HTTPS 0 .",
    );
    let naptr = show(&ask("naptr.example", Rtype::NAPTR).of(&view()));
    let added: Vec<&str> = naptr.lines().filter(|line| line.starts_with("ad")).collect();
    assert_eq!(
        added,
        [
            "ad _s._tcp.example. 3600 SRV 1 2 53 mail.example",
            "ad mail.example. 3600 A 192.0.2.2",
            "ad mail.example. 3600 A 192.0.2.3",
        ]
    );
}

#[test]
fn any_is_one_set_and_an_unknown_type_is_opaque() {
    expect(
        &view(),
        &ask("any.example", Rtype::ANY),
        "
        NOERROR AA
        an any.example. 3600 A 192.0.2.10",
    );
    expect(
        &view(),
        &ask("odd.example", Rtype(65280)),
        "
        NOERROR AA
        an odd.example. 3600 TYPE65280 \\# 3 01 02 03",
    );
}

#[test]
fn the_zone_with_the_longest_apex_decides_also_while_it_has_no_data() {
    expect(&view(), &ask("a.empty.example", Rtype::A), "SERVFAIL");
    expect(&view(), &ask("www.nowhere", Rtype::A), "REFUSED");
    expect(&view(), &ask(".", Rtype::NS), "REFUSED");
    expect(&view(), &ask("www.private", Rtype::A), "REFUSED");
    let mut late = ask("www.example", Rtype::A);
    late.now_ms = 1_000_000;
    expect(&view(), &late, "SERVFAIL");
}

#[test]
fn the_root_is_a_zone_like_any_other() {
    let mut view = View::default();
    let text = "
        @ SOA a.servers.net. h. 1 1 1 1 1
        @ NS a.servers.net.
        net. NS a.servers.net.
        a.servers.net. A 192.0.2.1";
    view.put(served(".", Some(zone(".", text)), Access::default()));
    expect(
        &view,
        &ask(".", Rtype::NS),
        "
        NOERROR AA
        an . 3600 NS a.servers.net.
        ad a.servers.net. 3600 A 192.0.2.1",
    );
    expect(
        &view,
        &ask("x.net", Rtype::NS),
        "
        NOERROR
        au net. 3600 NS a.servers.net.
        ad a.servers.net. 3600 A 192.0.2.1",
    );
    expect(
        &view,
        &ask("none", Rtype::A),
        "
        NXDOMAIN AA
        au . 1 SOA a.servers.net. h. 1 1 1 1 1",
    );
    expect(
        &view,
        &ask(".", Rtype::DS),
        "
        NOERROR AA
        au . 1 SOA a.servers.net. h. 1 1 1 1 1",
    );
}

#[test]
fn opt_is_sent_back_if_it_was_sent_and_version_1_is_bad() {
    expect(&view(), &ask("www.nowhere", Rtype::A).edns(512), "REFUSED\nad OPT");
    let reply = ask("www.example", Rtype::A).signed().of(&view());
    let opt = &reply[reply.len() - 11..];
    assert_eq!(opt, b"\0\0\x29\x04\xd0\0\0\x80\0\0\0", "our size, version 0, DO");
    let mut query = ask("www.example", Rtype::A).edns(512).message();
    let version = query.len() - 5;
    query[version] = 1;
    let mut reply = [0; 512];
    let via = ask("www.example", Rtype::A).via();
    let outcome = respond(&query, &via, &view(), &mut reply);
    let Outcome::Reply { len, rcode: Rcode::BADVERS, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(show(&reply[..len]), "BADVERS\nad OPT");
}

#[test]
fn replies_keep_to_what_the_client_takes_and_to_what_we_send() {
    let text: String = (0..60).map(|i| format!("big TXT number-{i:020}\n")).collect();
    let mut view = View::default();
    let text = format!("@ SOA ns h 1 1 1 1 1\n{text}\nmid TXT {}", "x".repeat(250));
    view.put(served("example.", Some(zone("example.", &text)), Access::default()));
    let big = ask("big.example", Rtype::TXT);
    expect(&view, &big, "NOERROR AA TC");
    expect(&view, &big.clone().edns(4096), "NOERROR AA TC\nad OPT");
    assert!(big.tcp().of(&view).len() > 2000);
    let mid = ask("mid.example", Rtype::TXT);
    assert!(!show(&mid.clone().edns(0).of(&view)).contains("TC"), "512 at the least");
}

#[test]
fn who_the_server_is_is_told_in_class_ch_if_at_all() {
    let ask_ch = |name| Ask { class: Class::CH, ..ask(name, Rtype::TXT) };
    for asked in ["id.server", "HostName.Bind"] {
        let shown = show(&ask_ch(asked).of(&view()));
        assert_eq!(shown, format!("NOERROR AA\nan {asked}. 0 TXT \"here\""));
    }
    for asked in ["version.server", "version.bind", "authors.bind", "www.example"] {
        expect(&view(), &ask_ch(asked), "REFUSED");
    }
    let hesiod = Ask { class: Class(4), ..ask("www.example", Rtype::A) };
    expect(&view(), &hesiod, "REFUSED");
}

#[test]
fn a_transfer_needs_a_connection_and_a_small_ixfr_reply_tells_the_serial() {
    expect(&view(), &ask("example", Rtype::AXFR), "FORMERR");
    expect(&view(), &ask("example", Rtype::IXFR), "REFUSED");
    expect(&view(), &ask("nowhere", Rtype::IXFR), "NOTAUTH");
    expect(
        &view(),
        &ask("example", Rtype::IXFR).from("::1"),
        "
        NOERROR AA
        an example. 3600 SOA ns1.example. hostmaster.example. 7 3600 600 86400 300",
    );
    let tcp = ask("example", Rtype::AXFR).tcp();
    let outcome = respond(&tcp.message(), &tcp.via(), &view(), &mut [0; 512]);
    assert_eq!(outcome, Outcome::Defer(Deferred::Transfer));
}

#[test]
fn types_of_messages_only_are_not_asked_for() {
    expect(&view(), &ask("example", Rtype::OPT), "FORMERR");
    expect(&view(), &ask("example", Rtype::TSIG), "FORMERR");
}

fn outcome(message: &[u8], from: &'static str) -> String {
    let mut reply = [0; 512];
    let via = ask("example", Rtype::A).from(from).via();
    match respond(message, &via, &view(), &mut reply) {
        Outcome::Reply { len, .. } => show(&reply[..len]),
        other => format!("{other:?}"),
    }
}

#[test]
fn notify_is_passed_on_only_if_it_may_concern_us() {
    let notify = |name: &'static str| {
        let mut message = ask(name, Rtype::SOA).message();
        message[2] |= 4 << 3;
        message
    };
    assert_eq!(outcome(&notify("example"), "192.0.2.1"), "Defer(Notify)");
    assert_eq!(outcome(&notify("example"), "198.51.100.1"), "REFUSED");
    assert_eq!(outcome(&notify("www.example"), "192.0.2.1"), "NOTAUTH");
}

#[test]
fn an_update_is_passed_on_if_it_is_of_a_zone_and_from_one_who_may_change_that() {
    let update = |name: &'static str, rtype: Rtype| {
        let mut message = ask(name, rtype).message();
        message[2] = 5 << 3;
        message
    };
    let of_example = update("example", Rtype::SOA);
    assert_eq!(outcome(&of_example, "192.0.2.1"), "Defer(Update)");
    assert_eq!(outcome(&of_example, "192.0.2.2"), "REFUSED", "it may send NOTIFY only");
    assert_eq!(outcome(&update("child.example", Rtype::SOA), "192.0.2.1"), "REFUSED");
    assert_eq!(outcome(&update("www.example", Rtype::SOA), "192.0.2.1"), "NOTAUTH");
    assert_eq!(outcome(&update("example", Rtype::NS), "192.0.2.1"), "FORMERR");
    let mut signed = of_example.clone();
    signed[11] = 1;
    signed.extend_from_slice(b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\0");
    assert_eq!(outcome(&signed, "192.0.2.1"), "Defer(Signed)");
    assert_eq!(outcome(&signed, "192.0.2.2"), "REFUSED", "before anything is verified");
    let mut chaos = of_example.clone();
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(outcome(&chaos, "192.0.2.1"), "NOTAUTH");
    let mut nameless = of_example[..HEADER_LEN].to_vec();
    nameless[5] = 0;
    assert_eq!(outcome(&nameless, "192.0.2.1"), "FORMERR");
}

#[test]
fn a_signed_request_is_deferred_until_it_is_verified() {
    let mut signed = ask("www.example", Rtype::A).message();
    signed[11] = 1;
    signed.extend_from_slice(b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\0");
    assert_eq!(outcome(&signed, "192.0.2.1"), "Defer(Signed)");
    let key = name("k");
    let via = Via { key: Some(key.as_name()), ..ask("www.example", Rtype::A).via() };
    let outcome = respond(&signed, &via, &view(), &mut [0; 512]);
    assert!(matches!(outcome, Outcome::Reply { rcode: Rcode::FORMERR, .. }), "{outcome:?}");
}

#[test]
fn room_is_left_for_the_callers_signature() {
    let text = format!("@ SOA ns h 1 1 1 1 1\nmid TXT {}", "x".repeat(200));
    let mut view = View::default();
    view.put(served("example.", Some(zone("example.", &text)), Access::default()));
    let mid = ask("mid.example", Rtype::TXT).edns(512);
    let len = mid.of(&view).len();
    for (reserved, fits) in [(512 - len, true), (512 - len + 1, false)] {
        let via = Via { reserved, ..mid.via() };
        let mut reply = [0; 512];
        let outcome = respond(&mid.message(), &via, &view, &mut reply);
        let Outcome::Reply { len, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(!show(&reply[..len]).contains("TC"), fits);
        assert!(len + reserved <= 512 && show(&reply[..len]).ends_with("ad OPT"));
    }
}

#[test]
fn malformed_requests_get_formerr_and_what_must_not_be_answered_gets_nothing() {
    let whole = ask("www.example", Rtype::A).message();
    assert_eq!(outcome(&whole[..whole.len() - 1], "192.0.2.1"), "FORMERR");
    assert_eq!(outcome(&[&whole[..], b"x"].concat(), "192.0.2.1"), "FORMERR");
    assert_eq!(outcome(&whole[..HEADER_LEN], "192.0.2.1"), "FORMERR");
    assert_eq!(outcome(&whole[..HEADER_LEN - 1], "192.0.2.1"), "Silent(Runt)");
    let mut response = whole.clone();
    response[2] |= 0x80;
    assert_eq!(outcome(&response, "192.0.2.1"), "Silent(Response)");
    let mut stateful = whole[..HEADER_LEN].to_vec();
    stateful[2] = 6 << 3;
    stateful[5] = 0;
    assert_eq!(outcome(&stateful, "192.0.2.1"), "NOTIMP");
    assert_eq!(
        respond(&whole, &ask("example", Rtype::A).via(), &view(), &mut [0; 511]),
        Outcome::Silent(Silence::NoRoom)
    );
}

#[test]
fn an_error_reply_can_be_made_for_a_deferred_request() {
    let notify = ask("example", Rtype::SOA).edns(512);
    let mut reply = [0; 512];
    let len = refuse(&notify.message(), Rcode::SERVFAIL, &notify.via(), &view(), &mut reply);
    assert_eq!(show(&reply[..len.unwrap()]), "SERVFAIL\nad OPT");
}
