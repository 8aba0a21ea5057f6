//! An UPDATE that a primary decides, and what its client is told.

use super::service::{From, Reaction, Service, Verified};
use crate::answer;
use crate::io::REPLY_MAX;
use crate::tsig::Signer;
use crate::wire::{Rcode, read_u16};
use tokio::sync::oneshot;

/// An UPDATE that was passed on.
pub(super) struct Forward {
    /// It, without a signature that was verified.
    pub(super) request: Vec<u8>,
    pub(super) from: From,
    pub(super) signer: Option<Box<Signer>>,
    /// The primary's reply; dropped: there is none.
    pub(super) answered: oneshot::Receiver<Vec<u8>>,
}

impl Forward {
    /// What the client is told, once it is known: what a primary says, as it says it, the signature
    /// included (RFC 2136 section 6.6), or SERVFAIL from us if none says anything. Counted. `None`:
    /// nothing.
    pub(super) async fn reply(self, service: &Service) -> Option<Vec<u8>> {
        let answered = self.answered.await.ok();
        let (view, replicated) = (service.views.load(), &service.stats.replicated);
        let now_ms = service.clock.now_ms();
        let mut request = Verified::unsigned(&self.request, self.from, now_ms);
        request.signer = self.signer;
        let mut buffer = vec![0; REPLY_MAX];
        let via = request.via();
        let (len, rcode) = match answered {
            Some(reply) => {
                replicated.updates_forwarded.add_shared(1);
                let rcode = Rcode(read_u16(&reply, 2)? & 0xf);
                if reply.len() <= answer::reply_max(&self.request, &via, &view) {
                    service.count(&reply, rcode);
                    return Some(reply);
                }
                (answer::truncate(&self.request, &via, &view, &mut buffer)?, Rcode::NOERROR)
            }
            None => {
                replicated.updates_failed.add_shared(1);
                let len = answer::unforwarded(&self.request, &via, &view, &mut buffer)?;
                (len, Rcode::SERVFAIL)
            }
        };
        match service.sign(request, &mut buffer, len, rcode) {
            Reaction::Reply(len) => buffer.truncate(len),
            _ => return None,
        }
        Some(buffer)
    }
}
