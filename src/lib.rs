//! Backstop, an authoritative secondary DNS server: it copies zones from their primaries, keeps
//! them on disk, and answers for them at the highest rate a machine allows, above all while the
//! primary is down.
//!
//! # The life of a query
//!
//! 1. It waits in the kernel until a pinned thread, a [`worker`], takes a batch of datagrams from
//!    its port ([`io`]: bytes and addresses, no messages).
//! 2. The worker takes the newest [`view`] - one atomic load - and the time, once for the batch. What
//!    was asked a moment ago gets the same reply again: [`answer::Recent`].
//! 3. Of the rest, [`answer::Asked`] reads the request - [`query`], its [`edns`] options -, has the [`view`]
//!    find the zone with the longest apex at or above the name, and begins to look the name up in
//!    that zone's [`tree`]. What takes longest, memory, is being fetched while others are read.
//! 4. When eight have come so far, the first is answered: [`acl`] says whether this client may ask.
//! 5. The [`zone`] ends the look-up and says what the data can say: [`zone::Found`].
//! 6. [`answer`] decides what that means - records, an alias to pursue, a referral, a denial with
//!    its proof - and copies record sets into the reply through the [`wire::Writer`].
//! 7. What workers do not decide - signed requests ([`tsig`]), NOTIFY, UPDATE, transfers - goes to
//!    the [`stream`] threads, which serve TCP in the same way, one by one.
//! 8. A reply that is one too many of its kind to one network is dropped or truncated, if a
//!    [`limit`] is set.
//! 9. The batch's replies leave in one system call, each from the address that was asked.
//!
//! # The life of an update
//!
//! 1. A NOTIFY comes in, or a timer runs out: [`refresh`] says which primary to ask what.
//! 2. The [`replica`]'s scheduler asks: SOA, IXFR or AXFR; [`xfr`] takes the messages apart.
//! 3. A builder thread makes the next version: [`zone::Zone::apply`] copies the paths that a
//!    [`zone::Diff`] touches, and shares all else. It is held if a [`check`] refuses it.
//! 4. The [`store`] makes it durable, with one flush of its log for whatever else is waiting too.
//! 5. The scheduler publishes it: a new [`view`], one pointer; idle workers are woken, and the
//!    reaper frees the old view when its last reader has gone on.
//! 6. Our own secondaries are told, and served by [`xfr`] from the versions held.
//!
//! # The rest
//!
//! [`server`] starts and stops all this as the [`config`] says; [`control`], [`command`], [`web`]
//! and [`systemd`] tell how it is; [`stats`] counts; [`clock`] is the time that zones expire by;
//! [`demo`] shows it; [`audit`] asks every server of a zone; `seldom` keeps the log readable.
//!
//! A module uses only those that stand above it: words ([`octets`], [`name`], [`wire`], [`query`],
//! [`edns`], [`tsig`], [`acl`], [`tree`]), data ([`zone`], [`view`]), decisions ([`answer`],
//! [`limit`], [`check`], [`xfr`], [`refresh`]), then the outside world. `answer` cannot see a
//! socket, `io` cannot see a message.
//!
//! # One word per idea
//!
//! *query* or *request*: what came. *reply*: what leaves. *version*: one state of a zone,
//! immutable; its *serial* names it. *diff*: what leads from one version to the next. *view*: all
//! that is served, published as one. *primary*: whom we copy from. *contact*: a primary's word
//! that our version is the newest. *round*: one attempt to bring a zone up to date. *lineage*: a
//! row of versions whose serials can be compared. *port*: a worker's sockets. *turn*: one batch.

pub mod octets;
mod seldom;
pub mod name;
pub mod wire;
pub mod query;
pub mod edns;
pub mod tsig;
pub mod acl;
pub mod tree;
pub mod zone;
pub mod view;
pub mod answer;
pub mod limit;
pub mod check;
pub mod xfr;
pub mod refresh;
pub mod io;
pub mod clock;
pub mod store;
pub mod stats;
pub mod worker;
pub mod config;
pub mod replica;
pub mod stream;
pub mod control;
pub mod audit;
pub mod command;
pub mod web;
pub mod systemd;
pub mod server;
pub mod demo;
