//! Scores the rows that wait, a batch at a time: rows of one generation only (I8), and within the time that they have.
//! It decides nothing: a row without a score is decided by rules alone, and says so.

use super::breaker::{Asking, FAIR_RUN};
use super::context::{Judge, ShardContext, WaitingRow, Wake};
use super::user::{Scored, UserActor};
use crate::model::{Score, ScoreError};
use crate::telemetry::events::{ModelLeftAlone, ModelRun};
use actix::Addr;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};
use verdict_core::decision::{Degradation, ModelVerdict};
use verdict_core::features::FeatureVector;

/// Rows scored in a turn at least, if so many wait, in however many runs: enough that what follows a turn is shared by many, few
/// enough that the first answers do not wait for long.
const ROWS_PER_TURN: usize = 64;

/// Time that a decision still needs after its score; a row with less left is decided by rules alone.
const AFTER_MODEL: Duration = Duration::from_millis(2);

/// Time that a run gets at least, taken from what is left after it: several times what a batch of 64 needs.
const LEAST_RUN: Duration = Duration::from_millis(1);

/// Scores rows that wait, in runs of at most `max_batch`, and wakes the shard again if there are more, so that the first
/// answers do not wait for the last rows.
pub(super) fn score(context: &ShardContext) {
    let mut left = ROWS_PER_TURN.max(context.max_batch);
    while left > 0 {
        let batch = next_batch(context, left.min(context.max_batch));
        let others = context.rows.borrow().len();
        if batch.is_empty() {
            break;
        }
        left -= batch.len();
        score_batch(context, batch);
        // What came back is tried again once others have had their turn.
        if context.rows.borrow().len() > others {
            break;
        }
    }
    if !context.rows.borrow().is_empty() {
        context.wake(Wake::Score);
    }
}

/// Scores a row by itself and at once, within the time that those have who wait; `None` where it must wait with them.
pub(super) fn score_alone(context: &ShardContext, row: &WaitingRow) -> Option<ModelVerdict> {
    let started = context.clock.instant();
    let may =
        !context.is_closed() && in_time(row, started) && row.judge.breaker.borrow().asking(started) == Asking::Batches;
    let scorer = row.judge.scorer.as_ref().filter(|_| may)?;
    let waiting = context.rows.borrow().iter().filter_map(|row| row.deadline).min();
    let earliest = row.deadline.into_iter().chain(waiting).min();
    let limit = ends(earliest, started, Some(started + FAIR_RUN));
    match ask_model(context, &row.judge, scorer, &[&row.computed.features], limit) {
        Ok(scores) => Some(scores.first().map_or_else(failed, |score| ModelVerdict::Score(*score))),
        Err(ScoreError::TimedOut) => None,
        Err(error) => {
            error!(%error, rows = 1, "the model failed; deciding by rules alone");
            Some(failed())
        }
    }
}

/// Scores those of a batch that have the time, in one run.
fn score_batch(context: &ShardContext, mut rows: Vec<WaitingRow>) {
    let started = context.clock.instant();
    without_score(rows.extract_if(.., |row| !in_time(row, started)));
    ask(context, rows, started);
}

/// The rows at the head of the queue that are of one generation, at most so many.
fn next_batch(context: &ShardContext, most: usize) -> Vec<WaitingRow> {
    let mut waiting = context.rows.borrow_mut();
    let Some(first) = waiting.first() else { return Vec::new() };
    let alike = waiting.iter().take(most).take_while(|row| Rc::ptr_eq(&row.judge, &first.judge)).count();
    waiting.drain(..alike).collect()
}

/// Whether a score that comes now is still of use.
fn in_time(row: &WaitingRow, now: Instant) -> bool {
    row.deadline.is_none_or(|deadline| now + AFTER_MODEL < deadline)
}

