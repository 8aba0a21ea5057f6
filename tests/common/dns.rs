//! A DNS client for tests: questions out, replies in as text that can be compared between
//! servers. It stands on the `domain` crate alone, so that it cannot share a mistake with the
//! code under test.
//!
//! A [`Reply`] is sorted within its sections; names of owners are in lower case; data are in
//! presentation format as they came. Two servers say the same when their replies are equal.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    str::FromStr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use domain::{
    base::{
        Message, MessageBuilder, Name, ParsedName, Record, Rtype, Serial, ToName, Ttl,
        iana::{Class, Opcode, OptionCode},
        message_builder::AdditionalBuilder,
        record::ParsedRecord,
    },
    rdata::{AllRecordData, Soa, tsig::Time48},
    tsig::{Algorithm, ClientTransaction, Key, KeyName},
    utils::base64,
};

/// How long a server may take for one message.
const PATIENCE: Duration = Duration::from_secs(5);

/// A transaction key (RFC 8945) in the forms that configurations and our client need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsigKey {
    /// The key's name with its final dot.
    pub name: String,
    /// As RFC 8945 section 6 spells it: `hmac-sha256`.
    pub algorithm: String,
    /// Base64.
    pub secret: String,
}

impl TsigKey {
    /// An hmac-sha256 key whose secret follows from its name: for tests only.
    pub fn new(name: &str) -> Self {
        let mut secret = [0x5A; 32];
        secret.iter_mut().zip(name.bytes().cycle()).for_each(|(octet, letter)| *octet ^= letter);
        Self {
            name: name.to_owned(),
            algorithm: "hmac-sha256".to_owned(),
            secret: base64::encode_string(&secret),
        }
    }

    /// As `dig -y` takes it.
    pub fn dig(&self) -> String {
        format!("{}:{}:{}", self.algorithm, self.name, self.secret)
    }

    pub(super) fn domain(&self) -> Arc<Key> {
        let algorithm = Algorithm::from_str(&self.algorithm).expect("an algorithm that exists");
        let secret: Vec<u8> = base64::decode(&self.secret).expect("base64");
        let name = KeyName::from_str(&self.name).expect("a name");
        Key::new(algorithm, &secret, name, None, None).expect("a full-length key").into()
    }
}

/// The EDNS part of a question (RFC 6891).
#[derive(Clone, Debug)]
pub struct Edns {
    pub size: u16,
    pub dnssec_ok: bool,
    pub version: u8,
    /// Code and data.
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Default for Edns {
    fn default() -> Self {
        Self { size: 1232, dnssec_ok: false, version: 0, options: Vec::new() }
    }
}

/// One question and how it is put.
#[derive(Clone, Debug)]
pub struct Ask {
    pub name: String,
    pub rtype: Rtype,
    pub class: Class,
    pub opcode: Opcode,
    pub recursion_desired: bool,
    pub edns: Option<Edns>,
    pub key: Option<TsigKey>,
}

impl Ask {
    /// A plain question: class IN, no EDNS, no key. `rtype` is a mnemonic: "AAAA", "TYPE65280".
    pub fn new(name: &str, rtype: &str) -> Self {
        Self {
            name: name.to_owned(),
            rtype: Rtype::from_str(rtype).expect("a record type"),
            class: Class::IN,
            opcode: Opcode::QUERY,
            recursion_desired: false,
            edns: None,
            key: None,
        }
    }

    /// What a primary says after a change (RFC 1996), without the new SOA.
    pub fn notify(zone: &str) -> Self {
        Self { opcode: Opcode::NOTIFY, ..Self::new(zone, "SOA") }
    }

    pub fn edns(self, edns: Edns) -> Self {
        Self { edns: Some(edns), ..self }
    }

    /// With EDNS and the DO bit.
    pub fn dnssec(self) -> Self {
        self.edns(Edns { dnssec_ok: true, ..Edns::default() })
    }

    pub fn key(self, key: &TsigKey) -> Self {
        Self { key: Some(key.clone()), ..self }
    }

    pub fn recursion_desired(self) -> Self {
        Self { recursion_desired: true, ..self }
    }

