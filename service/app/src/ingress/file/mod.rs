//! A history file through the gateway, in event time (DESIGN 5, 11).
//!
//! Lines go out in order, many in flight; what comes back is written in the same order. The watermark, the newest
//! timestamp seen less the out-of-order bound, stands in for the clock. The file has no say in what is decided: it
//! waits for permits like any topic.

mod cells;
mod history;
mod summary;

pub use history::{Format, History, HistoryError};
pub use summary::Summary;

use crate::actors::gateway::Gateway;
use crate::actors::messages::{Accepted, Answer, Event, Refusal, Settled, Submission};
use crate::telemetry::clock;
use crate::wire::{AgeBounds, ParseContext};
use history::{Entry, Refused};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use thiserror::Error;
use tokio::sync::oneshot;
use verdict_core::event::{Label, LabelSource, Source};
use verdict_core::money::Rates;
use verdict_core::time::{DAY_MS, SECOND_MS, Timestamp};

/// How far the watermark stays behind the newest transaction: the out-of-order bound of transactions.
const OUT_OF_ORDER_MS: i64 = 5 * SECOND_MS;

/// When the label of a transaction in a labelled CSV history is known: chargebacks take about a week.
const LABEL_DELAY_MS: i64 = 7 * DAY_MS;

/// Lines between two calls of `progress`.
const PROGRESS_EVERY: u64 = 1_000;

/// From which on a step of event time is worth a word: a live service accepts no event from farther ahead.
const LEAP_MS: i64 = DAY_MS;

/// Why a backtest stops.
#[derive(Debug, Error)]
pub enum FileError {
    /// The history cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The decisions cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// The service refused what it never refuses a file.
    #[error("line {line}: {refusal}")]
    Refused {
        /// The line.
        line: u64,
        /// Why.
        refusal: Refusal,
    },
}

/// What a run needs.
pub struct Run<'a> {
    /// The way in.
    pub gateway: &'a Gateway,
    /// The rates that amounts are converted by.
    pub rates: &'a Rates,
    /// Oldest accepted age against the watermark, in milliseconds.
    pub max_age_ms: i64,
    /// Most lines in flight.
    pub window: usize,
}

/// Receives every answer, in the order of the lines.
pub trait Sink {
    /// A decision.
    ///
    /// # Errors
    /// When it cannot be written.
    fn decision(&mut self, answer: &Answer) -> io::Result<()>;
    /// A line that was refused.
    fn dead_letter(&mut self, line: u64, reason: &str, detail: &str);
    /// A line whose time is this far after the newest before it, in milliseconds, and that moves event time on.
    fn leap(&mut self, line: u64, ahead_ms: i64);
    /// Called now and then with the rows and bytes read so far.
    fn progress(&mut self, rows: u64, bytes_read: u64);
}

/// A line whose answer is on its way.
enum InFlight {
    Transaction(u64, oneshot::Receiver<Result<Settled, Refusal>>),
    Other(u64, Kind, oneshot::Receiver<Result<Accepted, Refusal>>),
    DeadLetter(u64, &'static str, String, oneshot::Receiver<Result<Accepted, Refusal>>),
}

#[derive(Clone, Copy)]
enum Kind {
    Login,
    Label,
    /// A label that a row of a labelled history carried; it is no row of its own.
    RowLabel,
}

/// A label of a row, until it is known; ordered by that time, then by line.
struct Pending(Reverse<(i64, u64)>, Label);

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Run<'_> {
    /// Runs the whole history and sums it up.
    ///
    /// # Errors
    /// When the input cannot be read or the output not written. A line that is no event is a dead letter, not an error.
    pub async fn through(&self, history: &mut History, sink: &mut impl Sink) -> Result<Summary, FileError> {
        let started = clock::instant();
        let mut state =
            State { newest: None, labels: BinaryHeap::new(), in_flight: VecDeque::new(), summary: Summary::default() };
        loop {
            let context =
                ParseContext { rates: self.rates, now: state.watermark(), bounds: state.bounds(self.max_age_ms) };
            let Some(entry) = history.next(&context)? else { break };
            state.summary.rows += 1;
            let (line, before) = (entry.line, state.newest);
            self.submit(entry, &mut state).await?;
            if let Some(ahead_ms) = before.zip(state.newest).map(|(before, newest)| newest - before)
                && ahead_ms > LEAP_MS
            {
                sink.leap(line, ahead_ms);
            }
            while state.in_flight.len() >= self.window {
                state.settle_oldest(sink).await?;
            }
            if state.summary.rows.is_multiple_of(PROGRESS_EVERY) {
                sink.progress(state.summary.rows, history.bytes_read());
            }
        }
        while !state.in_flight.is_empty() {
            state.settle_oldest(sink).await?;
        }
        sink.progress(state.summary.rows, history.bytes_read());
        state.summary.seconds = started.elapsed().as_secs_f64();
        Ok(state.summary)
    }

