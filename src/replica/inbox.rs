//! What a primary sends over a connection: messages with their lengths, taken as stretches of as
//! many as have come.

use super::ask::AskError;
use crate::wire::read_u16;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// A connection's receiving side.
pub(super) struct Inbox {
    stream: TcpStream,
    octets: Vec<u8>,
    began: Instant,
    received: u64,
    /// The least octets a second, once the connection has lasted for a stall's time; 0: any.
    pub(super) min_rate: u64,
}

/// How much is read at once.
const READ: usize = 256 * 1024;

impl Inbox {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, octets: Vec::new(), began: Instant::now(), received: 0, min_rate: 0 }
    }

    /// The connection, if all that has come was taken.
    pub(super) fn into_stream(self) -> Option<TcpStream> {
        self.octets.is_empty().then_some(self.stream)
    }

    /// The messages that have come and were not taken yet, at least one. Cancelled, it has lost
    /// nothing.
    pub(super) async fn next(&mut self, stall: Duration) -> Result<Stretch, AskError> {
        let whole = self.fill(stall).await?;
        let rest = self.octets.split_off(whole);
        let octets = std::mem::replace(&mut self.octets, rest);
        Ok(Stretch { octets, at: 0 })
    }

    /// Waits for a whole message. Returns the octets of all that are whole.
    pub(super) async fn fill(&mut self, stall: Duration) -> Result<usize, AskError> {
        loop {
            let whole = whole_messages(&self.octets);
            if whole > 0 {
                return Ok(whole);
            }
            let lasted = self.began.elapsed();
            if lasted > stall && self.received / lasted.as_secs().max(1) < self.min_rate {
                return Err(AskError::Slow(self.min_rate));
            }
            self.octets.reserve(if self.received == 0 { 4096 } else { READ });
            let read = timeout(stall, self.stream.read_buf(&mut self.octets)).await;
            let begun = self.received > 0;
            let late = |_| if begun { AskError::Stalled(stall) } else { AskError::TimeOut(stall) };
            match read.map_err(late)?? {
                0 if begun => return Err(AskError::Closed),
                0 => return Err(AskError::Unanswered),
                len => self.received += len as u64,
            }
        }
    }
}

/// How many leading octets are whole messages with their lengths.
fn whole_messages(octets: &[u8]) -> usize {
    let mut at = 0;
    while let Some(len) = read_u16(octets, at) {
        let next = at + 2 + usize::from(len);
        if next > octets.len() {
            break;
        }
        at = next;
    }
    at
}

/// Whole messages, one behind the other.
pub(super) struct Stretch {
    octets: Vec<u8>,
    at: usize,
}

impl Stretch {
    /// Octets of all messages, with their lengths.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Option<&mut [u8]> {
        let len = usize::from(read_u16(&self.octets, self.at)?);
        let start = self.at + 2;
        self.at = start + len;
        Some(&mut self.octets[start..start + len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_what_is_whole() {
        let octets = b"\0\x02ab\0\0\0\x03cd";
        let whole = whole_messages(octets);
        assert_eq!(whole, 6);
        let mut stretch = Stretch { octets: octets[..whole].to_vec(), at: 0 };
        assert_eq!(stretch.next().map(|m| m.to_vec()), Some(b"ab".to_vec()));
        assert_eq!(stretch.next().map(|m| m.to_vec()), Some(Vec::new()));
        assert!(stretch.next().is_none());
    }
}
