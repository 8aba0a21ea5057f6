//! The first half of answering: a request is read, and the look-up of its name begun.
//!
//! What answering waits for is memory: in a large zone nearly every name lies where no other of
//! late did. A batch whose requests are all read before the first is answered waits for all of
//! them at once.

use super::{Answer, Outcome, Silence, Via, is_known, served_for};
use crate::edns::UDP_SIZE_MIN;
use crate::name::Key;
use crate::query::{Query, Unfit};
use crate::tree::Way;
use crate::view::{Served, View};
use crate::wire::{Class, Rcode};

/// How many requests of a batch to read before the first is answered. More gain nothing: a core
/// waits for no more than some ten cache misses at a time.
pub const AT_ONCE: usize = 8;

/// A request that was read, to be answered from one view.
pub struct Asked<'a> {
    /// `None` until something was read.
    view: Option<&'a View>,
    query: Result<Query<'a>, Unfit<'a>>,
    start: Start<'a>,
}

/// Where the look-up begins.
pub(super) struct Start<'a> {
    /// The name's key: within the zone, if that has data.
    pub(super) key: Key,
    /// The zone that answers for the name.
    pub(super) served: Option<&'a Served>,
    /// The way to the name in the zone's data.
    pub(super) way: Option<Way<'a, ()>>,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Asked<'a> {
    /// The place for a request: none was [read](Self::read) yet.
    pub const fn new() -> Self {
        let start = Start { key: Key::empty(), served: None, way: None };
        Self { view: None, query: Err(Unfit::Runt), start }
    }

    /// Reads a request that is to be answered from `view`, in place of the one before it.
    pub fn read(&mut self, request: &'a [u8], view: &'a View) {
        self.view = Some(view);
        self.query = Query::read(request);
        (self.start.served, self.start.way) = (None, None);
        if let Ok(Query { question: Some(question), .. }) = &self.query
            && matches!(question.class, Class::IN | Class::ANY)
        {
            let start = &mut self.start;
            start.key.set(question.name);
            start.served = served_for(view, question.name, &start.key, question.rtype);
            if let Some(zone) = start.served.and_then(|served| served.zone.as_deref()) {
                start.key.enter(zone.apex());
                start.way = Some(zone.names().way(&start.key));
            }
        }
    }

    /// Answers the request that was read, into `reply`: see [`respond`](super::respond).
    pub fn respond(&self, via: &Via<'_>, reply: &mut [u8]) -> Outcome {
        let Some(view) = self.view else { return Outcome::Silent(Silence::Runt) };
        if reply.len() < usize::from(UDP_SIZE_MIN) {
            return Outcome::Silent(Silence::NoRoom);
        }
        match &self.query {
            Ok(query) => {
                let mut answer = Answer::new(query, via, view, reply);
                answer.begin();
                match answer.dispatch(&self.start) {
                    Some(deferred) => Outcome::Defer(deferred),
                    None => answer.finish(),
                }
            }
            Err(Unfit::Runt) => Outcome::Silent(Silence::Runt),
            Err(Unfit::Response) => Outcome::Silent(Silence::Response),
            &Err(Unfit::Malformed { header, question }) => {
                let query = Query { header, question, has_soa: false, edns: None, signed: false };
                let mut answer = Answer::new(&query, via, view, reply);
                answer.begin();
                answer.rcode = if is_known(header) { Rcode::FORMERR } else { Rcode::NOTIMP };
                answer.finish()
            }
        }
    }
}
