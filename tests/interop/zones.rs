//! Zone files for the tests.

use std::fmt::Write;

/// A zone of some 70 records, large enough for a difference to be worth sending, whose changes
/// from serial to serial are a few records: one renamed, one with other data. `refresh` is the
/// SOA's, in seconds.
pub(crate) fn plain(zone: &str, serial: u32, refresh: u32) -> String {
    let mut text = format!(
        "$ORIGIN {zone}
$TTL 300
@ SOA ns1 hostmaster {serial} {refresh} 1 604800 60
@ NS ns1
@ NS ns2.elsewhere.test.
@ MX 10 mail
ns1 A 127.0.0.1
ns1 AAAA ::1
mail A 192.0.2.{last}
*.wild TXT \"a wildcard; serial {serial}\"
alias CNAME mail
sub NS ns.sub
ns.sub A 192.0.2.53
changing-{serial} A 192.0.2.1
",
        last = serial % 250,
    );
    for n in 0..60 {
        writeln!(text, "host-{n} A 198.51.100.{n}").expect("a string grows");
    }
    text
}

/// A zone with every kind of answer in it.
pub(crate) fn rich(zone: &str) -> String {
    let mut text = format!("$ORIGIN {zone}\n$TTL 3600\n{RICH}");
    for n in 0..70 {
        writeln!(text, "big TXT \"text {n:040}\"").expect("a string grows");
    }
    for n in 0..40 {
        writeln!(text, "host-{n} A 198.51.100.{n}").expect("a string grows");
        writeln!(text, "many AAAA 2001:db8:1::{n:x}").expect("a string grows");
    }
    text
}

const RICH: &str = r#"@ SOA ns1 hostmaster 1 3600 900 604800 300
@ NS ns1
@ NS ns2
@ NS ns.elsewhere.test.
@ MX 10 mail
@ MX 20 any.wild
@ TXT "the apex" "in two strings"
@ CAA 0 issue "ca.example.net"
ns1 A 192.0.2.1
ns1 AAAA 2001:db8::1
ns2 A 192.0.2.2
mail A 192.0.2.3
mail AAAA 2001:db8::3
mail 60 TXT "its own TTL"
www A 192.0.2.4
www A 192.0.2.5
www AAAA 2001:db8::4
web HTTPS 1 www alpn=h2,h3 port=8443
svc SVCB 1 mail port=25
*.wild A 192.0.2.6
*.wild MX 5 mail
*.wild TXT "from the wildcard"
a.b.wild TXT "below it"
*.aliases CNAME www
*.chained CNAME one
*.empty.deeper TXT "a wildcard below an empty name"
a.b.c.empty TXT "below three empty names"
one CNAME two
two CNAME three
three CNAME www
dangling CNAME nowhere
outside CNAME www.elsewhere.test.
tosub CNAME x.sub
towild CNAME q.wild
loop CNAME pool
pool CNAME loop
link-1 CNAME link-2
link-2 CNAME link-3
link-3 CNAME link-4
link-4 CNAME link-5
link-5 CNAME link-6
link-6 CNAME link-7
link-7 CNAME www
todname CNAME www.old
old DNAME new
www.new A 192.0.2.7
a.new CNAME www
away DNAME elsewhere.test.
sub NS ns.sub
sub NS ns1
ns.sub A 192.0.2.8
ns.sub AAAA 2001:db8::8
below.sub TXT "occluded"
far NS ns.elsewhere.test.
guarded NS ns.guarded
guarded DS 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.guarded A 192.0.2.9
_sip._tcp SRV 1 2 5060 mail
_sip._tcp SRV 1 2 5061 ns2
printer PTR www
info HINFO "a machine" "a system"
phone NAPTR 10 20 "u" "E2U+sip" "!^.*$!sip:info@example.net!" .
finger SSHFP 4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
_443._tcp.www TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
unknown TYPE65280 \# 4 01020304
unknown TYPE65281 \# 0
"#;
