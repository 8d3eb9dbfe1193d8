//! A disk for simulations: what the journal and the checkpoints keep on it survives a crash, and every operation may be
//! late, fail, or fail after it landed, as seeded dice have it.
//!
//! It holds the two ports to their contract from the other side as well: what an owner must never ask for is noted as a
//! breach. It runs on the runtime of whoever uses it and starts no thread.

mod checkpoints;
mod journal;

pub(crate) use checkpoints::SimCheckpoints;
pub(crate) use journal::SimJournal;

use super::Partition;
use super::checkpoint::{ListSnapshot, Mark, ProfileSnapshot};
use super::record::Record;
use crate::telemetry::clock::virtual_now;
use crate::traffic::dice::Dice;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a disk behaves; shares are of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// Longest usual write or read; 0 makes everything happen at once.
    pub(crate) delay_ms: u32,
    /// Writes that take up to a hundred times as long.
    pub(crate) stalls: f64,
    /// Appends that fail.
    pub(crate) append_fails: f64,
    /// Of those that fail, the ones whose records are durable all the same.
    pub(crate) lands_anyway: f64,
    /// Appends that are durable long before anybody hears of it.
    pub(crate) late_words: f64,
    /// Take-overs, replays and looks at the file after a failure that fail.
    pub(crate) recovery_fails: f64,
    /// Single reads that fail.
    pub(crate) read_fails: f64,
    /// Checkpoints that fail; half of them have landed.
    pub(crate) save_fails: f64,
}

impl Faults {
    /// Whether everything happens at once and works.
    pub(crate) fn is_quiet(&self) -> bool {
        *self == Self::default()
    }
}

/// What a checkpoint store holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    pub(crate) profiles: BTreeMap<(Partition, Box<str>), ProfileSnapshot>,
    pub(crate) lists: BTreeMap<Partition, ListSnapshot>,
    pub(crate) marks: BTreeMap<Partition, Mark>,
}

/// The disk; clones share it.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

struct State {
    /// Whether the power is gone: nothing is taken any more.
    off: bool,
    dice: Dice,
    faults: Faults,
    /// Durable records of all partitions in journal order.
    log: Vec<Record>,
    ends: Vec<u64>,
    epochs: Vec<u64>,
    /// Handed to the disk, and not durable yet: a crash keeps all of it or nothing.
    writing: Vec<Record>,
    /// States of the checkpoint store since the last crash, newest last; a crash may bring an older one back.
    saved: Vec<Saved>,
    /// Whether parts of a checkpoint stand without the rest: on every other number of partitions.
    in_parts: bool,
    /// When an operation last failed, or was done that had waited behind one that did.
    last_failure: Option<Instant>,
    /// When a read of a single record last failed.
    last_failed_read: Option<Instant>,
    /// Records that waited for the disk, at most.
    most_waiting: usize,
    breaches: Vec<String>,
}

impl Disk {
    pub(crate) fn new(partitions: Partition, dice: Dice) -> Self {
        let zeros = vec![0; usize::from(partitions)];
        Self(Arc::new(Mutex::new(State {
            off: false,
            dice,
            faults: Faults::default(),
            log: Vec::new(),
            ends: zeros.clone(),
            epochs: zeros,
            writing: Vec::new(),
            saved: vec![Saved::default()],
            in_parts: partitions.is_multiple_of(2),
            last_failure: None,
            last_failed_read: None,
            most_waiting: 0,
            breaches: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Power goes, before anything else does: actors that are dropped work on for a moment, and must leave no trace.
    pub(crate) fn cut_power(&self) {
        self.state().off = true;
    }

    /// Power comes back: what was being written has landed or has not, and the newest checkpoints may be gone.
    pub(crate) fn restore_power(&self, crashed: bool) {
        let mut state = self.state();
        state.off = false;
        if !crashed {
            return;
        }
        let writing = std::mem::take(&mut state.writing);
        if state.dice.chance(0.5) {
            state.land(writing);
        }
        let states = state.saved.len() as u32;
        let kept = if state.dice.chance(0.3) { state.dice.count(1, states) } else { states };
        state.saved.truncate(kept as usize);
        let last = state.saved.pop().unwrap_or_default();
        state.saved = vec![last];
    }

    /// Runs `look` over the durable records.
    pub(crate) fn with_log<T>(&self, look: impl FnOnce(&[Record]) -> T) -> T {
        look(&self.state().log)
    }

    /// What the newest checkpoint holds.
    pub(crate) fn saved(&self) -> Saved {
        self.state().saved.last().cloned().unwrap_or_default()
    }

    /// When an operation last failed, or was done that had waited behind one that did.
    pub(crate) fn last_failure(&self) -> Option<Instant> {
        self.state().last_failure
    }

    /// When a read of a single record last failed.
    pub(crate) fn last_failed_read(&self) -> Option<Instant> {
        self.state().last_failed_read
    }

    /// The most records that ever waited together.
    pub(crate) fn most_waiting(&self) -> usize {
        self.state().most_waiting
    }

    /// What the service asked for against the contract of a port.
    pub(crate) fn breaches(&self) -> Vec<String> {
        self.state().breaches.clone()
    }
}

impl State {
    fn land(&mut self, records: Vec<Record>) {
        let records = if self.off { Vec::new() } else { records };
        for record in records {
            self.ends[usize::from(record.partition)] = record.n + 1;
            self.log.push(record);
        }
    }

    /// How long the next operation takes.
    fn delay(&mut self) -> Duration {
        let Faults { delay_ms, stalls, .. } = self.faults;
        let usual = self.dice.count(0, delay_ms);
        let ms = if delay_ms > 0 && self.dice.chance(stalls) { usual * self.dice.count(10, 100) } else { usual };
        Duration::from_millis(ms.into())
    }

    /// Whether an operation fails, in this share of all cases.
    fn fails(&mut self, share: impl Fn(&Faults) -> f64) -> bool {
        let fails = self.dice.chance(share(&self.faults));
        if fails {
            self.last_failure = Some(virtual_now());
        }
        fails
    }
}

/// Waits, if there is anything to wait for: without a delay nothing needs a timer.
async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
