//! The port to where people find alerts and say what they think of them, and its two implementations: [`sqlite`] when
//! everything is embedded, [`postgres`] where a server is configured.
//!
//! Contract:
//! - **Rows and position** are written in one transaction, all or nothing. A row that is there already stays as it is, so
//!   whatever became of a call that failed, calling again is safe.
//! - **A position moves only from the expected one.** When it stands elsewhere, nothing is written and the answer is
//!   [`ReviewError::Moved`]: the reader asks for the positions and reads again from there. That is how a rebuild reaches a
//!   running reader, and why two readers can do no harm.
//! - **With a position goes its place** in the topic, where the journal has one. It saves a search and decides nothing: it
//!   carries a number of its own, so that it stays true where somebody moves the position alone.
//! - **Alerts are never changed**, and arrive in an order that followers can rely on: an alert that becomes visible has a
//!   higher place than all that were visible before.
//! - **Reviews are primary data**, also those that somebody inserts by hand: nothing here deletes or changes one but for
//!   its flag `unlabelled`, and one that was answered is durable.
//! - **A server that hangs** without closing its connections is given up: every call to one ends in bounded time.

#[cfg(test)]
pub(in crate::projections) mod contract;
pub mod postgres;
pub mod sqlite;

use crate::journal::record::Decided;
use crate::journal::{Partition, Position, Wanted};
use crate::wire::alert::{Alert, Arrival};
use crate::wire::alert_query::{AlertFilter, AlertPage};
use crate::wire::review::{NewReview, Review, ReviewStatus};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::watch;
use uuid::Uuid;
use verdict_core::event::{Label, LabelSource};
use verdict_core::time::Timestamp;

/// Why the store cannot be used.
#[derive(Clone, Debug, Error)]
pub enum ReviewError {
    /// It cannot be reached, read or written.
    #[error("the review store failed: {0}")]
    Store(Arc<str>),
    /// Its tables are not those of this release.
    #[error("the review store cannot be used: {0}")]
    Layout(Arc<str>),
    /// It was filled from another journal.
    #[error(
        "the review store holds what was made of journal {found}, expected {expected}: two journals never share one; \
         name another database in postgres.url, or empty this one"
    )]
    OtherJournal {
        /// Identity of this journal.
        expected: Arc<str>,
        /// Identity of the other one.
        found: Arc<str>,
    },
    /// The position of a partition is not where the reader left it.
    #[error("partition {partition} of the review store was moved: expected position {expected}, found {found}")]
    Moved {
        /// The partition.
        partition: Partition,
        /// Where the reader left it.
        expected: u64,
        /// Where it is.
        found: u64,
    },
    /// A row is not what was written.
    #[error("{store} is damaged: {what}; {remedy}")]
    Damaged {
        /// The file or the database.
        store: Arc<str>,
        /// The row, and what is wrong with it.
        what: Arc<str>,
        /// What to do.
        remedy: &'static str,
    },
    /// A page was to go on after an alert that is not there.
    #[error("expected the cursor of an alert that is here, found one of alert {0}; start again without a cursor")]
    UnknownCursor(Uuid),
    /// The latest review of the alert is dated so far ahead that none can come after it yet.
    #[error("expected a latest review that is at most a day ahead, found one after which none can come yet")]
    Ahead,
}

impl ReviewError {
    /// Whether trying again may help: somebody may start a server or bring its tables up meanwhile.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Layout(_) | Self::Moved { .. })
    }
}

/// How far the store reflects a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The partition.
    pub partition: Partition,
    /// The first record that is not reflected.
    pub n: u64,
    /// From where in the topic that is found, if it was known when the position was stored.
    pub place: Option<Position>,
}

/// Moves a position: the first record that is not reflected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The partition.
    pub partition: Partition,
    /// Where the position is expected; 0 where there is none.
    pub from: u64,
    /// Where it goes.
    pub to: u64,
    /// From where in the topic that is found, if it is known.
    pub place: Option<Position>,
}

/// A decision, and the record that holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct DecidedAt {
    /// Partition of the record.
    pub partition: Partition,
    /// Its number.
    pub n: u64,
    /// The decision.
    pub decided: Arc<Decided>,
}

/// What a stretch of the journal gives, and the positions that reflect it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stretch {
    /// In the order of the journal.
    pub alerts: Vec<Alert>,
    /// Empty unless the store wants everything.
    pub decided: Vec<DecidedAt>,
    /// Empty unless the store wants everything.
    pub labels: Vec<Label>,
    /// At most one a partition.
    pub moves: Vec<Move>,
}

impl Stretch {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.alerts.len() + self.decided.len() + self.labels.len()
    }
}

/// What the projection and the feed ask of a store: so much can be run over one that fails as it is told.
pub trait ProjectionStore: Send + Sync {
    /// Which records it makes rows of.
    fn wanted(&self) -> Wanted;

