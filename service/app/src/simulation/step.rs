//! What happens next in a story: one throw of the dice for each step.

use super::followers::Mode;
use super::plan::Plan;
use crate::traffic::dice::Dice;
use verdict_core::time::{DAY_MS, HOUR_MS, MINUTE_MS};

/// Those who follow the alerts.
pub(super) const FOLLOWERS: u32 = 2;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many events at once.
    Send(u32),
    /// So many events in one batch.
    Batch(u32),
    /// One who follows the alerts does something else.
    Follow(usize, Mode),
    /// Time passes, in milliseconds.
    Wait(u32),
    /// The wall clock is set, by so many milliseconds.
    Jump(i64),
    /// Somebody looks at a profile, and at some list entries.
    Look,
    /// List entries that have ended are removed.
    Sweep,
    /// A checkpoint is asked for beside the ones that come by themselves.
    Checkpoint,
    /// The disk and the model behave from here on, or stop doing so.
    Calm(bool),
    /// The other rules are put in force.
    Reload,
    /// Everything comes to rest and is compared.
    Rest,
    Crash,
    Stop,
}

impl Step {
    /// The next step of a story.
    pub(super) fn draw(dice: &mut Dice, Plan { limit, http, .. }: &Plan) -> Self {
        match dice.below(100) {
            0..38 => Self::Send(1),
            38..42 if *http => Self::Batch(dice.count(1, 12)),
            42..47 if *http => {
                let mode = match dice.below(6) {
                    0 => Mode::Away,
                    1..3 => Mode::Sleeps,
                    _ => Mode::Reads,
                };
                Self::Follow(dice.below(FOLLOWERS) as usize, mode)
            }
            38..52 => Self::Send(dice.count(2, 8)),
            52..55 => Self::Send(*limit as u32 + dice.below(8)),
            55..75 => Self::Wait(dice.count(1, 60)),
            75..82 => Self::Wait(dice.count(100, 4_000)),
            82..86 => Self::Jump(match dice.below(6) {
                0 => -i64::from(dice.below(5_000)),
                1..4 => i64::from(dice.count(1, 90)) * MINUTE_MS,
                4 => i64::from(dice.count(1, 30)) * HOUR_MS,
                _ => i64::from(dice.count(1, 12)) * DAY_MS,
            }),
            86..88 => Self::Look,
            88 => Self::Checkpoint,
            89 => Self::Sweep,
            90..92 => Self::Reload,
            92 => Self::Calm(dice.chance(0.5)),
            93..95 => Self::Rest,
            95..98 => Self::Crash,
            _ => Self::Stop,
        }
    }
}
