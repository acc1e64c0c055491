//! Attempts under way in this process, and who waits for their outcome.
//!
//! A good attempt gives back what it was counted for. So a limit that is used up by attempts under way is not known to be
//! used up: whoever comes next waits until one of them has failed or hands its place on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::store::throttles::Charge;

type Name = [u8; 16];

/// The attempts under way, by the name that they are counted under.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<HashMap<Name, Line>>);

#[derive(Debug, Default)]
struct Line {
    /// How many attempts are counted, or about to be.
    under_way: u32,
    /// How many of them have come to an end, ever since there was one under way.
    settled: u64,
    waiting: VecDeque<oneshot::Sender<Outcome>>,
}

/// What somebody who waits is told.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A good attempt hands its place on: already counted.
    Yours(Slot),
    /// One failed, or gave its place up: try again.
    Again,
}

/// What follows for an attempt that found no room.
#[derive(Debug)]
pub(super) enum NoRoom {
    /// An attempt came to an end meanwhile: try again.
    Again,
    /// Others are under way: their outcome will be told.
    Wait(oneshot::Receiver<Outcome>),
    /// Nobody is: the limit is used up by failures.
    UsedUp,
}

/// An attempt about to be counted under a name, or counted. Dropped, it stays counted and is under way no more.
#[derive(Debug)]
pub(super) struct Slot {
    lines: Arc<Lines>,
    name: Name,
    seen: u64,
    /// What was counted, and whether in the shared store.
    pub(super) counted: Option<(Charge, bool)>,
    open: bool,
}

impl Lines {
    /// One more attempt is about to be counted under `name`.
    pub(super) fn join(self: &Arc<Self>, name: Name) -> Slot {
        let mut lines = self.0.lock();
        let line = lines.entry(name).or_default();
        line.under_way += 1;
        Slot {
            lines: Arc::clone(self),
            name,
            seen: line.settled,
            counted: None,
            open: true,
        }
    }
}

impl Slot {
    pub(super) const fn name(&self) -> Name {
        self.name
    }

    /// The store had no room for it.
    pub(super) fn no_room(&mut self) -> NoRoom {
        let lines = Arc::clone(&self.lines);
        let mut lines = lines.0.lock();
        let Some(line) = lines.get_mut(&self.name) else {
            return NoRoom::UsedUp;
        };
        if line.settled != self.seen {
            self.seen = line.settled;
            return NoRoom::Again;
        }
        self.open = false;
        line.under_way -= 1;
        if line.under_way > 0 {
            let (told, outcome) = oneshot::channel();
            line.waiting.push_back(told);
            return NoRoom::Wait(outcome);
        }
        // Nobody is left whose outcome could be told.
        wake(&mut line.waiting, usize::MAX);
        lines.remove(&self.name);
        NoRoom::UsedUp
    }

    /// The attempt was good, or never looked at: hands its place to somebody who waits, or answers what to take back. The
    /// slot is dropped after that: until then nobody concludes that the limit is used up.
    pub(super) fn give_back(&mut self) -> Option<(Charge, bool)> {
        let counted = self.counted.take()?;
        loop {
            let mut lines = self.lines.0.lock();
            let next = lines.get_mut(&self.name).and_then(|line| line.waiting.pop_front());
            drop(lines);
            let Some(next) = next else { return Some(counted) };
            let slot = Self {
                lines: Arc::clone(&self.lines),
                name: self.name,
                seen: self.seen,
                counted: Some(counted),
                open: true,
            };
            match next.send(Outcome::Yours(slot)) {
                Ok(()) => {
                    self.open = false;
                    return None;
                }
                // It waits no longer, and its place is still ours.
                Err(Outcome::Yours(mut back)) => back.open = false,
                Err(Outcome::Again) => {}
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let mut lines = self.lines.0.lock();
        let Some(line) = lines.get_mut(&self.name) else { return };
        line.under_way -= 1;
        line.settled += 1;
        // The first in line looks whether there is room now; if nobody is under way, all of them have to.
        let woken = if line.under_way == 0 { usize::MAX } else { 1 };
        wake(&mut line.waiting, woken);
        if line.under_way == 0 {
            lines.remove(&self.name);
        }
    }
}

fn wake(waiting: &mut VecDeque<oneshot::Sender<Outcome>>, most: usize) {
    let mut woken = 0;
    while woken < most
        && let Some(next) = waiting.pop_front()
    {
        // One that is gone needs no waking.
        woken += usize::from(next.send(Outcome::Again).is_ok());
    }
}
