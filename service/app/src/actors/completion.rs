//! Who hears of a record when it is durable, and what is counted then: nothing counts before (I2).

use super::context::Ticket;
use super::messages::{Accepted, Answer, JOURNAL_LATE, ListChanged, Refusal, Settled};
use crate::journal::record::Decided;
use crate::journal::spill::RecordId;
use crate::telemetry::{Metrics, events};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use verdict_core::decision::DecisionMode;
use verdict_core::event::Source;

/// Who hears of a record, or of everything before it, once that is durable.
pub enum Completion {
    /// A decision: first or duplicate; and its first record, if that is on its way.
    Decided(Ticket<Settled>, Answer, Option<RecordId>),
    /// A first decision that was answered from the spill.
    AnsweredBefore(Arc<Decided>),
    /// A transaction of a topic or a file that was seen before.
    SeenBefore(Ticket<Settled>),
    /// A login or a label.
    Accepted(Ticket<Accepted>, Accepted),
    /// A change of a list entry, or why there is none.
    Listed(Ticket<ListChanged>, Result<ListChanged, Refusal>),
    /// A refused transaction whose dead letter is durable.
    TransactionRefused(Ticket<Settled>, Refusal),
    /// A refused login or label whose dead letter is durable.
    EventRefused(Ticket<Accepted>, Refusal),
    /// What was no event, whose dead letter is durable; with its reason code.
    DeadLetter(Ticket<Accepted>, &'static str),
    /// What was moved to another partition.
    Skipped(Ticket<Accepted>),
    /// A heartbeat, which was decided and counts as nothing.
    Heartbeat(Ticket<Settled>, Answer),
    /// Somebody who has been answered, and counted.
    Nobody,
    /// Somebody inside who only waits: `true` once everything before is durable.
    Durable(oneshot::Sender<bool>),
}

impl Completion {
    /// Counts what became durable, and answers.
    pub fn complete(self, appended: Result<(), Refusal>, metrics: &Metrics, now: Instant) {
        if appended.is_ok() {
            self.count(metrics, now);
        }
        match (self, appended) {
            (Self::Decided(ticket, answer, _) | Self::Heartbeat(ticket, answer), Ok(())) => {
                ticket.answer(Ok(Settled::Answer(Answer { durable: true, ..answer })));
            }
            (Self::DeadLetter(ticket, _) | Self::Skipped(ticket), Ok(())) => {
                ticket.answer(Ok(Accepted { duplicate: false }));
            }
            (Self::SeenBefore(ticket), Ok(())) => ticket.answer(Ok(Settled::SeenBefore)),
            (Self::Accepted(ticket, accepted), Ok(())) => ticket.answer(Ok(accepted)),
            (Self::Listed(ticket, done), Ok(())) => ticket.answer(done),
            (Self::Listed(ticket, _), Err(refusal)) => ticket.answer(Err(refusal)),
            (Self::TransactionRefused(ticket, refusal), Ok(())) => ticket.answer(Err(refusal)),
            (Self::EventRefused(ticket, refusal), Ok(())) => ticket.answer(Err(refusal)),
            (
                Self::Decided(ticket, ..)
                | Self::Heartbeat(ticket, _)
                | Self::TransactionRefused(ticket, _)
                | Self::SeenBefore(ticket),
                Err(refusal),
            ) => {
                ticket.answer(Err(refusal));
            }
            (
                Self::Accepted(ticket, _)
                | Self::EventRefused(ticket, _)
                | Self::DeadLetter(ticket, _)
                | Self::Skipped(ticket),
                Err(refusal),
            ) => {
                ticket.answer(Err(refusal));
            }
            (Self::AnsweredBefore(_) | Self::Nobody, _) => {}
            // One who no longer waits is no error.
            (Self::Durable(done), appended) => drop(done.send(appended.is_ok())),
        }
    }
}

impl Completion {
    fn count(&self, metrics: &Metrics, now: Instant) {
        match self {
            Self::Decided(ticket, Answer { decided, duplicate: false, .. }, _) => {
                count_decision(decided, decided.decision.mode(), metrics);
                answered(ticket, metrics, now);
            }
            Self::AnsweredBefore(decided) => count_answered_before(decided, metrics),
            Self::Accepted(ticket, Accepted { duplicate: false }) => answered(ticket, metrics, now),
            Self::Decided(ticket, ..) | Self::SeenBefore(ticket) => answered_again(ticket, metrics, now),
            Self::Accepted(ticket, _) => answered_again(ticket, metrics, now),
            Self::TransactionRefused(_, refusal) | Self::EventRefused(_, refusal) => {
                events::DeadLettered { reason: refusal.code() }.emit(metrics);
            }
            Self::DeadLetter(_, reason) => events::DeadLettered { reason }.emit(metrics),
            Self::Skipped(_) => events::RecordSkipped.emit(metrics),
            Self::Listed(..) | Self::Heartbeat(..) | Self::Nobody | Self::Durable(_) => {}
        }
    }
}

/// Counts a decision that was answered before it became durable.
pub(super) fn count_answered_before(decided: &Decided, metrics: &Metrics) {
    match decided.decision.mode() {
        DecisionMode::Fallback => count_decision(decided, DecisionMode::Fallback, metrics),
        DecisionMode::Normal | DecisionMode::Degraded => {
            count_decision(decided, DecisionMode::Degraded, metrics);
            events::Degraded { reason: JOURNAL_LATE }.emit(metrics);
        }
    }
}

fn count_decision(decided: &Decided, mode: DecisionMode, metrics: &Metrics) {
    let decision = &decided.decision;
    let seconds = f64::from(decided.latency_us) / 1e6;
    events::DecisionMade { outcome: decision.outcome, mode, seconds }.emit(metrics);
    for degradation in &decision.degraded {
        events::Degraded { reason: degradation.code() }.emit(metrics);
    }
    if decision.alert {
        events::AlertRaised.emit(metrics);
    }
}

fn answered<T>(ticket: &Ticket<T>, metrics: &Metrics, now: Instant) {
    // A topic's event began when it was produced: whoever read it knows when that was.
    if !matches!(ticket.source, Source::Topic { .. }) {
        let seconds = now.saturating_duration_since(ticket.started).as_secs_f64();
        events::Answered { seconds }.emit(metrics);
    }
}

pub(super) fn answered_again<T>(ticket: &Ticket<T>, metrics: &Metrics, now: Instant) {
    events::DuplicateSeen.emit(metrics);
    answered(ticket, metrics, now);
}
