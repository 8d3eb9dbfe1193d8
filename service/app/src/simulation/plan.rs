//! What one seed stands for: the shape of the service, how its disk and its model behave, and how long the story is.

use super::alerts::StoreFaults;
use crate::actors::users::HotBounds;
use crate::journal::Partition;
use crate::journal::simulated::Faults;
use crate::projections::alert_feed::MAX_BEHIND;
use crate::traffic::dice::Dice;
use verdict_core::profile::Retention;
use verdict_core::time::DAY_MS;

/// Streams of dice, so that a shorter story has the same beginning.
pub(super) const PLAN: u64 = 1;
pub(super) const STORY: u64 = 2;
pub(super) const DISK: u64 = 3;
pub(super) const MODEL: u64 = 4;
pub(super) const ALERTS: u64 = 5;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) steps: u32,
    pub(super) users: u32,
    pub(super) partitions: Partition,
    pub(super) shards: u16,
    /// Most events in flight.
    pub(super) limit: usize,
    /// Whether requests go through the HTTP handlers, or to the gateway itself.
    pub(super) http: bool,
    /// Share of events that come as lines of a file; never with HTTP.
    pub(super) lines: f64,
    /// Share of what is sent that changes a list, and how many entries may be asked for.
    pub(super) listings: f64,
    pub(super) max_listed: usize,
    /// Lines of a batch in flight together.
    pub(super) batch_window: usize,
    /// Streams of alerts at a time, and how many alerts one may be behind.
    pub(super) streams: usize,
    pub(super) alerts_behind: usize,
    pub(super) store: StoreFaults,
    pub(super) checkpoint_secs: u32,
    /// How many users of a shard are actors, and for how many seconds.
    pub(super) hot: HotBounds,
    pub(super) retention: Retention,
    pub(super) disk: Faults,
    pub(super) model: Option<ModelFaults>,
}

/// How the model misbehaves; shares are of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ModelFaults {
    pub(super) fails: f64,
    pub(super) slow: f64,
}

impl Plan {
    /// Every seed leaves some faults out and has some often, so that each is met alone and with every other.
    pub(super) fn of(seed: u64, steps: Option<u32>) -> Self {
        let mut dice = Dice::new(seed, PLAN, 0);
        let dice = &mut dice;
        let http = dice.chance(0.35);
        let partitions = dice.count(1, 4) as Partition;
        let length = if dice.chance(0.1) { 160 } else { dice.count(10, 70) };
        let limit = dice.count(1, 6) * dice.count(1, 12);
        let dedupe_ms = if dice.chance(0.3) { DAY_MS } else { 8 * DAY_MS };
        let disk = Faults {
            delay_ms: if dice.chance(0.2) { 0 } else { dice.count(1, 40) },
            stalls: share(dice, 0.1),
            append_fails: share(dice, 0.15),
            lands_anyway: share(dice, 1.0),
            late_words: share(dice, 0.5),
            recovery_fails: share(dice, 0.2),
            read_fails: share(dice, 0.4),
            save_fails: share(dice, 0.5),
        };
        let model = dice.chance(0.7).then(|| ModelFaults { fails: share(dice, 0.2), slow: share(dice, 0.1) });
        Self {
            seed,
            steps: steps.unwrap_or(length),
            users: dice.count(1, 5),
            partitions,
            shards: dice.count(1, 2).min(partitions.into()) as u16,
            limit: limit as usize,
            http,
            lines: if http { 0.0 } else { share(dice, 0.3) },
            listings: share(dice, 0.6),
            max_listed: if dice.chance(0.2) { dice.count(1, 6) as usize } else { 100 },
            batch_window: dice.count(1, 8) as usize,
            streams: dice.count(1, 3) as usize,
            alerts_behind: if dice.chance(0.3) { dice.count(1, 6) as usize } else { MAX_BEHIND },
            store: StoreFaults { delay_ms: dice.below(2) * dice.below(200), fails: share(dice, 0.3) },
            checkpoint_secs: dice.count(1, 20),
            hot: HotBounds { users: dice.count(0, 4) as usize, idle_ticks: dice.count(1, 6) },
            // An index must not change an answer, so half of the stories have one.
            retention: Retention {
                dedupe_ms,
                index_from: if dice.chance(0.5) { 8 } else { 128 },
                ..Retention::default()
            },
            disk,
            model,
        }
    }
}

/// Nothing in half of all cases, else up to the given share.
fn share(dice: &mut Dice, most: f64) -> f64 {
    if dice.chance(0.5) { 0.0 } else { dice.between(0.0, most) }
}