    /// The message as it would be sent, unsigned.
    pub fn octets(&self) -> Vec<u8> {
        self.message(None).finish()
    }

    /// The message, unsigned, with this SOA in the authority section if it is for IXFR.
    pub(super) fn message(&self, since: Option<u32>) -> AdditionalBuilder<Vec<u8>> {
        let name = Name::<Vec<u8>>::from_str(&self.name).expect("a name");
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_random_id();
        builder.header_mut().set_rd(self.recursion_desired);
        builder.header_mut().set_opcode(self.opcode);
        builder.header_mut().set_aa(self.opcode == Opcode::NOTIFY);
        let mut question = builder.question();
        question.push((&name, self.rtype, self.class)).expect("it fits");
        let mut authority = question.authority();
        if let Some(serial) = since {
            let root = Name::root_vec();
            let zero = Ttl::ZERO;
            let soa = Soa::new(root.clone(), root, Serial(serial), zero, zero, zero, zero);
            authority.push((&name, 0, soa)).expect("it fits");
        }
        let mut message = authority.additional();
        if let Some(edns) = &self.edns {
            message
                .opt(|opt| {
                    opt.set_udp_payload_size(edns.size);
                    opt.set_dnssec_ok(edns.dnssec_ok);
                    opt.set_version(edns.version);
                    for (code, data) in &edns.options {
                        let len = u16::try_from(data.len()).expect("a short option");
                        opt.push_raw_option(OptionCode::from_int(*code), len, |target| {
                            target.extend_from_slice(data);
                            Ok(())
                        })?;
                    }
                    Ok(())
                })
                .expect("it fits");
        }
        message
    }
}

/// What a server said, without what may differ between two right answers: the ID, the order
/// within a section, compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// "NOERROR", "NXDOMAIN", ... extended codes (RFC 6891) included.
    pub rcode: String,
    /// Those set of "QR AA TC RD RA AD CD".
    pub flags: String,
    /// One line a record: owner, TTL, class, type, data.
    pub answer: Vec<String>,
    pub authority: Vec<String>,
    /// Without OPT and TSIG.
    pub additional: Vec<String>,
    /// The OPT record: version, size, DO and options; empty without one.
    pub opt: String,
}

impl Reply {
    /// Parses one message; `Err` says what is wrong with it.
    pub fn parse(octets: &[u8]) -> Result<Self, String> {
        let message = Message::from_octets(octets).map_err(|_| "shorter than a header")?;
        let opt = message.opt();
        let mut additional = section(message.additional().map_err(|e| e.to_string())?)?;
        additional.retain(|line| !matches!(line.split(' ').nth(3), Some("OPT" | "TSIG")));
        Ok(Self {
            rcode: message.opt_rcode().to_string(),
            flags: message.header().flags().to_string(),
            answer: section(message.answer().map_err(|e| e.to_string())?)?,
            authority: section(message.authority().map_err(|e| e.to_string())?)?,
            additional,
            opt: opt.map_or_else(String::new, |opt| {
                let (version, size) = (opt.version(), opt.udp_payload_size());
                let dnssec_ok = if opt.dnssec_ok() { " DO" } else { "" };
                format!("v{version} {size}{dnssec_ok} {}", opt.opt()).trim_end().to_owned()
            }),
        })
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}", self.rcode, self.flags, self.opt)?;
        let sections = [&self.answer, &self.authority, &self.additional];
        for (name, lines) in ["answer", "authority", "additional"].iter().zip(sections) {
            lines.iter().try_for_each(|line| writeln!(f, "{name}: {line}"))?;
        }
        Ok(())
    }
}

fn section(
    records: domain::base::message::RecordSection<'_, &[u8]>,
) -> Result<Vec<String>, String> {
    let mut lines = records
        .map(|record| record.map_err(|e| e.to_string()).and_then(|record| line(&record)))
        .collect::<Result<Vec<_>, _>>()?;
    lines.sort_unstable();
    Ok(lines)
}