    async fn submit(&self, Entry { line, original, event }: Entry, state: &mut State) -> Result<(), FileError> {
        let refused = |refusal| FileError::Refused { line, refusal };
        let (event, is_fraud) = match event {
            Ok(event) => event,
            Err(Refused { reason, detail }) => {
                let permit = self.gateway.turn().await.map_err(refused)?;
                let sent = submission((), line, state.watermark(), original);
                let reply = self.gateway.send_dead_letter(sent, reason, &detail, permit);
                state.in_flight.push_back(InFlight::DeadLetter(line, reason, detail, reply));
                return Ok(());
            }
        };
        match event {
            Event::Transaction(transaction) => {
                self.submit_labels_known_by(transaction.at, line, state).await?;
                let at = transaction.at;
                state.newest = state.newest.max(Some(at));
                if let Some(is_fraud) = is_fraud {
                    let label = Label {
                        transaction_id: transaction.transaction_id.clone(),
                        user_id: transaction.user_id.clone(),
                        is_fraud,
                        source: LabelSource::Issuer,
                        at: at + LABEL_DELAY_MS,
                        amount_lost: None,
                    };
                    state.labels.push(Pending(Reverse((label.at.as_millis(), line)), label));
                }
                let permit = self.gateway.turn().await.map_err(refused)?;
                let reply = self.gateway.send_transaction(submission(transaction, line, at, original), permit);
                state.in_flight.push_back(InFlight::Transaction(line, reply));
            }
            Event::Login(login) => {
                let at = login.at;
                let permit = self.gateway.turn().await.map_err(refused)?;
                let reply = self.gateway.send_login(submission(login, line, at, original), permit);
                state.in_flight.push_back(InFlight::Other(line, Kind::Login, reply));
            }
            Event::Label(label) => {
                let at = label.at;
                let permit = self.gateway.turn().await.map_err(refused)?;
                let reply = self.gateway.send_label(submission(label, line, at, original), permit);
                state.in_flight.push_back(InFlight::Other(line, Kind::Label, reply));
            }
        }
        Ok(())
    }

    /// Sends the labels of earlier rows that are known by now. Those known only after the last row are never sent.
    async fn submit_labels_known_by(&self, now: Timestamp, line: u64, state: &mut State) -> Result<(), FileError> {
        while state.labels.peek().is_some_and(|Pending(Reverse((known_at, _)), _)| *known_at <= now.as_millis()) {
            let Some(Pending(_, label)) = state.labels.pop() else { break };
            let permit = self.gateway.turn().await.map_err(|refusal| FileError::Refused { line, refusal })?;
            let at = label.at;
            let reply = self.gateway.send_label(submission(label, line, at, Box::default()), permit);
            state.in_flight.push_back(InFlight::Other(line, Kind::RowLabel, reply));
        }
        Ok(())
    }
}

fn submission<E>(event: impl Into<Box<E>>, line: u64, at: Timestamp, original: Box<[u8]>) -> Submission<E> {
    Submission {
        event: event.into(),
        source: Source::File { line },
        received_at: at,
        started: clock::instant(),
        deadline: None,
        undurable: false,
        original: Some(original),
    }
}

struct State {
    newest: Option<Timestamp>,
    labels: BinaryHeap<Pending>,
    in_flight: VecDeque<InFlight>,
    summary: Summary,
}

impl State {
    fn watermark(&self) -> Timestamp {
        self.newest.map(|newest| newest - OUT_OF_ORDER_MS).unwrap_or_default()
    }

    /// A history knows no "too early": its next line may lie any time ahead, as after a quiet season. A wrong year then makes
    /// all that follows too old, which `Sink::leap` gives a hint of.
    fn bounds(&self, max_age_ms: i64) -> AgeBounds {
        AgeBounds { max_age_ms: self.newest.map(|_| max_age_ms), max_ahead_ms: None }
    }

    async fn settle_oldest(&mut self, sink: &mut impl Sink) -> Result<(), FileError> {
        let Some(oldest) = self.in_flight.pop_front() else { return Ok(()) };
        // A reply that is dropped went down with the actors' state.
        match oldest {
            InFlight::Transaction(line, reply) => match reply.await.unwrap_or(Err(Refusal::Recovering)) {
                Ok(Settled::Answer(answer)) => {
                    self.summary.decided(&answer.decided.decision);
                    sink.decision(&answer)?;
                }
                Ok(Settled::SeenBefore) => self.summary.duplicates += 1,
                Err(refusal) => self.refused(line, refusal, sink)?,
            },
            InFlight::Other(line, kind, reply) => match reply.await.unwrap_or(Err(Refusal::Recovering)) {
                Ok(Accepted { duplicate: true }) => {
                    self.summary.duplicates += u64::from(!matches!(kind, Kind::RowLabel));
                }
                Ok(Accepted { duplicate: false }) => match kind {
                    Kind::Login => self.summary.logins += 1,
                    Kind::Label | Kind::RowLabel => self.summary.labels += 1,
                },
                Err(refusal) => self.refused(line, refusal, sink)?,
            },
            InFlight::DeadLetter(line, reason, detail, reply) => {
                reply
                    .await
                    .unwrap_or(Err(Refusal::Recovering))
                    .map_err(|refusal| FileError::Refused { line, refusal })?;
                self.summary.dead_letter(reason);
                sink.dead_letter(line, reason, &detail);
            }
        }
        Ok(())
    }

    /// An event that its user refused is a dead letter; any other refusal means that the service is broken.
    fn refused(&mut self, line: u64, refusal: Refusal, sink: &mut impl Sink) -> Result<(), FileError> {
        match refusal {
            Refusal::TooOld { .. } | Refusal::IdReused | Refusal::Unpriced(_) => {
                self.summary.dead_letter(refusal.code());
                sink.dead_letter(line, refusal.code(), &refusal.to_string());
                Ok(())
            }
            refusal => Err(FileError::Refused { line, refusal }),
        }
    }
}
