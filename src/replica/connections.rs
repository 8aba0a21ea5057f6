//! Connections to primaries that are kept open for a while: the next question needs no new one
//! (RFC 7766 section 6.2.1, RFC 5936 section 4.1), which is a round trip less.
//!
//! A connection is kept only after a reply that was read to its end, so that nothing of an earlier
//! reply is ever taken for a part of the next. One that the primary has closed meanwhile costs
//! nothing: whoever finds that out asks again over a new one. So does who asks over one that the
//! primary keeps open but no longer reads, after a short while.

use super::ask::{AskError, Primary, connect};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long one is kept without use: long enough for the next of many zones or a row of updates, too
/// short to be in the way of a primary that has few connections to give, or one at a time.
const IDLE_FOR: Duration = Duration::from_secs(1);
/// How many are kept of one primary.
const IDLE_MAX: usize = 8;

/// The connections that are not in use.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<HashMap<Ends, Vec<Idle>>>>);

/// From where to where.
type Ends = (Option<SocketAddr>, SocketAddr);

/// One that is not in use, and since when.
type Idle = (Instant, TcpStream);

impl Connections {
    /// A connection, and whether it was used before.
    pub(super) async fn get(
        &self,
        primary: &Primary,
        wait: Duration,
    ) -> Result<(TcpStream, bool), AskError> {
        while let Some(stream) = self.take(primary) {
            if is_open(&stream) {
                return Ok((stream, true));
            }
        }
        Ok((connect(primary, wait).await?, false))
    }

    fn take(&self, primary: &Primary) -> Option<TcpStream> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, stream) = idle.get_mut(&(primary.source, primary.address))?.pop()?;
        Some(stream)
    }

    /// Keeps a connection on which nothing more is to come.
    pub(super) fn keep(&self, primary: &Primary, stream: TcpStream) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.is_empty() {
            tokio::spawn(self.clone().close_idle());
        }
        let kept = idle.entry((primary.source, primary.address)).or_default();
        if kept.len() < IDLE_MAX {
            kept.push((Instant::now(), stream));
        }
    }

    /// Closes those to this primary: it does not heed them.
    pub(super) fn forget(&self, primary: &Primary) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The place stays: that there is none means that nothing closes them.
        if let Some(kept) = idle.get_mut(&(primary.source, primary.address)) {
            kept.clear();
        }
    }

    /// Closes what has not been used for long enough, until there is nothing left.
    async fn close_idle(self) {
        loop {
            sleep(IDLE_FOR / 4).await;
            let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|_, kept| {
                kept.retain(|(since, stream)| since.elapsed() < IDLE_FOR && is_open(stream));
                !kept.is_empty()
            });
            if idle.is_empty() {
                return;
            }
        }
    }
}

/// Is it still open, with nothing on it that nobody asked for?
fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_connection_is_used_again_unless_the_primary_has_closed_it_or_said_something() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let primary = Primary { address, source: None, key: None };
        let connections = Connections::default();
        let get = async || connections.get(&primary, IDLE_FOR).await.unwrap();
        let (first, used) = get().await;
        assert!(!used);
        let (there, _) = listener.accept().await.unwrap();
        let local = first.local_addr().unwrap();
        connections.keep(&primary, first);
        let (again, used) = get().await;
        assert_eq!((again.local_addr().unwrap(), used), (local, true));
        connections.keep(&primary, again);
        drop(there);
        let (second, used) = closed_or_fresh(&get).await;
        assert!(!used, "the primary has closed the first one");
        let (there, _) = listener.accept().await.unwrap();
        connections.keep(&primary, second);
        let mut there = there.into_std().unwrap();
        there.write_all(b"unasked").unwrap();
        let (_, used) = closed_or_fresh(&get).await;
        assert!(!used, "what is unasked for is not for the next question");
    }

    /// What the other side did takes a moment to arrive.
    async fn closed_or_fresh<F>(get: &impl Fn() -> F) -> (TcpStream, bool)
    where
        F: Future<Output = (TcpStream, bool)>,
    {
        sleep(Duration::from_millis(50)).await;
        get().await
    }
}
