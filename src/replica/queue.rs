//! Who is asked next: the questions that wait for a place with their primary.
//!
//! A question waits as forty octets, not as a task: a million zones may be due at once. It begins
//! when its primary has a place free, then one of the places of all.
//!
//! **Invariants.**
//! - *one slow primary delays no other*: its questions hold its own places, and wait for those.
//! - *urgent overtakes*: what a NOTIFY or the operator asks for has places of its own.
//! - *paced*: planned SOA queries go to a primary at no more than so many a second, and no more are
//!   under way than it keeps up with: one more for each that is answered in time, half as many
//!   after one that is not.
//!
//! It does not ask, and knows nothing of zones but their numbers.

use crate::refresh::Ask;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a question is asked: each lane has places of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// A transfer: the timer says so.
    Planned,
    /// A query for the SOA: the timer says so.
    Probe,
    /// A NOTIFY or the operator says so.
    Urgent,
    /// A zone is looked at for what its serial does not tell. There is time.
    Idle,
}

const LANES: usize = 4;

/// How many questions of [`Lane::Idle`] are asked at once, and one of each primary.
const IDLE: usize = 2;
/// How many SOA queries to one primary are under way at first, at least and at most.
const WINDOW: (usize, usize, usize) = (32, 2, 256);
/// What the pace may make up for at once, after the scheduler was busy elsewhere.
const BURST: Duration = Duration::from_millis(50);

/// A question of a zone's to one of its primaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The zone, by its number, and of which of its configurations.
    pub(super) id: usize,
    pub(super) epoch: u64,
    /// Which of its primaries.
    pub(super) primary: usize,
    pub(super) ask: Ask,
    pub(super) lane: Lane,
}

/// The right to ask; dropped, it is given back.
pub(super) struct Place {
    _primary: Arc<()>,
    _all: Arc<()>,
}

/// How much is asked at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// In all, in each lane.
    pub(super) concurrent: usize,
    /// Transfers from one primary, in each lane.
    pub(super) per_primary: usize,
    /// Planned SOA queries to one primary, a second.
    pub(super) probes_a_second: u32,
}

/// The questions that wait.
pub(super) struct Queue {
    bounds: Bounds,
    all: [Places; LANES],
    lines: HashMap<(IpAddr, Lane), Line>,
    /// Primaries with a place free while all the places of all were taken, in turn.
    starved: [VecDeque<IpAddr>; LANES],
    /// Primaries that are asked for their next SOA then.
    paced: BTreeSet<(Instant, IpAddr)>,
}

/// The questions of one lane to one primary.
struct Line {
    waiting: VecDeque<Question>,
    places: Places,
    /// When the next may begin, and how far apart they are: of [`Lane::Probe`].
    pace: Option<(Instant, Duration)>,
    starved: bool,
}

/// So many at once.
struct Places {
    max: usize,
    taken: Arc<()>,
}

impl Places {
    fn new(max: usize) -> Self {
        Self { max: max.max(1), taken: Arc::new(()) }
    }