    /// What messages call it.
    fn name(&self) -> Arc<str>;

    /// What to do when it reflects records that the journal does not have.
    fn remedy(&self) -> &'static str;

    /// Of each partition that has any record reflected.
    fn positions(&self) -> BoxFuture<'_, Result<Vec<Reached>, ReviewError>>;

    /// Writes rows and moves positions.
    fn apply<'a>(&'a self, stretch: &'a Stretch) -> BoxFuture<'a, Result<(), ReviewError>>;

    /// The alerts that arrived after a place, at most so many, in order of arrival.
    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, ReviewError>>;

    /// The place of the newest alert, whenever there is another one; `None` until the store was first read.
    fn head(&self) -> watch::Receiver<Option<i64>>;
}

/// Time and number of a review: where it stands in the order in which reviews supersede one another.
pub type Place = (i64, i64);

/// A review that settled an alert, and whose label does not count yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Unlabelled {
    /// The review.
    pub review_id: i64,
    /// Where it stands.
    pub place: Place,
    /// What follows from it.
    pub label: Label,
}

/// Such a review as a store has it: its number and time in milliseconds, what it says, and of which transaction and user.
type SettledRow = (i64, i64, String, String, String);

impl Unlabelled {
    /// The label that follows from a row; else what is wrong with that.
    fn of((review_id, at_ms, said, transaction_id, user_id): SettledRow) -> Result<Self, String> {
        let is_fraud = ReviewStatus::from_name(&said).and_then(ReviewStatus::is_fraud);
        let is_fraud = is_fraud.ok_or_else(|| format!("a review says {said:?}"))?;
        let label = Label {
            transaction_id: transaction_id.into(),
            user_id: user_id.into(),
            is_fraud,
            source: LabelSource::Analyst,
            at: Timestamp::from_millis(at_ms),
            amount_lost: None,
        };
        Ok(Self { review_id, place: (at_ms, review_id), label })
    }
}

/// The whole port.
pub trait ReviewStore: ProjectionStore {
    /// Puts all positions back to the journal's start; rows and reviews stay.
    fn reset(&self) -> BoxFuture<'_, Result<(), ReviewError>>;

    /// The place of an alert in the order of arrival, `None` for one that is not there; without an id, of the newest.
    fn place(&self, alert_id: Option<Uuid>) -> BoxFuture<'_, Result<Option<i64>, ReviewError>>;

    /// A page of alerts, the last to be decided first.
    fn alerts<'a>(&'a self, filter: &'a AlertFilter) -> BoxFuture<'a, Result<AlertPage, ReviewError>>;

    /// Stores what somebody says about an alert now, so that it supersedes whatever was said before; `None` for an alert
    /// that is not there.
    fn review(
        &self,
        alert_id: Uuid,
        said: NewReview,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<Review>, ReviewError>>;

    /// Completes after the next review over the API; one that was stored since the last wait completes it at once.
    fn reviewed(&self) -> BoxFuture<'_, ()>;

    /// The first reviews after a place whose label does not count yet, in the order in which they supersede one another.
    /// One whose alert is not there, as while alerts are made again, waits for it.
    fn unlabelled(&self, after: Place, most: u32) -> BoxFuture<'_, Result<Vec<Unlabelled>, ReviewError>>;

    /// Marks reviews whose labels count.
    fn labelled<'a>(&'a self, review_ids: &'a [i64]) -> BoxFuture<'a, Result<(), ReviewError>>;
}

/// The page of a filter, of rows of which one more than the limit was asked for.
fn page_of(filter: &AlertFilter, mut alerts: Vec<Alert>, limit: usize) -> Result<AlertPage, uuid::Error> {
    let more = alerts.len() > limit;
    alerts.truncate(limit);
    let next_cursor = match alerts.last().filter(|_| more) {
        None => None,
        Some(last) => Some(filter.cursor_after(Uuid::try_parse(&last.alert_id)?)),
    };
    Ok(AlertPage { alerts, next_cursor })
}

/// A place as a store has it, in columns of their own: offset, epoch, and the number of the first record behind it.
type PlaceRow = (Option<i64>, Option<i64>, Option<i64>);

fn place_of((offset, epoch, n): PlaceRow) -> Option<Position> {
    Some(Position { offset: offset?.cast_unsigned(), epoch: epoch?.cast_unsigned(), n: n?.cast_unsigned() })
}

impl Move {
    /// The columns of its place.
    fn place_row(&self) -> PlaceRow {
        let column = |of: fn(Position) -> u64| self.place.map(|place| of(place).cast_signed());
        (column(|place| place.offset), column(|place| place.epoch), column(|place| place.n))
    }

    /// Why it cannot be made.
    const fn refused(&self, found: u64) -> ReviewError {
        ReviewError::Moved { partition: self.partition, expected: self.from, found }
    }
}