/// One record as text: owner in lower case with its final dot, TTL, class, type, data.
pub(super) fn line(record: &ParsedRecord<'_, &[u8]>) -> Result<String, String> {
    type Any<'a> = Record<ParsedName<&'a [u8]>, AllRecordData<&'a [u8], ParsedName<&'a [u8]>>>;
    let any: Any<'_> = record.to_any_record().map_err(|e| e.to_string())?;
    let owner = any.owner().fmt_with_dot().to_string().to_ascii_lowercase();
    let (ttl, class, rtype) = (any.ttl().as_secs(), any.class(), any.rtype());
    Ok(format!("{owner} {ttl} {class} {rtype} {}", any.data()))
}

/// Asks over UDP, thrice if nothing comes back; a wrong signature or ID is an error.
pub fn udp(server: SocketAddr, ask: &Ask) -> io::Result<Reply> {
    let mut last = io::Error::other("never asked");
    for _ in 0..3 {
        match signed(ask, |octets| udp_raw(server, octets)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// Asks over a TCP connection of its own.
pub fn tcp(server: SocketAddr, ask: &Ask) -> io::Result<Reply> {
    signed(ask, |octets| {
        let mut stream = connect(server)?;
        write_message(&mut stream, octets)?;
        read_message(&mut stream)
    })
}

/// Sends these octets as they are and waits for one datagram.
pub fn udp_raw(server: SocketAddr, octets: &[u8]) -> io::Result<Vec<u8>> {
    let local: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((local, 0))?;
    socket.set_read_timeout(Some(PATIENCE / 3))?;
    socket.connect(server)?;
    socket.send(octets)?;
    let mut reply = vec![0; 65_535];
    let len = socket.recv(&mut reply)?;
    reply.truncate(len);
    Ok(reply)
}

pub fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Writes one message with its length before it (RFC 1035 section 4.2.2), in one segment.
pub fn write_message(stream: &mut TcpStream, octets: &[u8]) -> io::Result<()> {
    let len = u16::try_from(octets.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), octets].concat())
}

pub fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut octets = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut octets)?;
    Ok(octets)
}

fn signed(ask: &Ask, send: impl Fn(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<Reply> {
    let mut message = ask.message(None);
    let key = ask.key.as_ref().map(TsigKey::domain);
    let transaction = key.map(|key| {
        ClientTransaction::request(key, &mut message, Time48::now()).expect("a TSIG fits")
    });
    let request = message.finish();
    let mut octets = send(&request)?;
    if request[..2] != octets[..2.min(octets.len())] {
        return Err(io::Error::other("the reply's ID is not the question's"));
    }
    if let Some(transaction) = transaction {
        let mut message = Message::from_octets(octets).map_err(io::Error::other)?;
        transaction.answer(&mut message, Time48::now()).map_err(io::Error::other)?;
        octets = message.into_octets();
    }
    Reply::parse(&octets).map_err(io::Error::other)
}

/// The serial if this line is an SOA record.
pub fn serial_of(line: &str) -> Option<u32> {
    let mut words = line.split(' ');
    let is_soa = words.nth(3) == Some("SOA");
    is_soa.then(|| words.nth(2)?.parse().ok()).flatten()
}

/// The serial of the SOA that the server gives with authority, if it does.
pub fn serial(server: SocketAddr, zone: &str) -> Option<u32> {
    let reply = udp(server, &Ask::new(zone, "SOA")).ok()?;
    let authoritative = reply.rcode == "NOERROR" && reply.flags.contains("AA");
    authoritative.then(|| reply.answer.first().and_then(|line| serial_of(line))).flatten()
}

/// Waits until the server gives this serial with authority; panics when it does not in time.
#[track_caller]
pub fn wait_for_serial(server: SocketAddr, zone: &str, wanted: u32, deadline: Duration) {
    let mut last = None;
    let came = wait_until(deadline, || {
        last = serial(server, zone);
        last == Some(wanted)
    });
    assert!(
        came,
        "{server} should have serial {wanted} of {zone}; has {last:?} after {deadline:?}"
    );
}

/// Asks every 20 ms until the answer is yes; no by then means no.
pub fn wait_until(deadline: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
