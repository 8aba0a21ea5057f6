//! The server's clock: milliseconds that only go forward, also over a restart.
//!
//! Zones expire by this clock, so a stepped or wrong wall clock expires nothing. While the
//! process runs it is the system's monotonic clock. Over a restart it goes on by the uptime, if
//! the machine has not been booted since; else by the wall clock, if that is ahead of what was
//! kept and the kernel calls it synchronised; else it stands still for the time that was missed:
//! a zone is then served for longer rather than dropped on the word of a wrong clock.
//!
//! The store keeps a [`Kept`] from time to time.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

/// The server's clock. Copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_ms: u64,
}

/// What is kept of the clock over a restart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// The server's clock when this was kept, milliseconds.
    pub server_ms: u64,
    /// Which boot of the machine that was.
    pub boot: String,
    /// The machine's uptime then, milliseconds.
    pub uptime_ms: u64,
    /// The wall clock then, milliseconds since 1970.
    pub wall_ms: u64,
}

/// How the clock came over the restart, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continued {
    /// There was nothing to continue.
    Fresh,
    /// The machine was up all the time.
    Uptime,
    /// By a synchronised wall clock.
    Wall,
    /// The wall clock cannot be relied on: the time between is not counted.
    Stopped,
}

impl fmt::Display for Continued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "begins",
            Self::Uptime => "goes on by the uptime",
            Self::Wall => "goes on by the wall clock",
            Self::Stopped => "stood still, as the wall clock is not synchronised",
        })
    }
}

impl Clock {
    /// Goes on from what was kept.
    pub fn start(kept: Option<&Kept>) -> (Self, Continued) {
        let now = Self { start: Instant::now(), start_ms: 0 };
        let (start_ms, how) = kept.map_or((FIRST_MS, Continued::Fresh), |kept| {
            go_on(kept, &now.keep(), is_synchronised())
        });
        (Self { start_ms, ..now }, how)
    }

    /// Now, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.start_ms + millis(self.start.elapsed())
    }

    /// What it showed or will show at `instant`, in milliseconds.
    pub fn ms_at(&self, instant: Instant) -> u64 {
        self.start_ms + millis(instant.saturating_duration_since(self.start))
    }

    /// When this clock will show `at_ms`.
    pub fn instant(&self, at_ms: u64) -> Instant {
        self.start + Duration::from_millis(at_ms.saturating_sub(self.start_ms))
    }

    /// What to keep now.
    pub fn keep(&self) -> Kept {
        Kept {
            server_ms: self.now_ms(),
            boot: read("/proc/sys/kernel/random/boot_id"),
            uptime_ms: uptime_ms(),
            wall_ms: millis(since_1970()),
        }
    }
}

/// A new server's clock begins here, so that "long ago" is expressible.
const FIRST_MS: u64 = 1 << 40;

/// What the server's clock shows at `now`, which is the kept state's reading as of now.
fn go_on(kept: &Kept, now: &Kept, synchronised: bool) -> (u64, Continued) {
    let up = now.uptime_ms.checked_sub(kept.uptime_ms);
    let wall = now.wall_ms.checked_sub(kept.wall_ms);
    let same_boot = kept.boot == now.boot && !kept.boot.is_empty();
    match (up.filter(|_| same_boot), wall.filter(|_| synchronised)) {
        (Some(missed), _) => (kept.server_ms + missed, Continued::Uptime),
        (None, Some(missed)) => (kept.server_ms.saturating_add(missed), Continued::Wall),
        (None, None) => (kept.server_ms, Continued::Stopped),
    }
}

/// Does the kernel say that the wall clock is disciplined?
fn is_synchronised() -> bool {
    crate::io::wall_clock_is_synchronised()
}

fn uptime_ms() -> u64 {
    let seconds = read("/proc/uptime").split(' ').next().and_then(|text| text.parse().ok());
    millis(Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Milliseconds, as many as there are.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock; the beginning of 1970 if it is set to before that.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The wall clock, which signatures are dated by: seconds since 1970.
pub fn now_s() -> u64 {
    since_1970().as_secs()
}

/// The same modulo 2^32.
pub fn unix_s() -> u32 {
    u32::try_from(now_s() & u64::from(u32::MAX)).expect("masked")
}

/// The wall clock, read once a second at most: for who asks it with each batch.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    read: Instant,
    unix_s: u32,
}

impl Wall {
    /// As read now.
    pub fn new() -> Self {
        Self { read: Instant::now(), unix_s: unix_s() }
    }

    /// As [`unix_s`] was less than a second before `now`, or is.
    #[inline]
    pub fn unix_s(&mut self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.read) >= Duration::from_secs(1) {
            *self = Self { read: now, unix_s: unix_s() };
        }
        self.unix_s
    }
}

impl Default for Wall {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_read_again_after_a_second() {
        let now = Instant::now();
        let mut wall = Wall { read: now, unix_s: 7 };
        assert_eq!(wall.unix_s(now + Duration::from_millis(999)), 7);
        let later = wall.unix_s(now + Duration::from_secs(1));
        assert!(unix_s() - later <= 60, "{later}");
        assert_eq!(wall.unix_s(now), later, "time that goes back reads nothing");
    }

    fn kept(boot: &str, uptime_ms: u64, wall_ms: u64) -> Kept {
        Kept { server_ms: 1000, boot: boot.into(), uptime_ms, wall_ms }
    }

    #[test]
    fn within_one_boot_the_wall_clock_does_not_matter() {
        let then = kept("a", 50, 1_000_000);
        for wall in [0, 1_000_000, u64::MAX] {
            assert_eq!(go_on(&then, &kept("a", 80, wall), true), (1030, Continued::Uptime));
        }
    }

    #[test]
    fn over_a_boot_only_a_synchronised_clock_that_is_ahead_counts() {
        let then = kept("a", 50, 1_000_000);
        let later = kept("b", 1, 1_000_500);
        assert_eq!(go_on(&then, &later, true), (1500, Continued::Wall));
        assert_eq!(go_on(&then, &later, false), (1000, Continued::Stopped));
        assert_eq!(go_on(&then, &kept("b", 1, 3), true), (1000, Continued::Stopped));
    }

    #[test]
    fn a_clock_that_goes_on_never_goes_back() {
        let (clock, how) = Clock::start(None);
        assert_eq!(how, Continued::Fresh);
        let kept = clock.keep();
        let (again, how) = Clock::start(Some(&kept));
        assert_eq!(how, Continued::Uptime);
        assert!(again.now_ms() >= clock.now_ms() - 20, "the uptime is told in hundredths");
    }
}