/// Asks the model as much as it may be asked, and decides the rest by rules alone.
fn ask(context: &ShardContext, mut rows: Vec<WaitingRow>, started: Instant) {
    let Some(judge) = rows.first().map(|row| Rc::clone(&row.judge)) else { return };
    let Some(scorer) = &judge.scorer else { return };
    let asking = judge.breaker.borrow().asking(started);
    match asking {
        Asking::Batches => run(context, &judge, scorer, rows, started, None),
        Asking::OneRow => {
            // The one with the most time; the others see what comes of it.
            let most = |row: &WaitingRow| (row.deadline.is_none(), row.deadline);
            let Some(at) = (0..rows.len()).max_by_key(|&at| most(&rows[at])) else { return };
            let tried = rows.swap_remove(at);
            context.rows.borrow_mut().splice(0..0, rows);
            run(context, &judge, scorer, vec![tried], started, Some(started + FAIR_RUN));
        }
        Asking::Nothing => without_score(rows),
    }
}

/// Has these decided by rules alone.
fn without_score(rows: impl IntoIterator<Item = WaitingRow>) {
    for row in rows {
        send(&row.user, ModelVerdict::Missing(Degradation::ModelTimeout));
    }
}

/// Runs the model until the first row must go on without it, or until `limit`. The others are tried again.
fn run(
    context: &ShardContext,
    judge: &Judge,
    scorer: &RefCell<Box<dyn Score>>,
    rows: Vec<WaitingRow>,
    started: Instant,
    limit: Option<Instant>,
) {
    let earliest = rows.iter().filter_map(|row| row.deadline).min();
    let limit = ends(earliest, started, limit);
    let features: Vec<&FeatureVector> = rows.iter().map(|row| &row.computed.features).collect();
    match ask_model(context, judge, scorer, &features, limit) {
        Ok(scores) => {
            for (row, score) in rows.iter().zip(scores) {
                send(&row.user, ModelVerdict::Score(score));
            }
        }
        Err(ScoreError::TimedOut) => {
            let now = limit.map_or(started, |limit| limit.max(context.clock.instant()));
            let (again, late): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| in_time(row, now));
            warn!(rows = late.len(), "the model takes too long; deciding by rules alone");
            without_score(late);
            context.rows.borrow_mut().splice(0..0, again);
        }
        Err(error) => {
            error!(%error, rows = rows.len(), "the model failed; deciding by rules alone");
            for row in &rows {
                send(&row.user, failed());
            }
        }
    }
}

/// When a run that starts now must end, for the decision that is due first, and at the latest.
fn ends(earliest: Option<Instant>, started: Instant, latest: Option<Instant>) -> Option<Instant> {
    let for_decision = earliest.map(|deadline| (started + LEAST_RUN).max(deadline - AFTER_MODEL));
    for_decision.into_iter().chain(latest).min()
}

const fn failed() -> ModelVerdict {
    ModelVerdict::Missing(Degradation::ModelError)
}

/// One run of the model, which ends by this time.
fn ask_model(
    context: &ShardContext,
    judge: &Judge,
    scorer: &RefCell<Box<dyn Score>>,
    rows: &[&FeatureVector],
    limit: Option<Instant>,
) -> Result<Vec<f32>, ScoreError> {
    let allowed = limit.map(|limit| limit.saturating_duration_since(context.clock.instant()));
    ModelRun { rows: rows.len() as u64 }.emit(&context.metrics);
    let scores = scorer.borrow_mut().score(rows, allowed);
    note(context, judge, &scores, allowed);
    scores
}

/// Keeps account of whether the model comes back.
fn note(context: &ShardContext, judge: &Judge, scores: &Result<Vec<f32>, ScoreError>, allowed: Option<Duration>) {
    let mut breaker = judge.breaker.borrow_mut();
    if matches!(scores, Err(ScoreError::TimedOut)) {
        if let Some(pause) = breaker.was_stopped(allowed, context.clock.instant()) {
            ModelLeftAlone.emit(&context.metrics);
            error!(pause_secs = pause.as_secs(), "the model hangs; deciding by rules alone until it is tried again");
        }
    } else if breaker.came_back() {
        info!("the model comes back again; its scores count from now on");
    }
}

/// Gives a user its score. Its mailbox takes whatever permits let in, and it lives as long as its row.
fn send(user: &Addr<UserActor>, verdict: ModelVerdict) {
    if let Err(error) = user.try_send(Scored(verdict)) {
        error!(%error, "a user did not take its score");
    }
}