    fn is_free(&self) -> bool {
        Arc::strong_count(&self.taken) <= self.max
    }
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        let all = [bounds.concurrent, bounds.concurrent, bounds.concurrent, IDLE].map(Places::new);
        let (lines, starved, paced) = (HashMap::new(), Default::default(), BTreeSet::new());
        Self { bounds, all, lines, starved, paced }
    }

    /// Has a question wait. It begins by [`next`](Self::next).
    pub(super) fn push(&mut self, primary: IpAddr, question: Question, now: Instant) {
        let bounds = self.bounds;
        let line = self.lines.entry((primary, question.lane)).or_insert_with(|| Line {
            waiting: VecDeque::new(),
            places: Places::new(match question.lane {
                Lane::Planned | Lane::Urgent => bounds.per_primary,
                Lane::Probe => WINDOW.0,
                Lane::Idle => 1,
            }),
            pace: (question.lane == Lane::Probe)
                .then(|| (now, Duration::from_secs(1) / bounds.probes_a_second.max(1))),
            starved: false,
        });
        line.waiting.push_back(question);
    }

    /// The next question to this primary, if there is a place for it and its time has come.
    pub(super) fn next(
        &mut self,
        primary: IpAddr,
        lane: Lane,
        now: Instant,
    ) -> Option<(Question, Place)> {
        let line = self.lines.get_mut(&(primary, lane))?;
        if line.waiting.is_empty() || !line.places.is_free() {
            return None;
        }
        if let Some((at, _)) = line.pace.filter(|&(at, _)| at > now) {
            self.paced.insert((at, primary));
            return None;
        }
        let all = &self.all[lane as usize];
        if !all.is_free() {
            if !std::mem::replace(&mut line.starved, true) {
                self.starved[lane as usize].push_back(primary);
            }
            return None;
        }
        if let Some((at, apart)) = &mut line.pace {
            *at = now.checked_sub(BURST).map_or(*at, |from| (*at).max(from)) + *apart;
        }
        let place =
            Place { _primary: Arc::clone(&line.places.taken), _all: Arc::clone(&all.taken) };
        let question = line.waiting.pop_front()?;
        if line.waiting.is_empty() {
            // It may have been a million.
            line.waiting.shrink_to(64);
        }
        Some((question, place))
    }

    /// A primary whose questions in this lane wait for a place of all, if there is one now.
    pub(super) fn next_starved(&mut self, lane: Lane) -> Option<IpAddr> {
        if !self.all[lane as usize].is_free() {
            return None;
        }
        let primary = self.starved[lane as usize].pop_front()?;
        self.lines.get_mut(&(primary, lane))?.starved = false;
        Some(primary)
    }

    /// A primary whose pace allows for its next SOA query.
    pub(super) fn next_paced(&mut self, now: Instant) -> Option<IpAddr> {
        let first = self.paced.first().copied().filter(|&(at, _)| at <= now)?;
        self.paced.remove(&first);
        Some(first.1)
    }

    /// When [`next_paced`](Self::next_paced) is to be asked.
    pub(super) fn paced_at(&self) -> Option<Instant> {
        self.paced.first().map(|&(at, _)| at)
    }

    /// A question of this lane was answered, in time or late.
    pub(super) fn answered(&mut self, primary: IpAddr, lane: Lane, late: bool) {
        if let Some(line) = self.lines.get_mut(&(primary, lane)).filter(|_| lane == Lane::Probe) {
            let window = &mut line.places.max;
            *window = if late { (*window / 2).max(WINDOW.1) } else { (*window + 1).min(WINDOW.2) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    const LONG: Duration = Duration::from_secs(1000);

    fn queue(concurrent: usize, per_primary: usize) -> Queue {
        Queue::new(Bounds { concurrent, per_primary, probes_a_second: 1000 })
    }

    fn question(id: usize, lane: Lane) -> Question {
        Question { id, epoch: 0, primary: 0, ask: Ask::Axfr, lane }
    }

    fn push(queue: &mut Queue, primary: IpAddr, lane: Lane, count: usize, now: Instant) {
        for id in 0..count {
            queue.push(primary, question(id, lane), now);
        }
    }

    /// All that can begin now.
    fn begin(queue: &mut Queue, primary: IpAddr, lane: Lane, now: Instant) -> Vec<Place> {
        std::iter::from_fn(|| queue.next(primary, lane, now)).map(|(_, place)| place).collect()
    }

    #[test]
    fn each_primary_and_each_lane_has_places_of_its_own() {
        let (mut queue, now) = (queue(10, 2), Instant::now());
        let lanes = [(Lane::Planned, 2), (Lane::Urgent, 2), (Lane::Idle, 1)];
        let mut held = Vec::new();
        for primary in [ONE, OTHER] {
            for (lane, places) in lanes {
                push(&mut queue, primary, lane, 100, now);
                let begun = begin(&mut queue, primary, lane, now);
                assert_eq!(begun.len(), places, "{primary} {lane:?}");
                held.extend(begun);
            }
        }
        held.remove(0);
        let (next, _place) = queue.next(ONE, Lane::Planned, now).unwrap();
        assert_eq!(next.id, 2, "they keep their order");
        assert!(queue.next(OTHER, Lane::Planned, now).is_none());
    }

    #[test]
    fn primaries_that_wait_for_a_place_of_all_have_their_turn() {
        let (mut queue, now) = (queue(2, 2), Instant::now());
        push(&mut queue, ONE, Lane::Planned, 100, now);
        push(&mut queue, OTHER, Lane::Planned, 100, now);
        let mut held = begin(&mut queue, ONE, Lane::Planned, now);
        assert!(begin(&mut queue, OTHER, Lane::Planned, now).is_empty());
        assert_eq!((held.len(), queue.next_starved(Lane::Planned)), (2, None));
        held.pop();
        assert_eq!(queue.next_starved(Lane::Planned), Some(OTHER));
        held.extend(begin(&mut queue, OTHER, Lane::Planned, now));
        assert_eq!((held.len(), queue.next_starved(Lane::Planned)), (2, None));
    }

    #[test]
    fn soa_queries_are_paced_and_no_more_are_under_way_than_are_answered_in_time() {
        let (mut queue, start) = (queue(10_000, 8), Instant::now() + LONG);
        push(&mut queue, ONE, Lane::Probe, 100_000, start);
        let (mut now, mut begun) = (start, 0);
        for _ in 0..5000 {
            begun += begin(&mut queue, ONE, Lane::Probe, now).len();
            while queue.next_paced(now).is_some() {}
            queue.answered(ONE, Lane::Probe, false);
            now += Duration::from_millis(1);
        }
        assert!((4990..=5051).contains(&begun), "{begun} in 5 s");
        now += LONG;
        let held = begin(&mut queue, ONE, Lane::Probe, now);
        assert!(held.len() <= 51, "{} were made up for at once", held.len());
        for _ in 0..20 {
            queue.answered(ONE, Lane::Probe, true);
        }
        drop(held);
        now += LONG;
        while queue.next_paced(now).is_some() {}
        let held = begin(&mut queue, ONE, Lane::Probe, now);
        assert_eq!(held.len(), WINDOW.1, "to one that does not keep up");
        assert!(queue.paced_at().is_none(), "it waits for an answer, not for its time");
    }
}
