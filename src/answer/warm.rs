//! Fetching ahead: what the answers to a batch will read.
//!
//! Cache misses that depend on each other cost ten times those that do not. A batch that is
//! warmed first waits once where requests answered singly wait one after the other.

use crate::name::{Key, Name};
use crate::view::View;
use crate::wire::HEADER_LEN;
use crate::zone::Zone;
use arrayvec::ArrayVec;

/// How many requests are warmed together.
const BATCH: usize = 32;

/// Brings into the cache what answering these requests will read. It decides nothing: requests
/// that make no sense are passed over.
pub fn warm<'r>(requests: impl IntoIterator<Item = &'r [u8]>, view: &View) {
    let mut requests = requests.into_iter();
    loop {
        let mut sought: ArrayVec<(&Zone, Key), BATCH> = ArrayVec::new();
        let mut any = false;
        for request in requests.by_ref().take(BATCH) {
            any = true;
            sought.extend(place(request, view));
        }
        if !any {
            return;
        }
        while let Some(&(zone, _)) = sought.first() {
            let of_zone = |at: &&(&Zone, Key)| std::ptr::eq(at.0, zone);
            zone.names().warm(sought.iter().filter(of_zone).map(|(_, key)| key));
            sought.retain(|(other, _)| !std::ptr::eq(*other, zone));
        }
    }
}

/// Where the answer to this request begins: a zone, and a key in it.
fn place<'v>(request: &[u8], view: &'v View) -> Option<(&'v Zone, Key)> {
    let (name, _) = Name::split(request.get(HEADER_LEN..)?)?;
    let mut key = Key::of(name, 0);
    let zone = view.find(&key)?.zone.as_deref()?;
    key.enter(zone.apex());
    Some((zone, key))
}
