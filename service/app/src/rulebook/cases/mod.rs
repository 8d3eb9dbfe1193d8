//! Cases: histories with the decisions that a rule set must make of them (`cases.yaml`).
//!
//! A case runs through the same profile, features and rules as the service, on event time like a backtest, in a profile
//! of its own. It takes no model: a transaction says which score it got, if any.
//!
//! ```yaml
//! cases:
//!   - name: a login far away a minute ago
//!     start: 2026-11-23T12:00:00Z      # default; times such as 5m and -1h count from here
//!     events:                          # of one user, in the order of their arrival
//!       - login: {at: 0s, place: [40.7, -74.0], success: true}
//!       - list: {put: block, kind: merchant, value: m-1, expires_at: 24h}
//!       - list: {delete: block, kind: merchant, value: m-1}
//!       - transaction: {at: 10s, amount: "20.00", currency: USD, merchant_id: m-1, score: 0.2,
//!                       repeat: 3, every: 1m}
//!       - transaction:
//!           at: 4m
//!           place: [34.1, -118.2]
//!           expect: {decision: review, reasons: [GEO_ANOMALY], shadow: [velocity]}
//! ```
//!
//! `at` is the only key of a login or a transaction that must be there. A list entry is put or deleted where it stands
//! among the events; it is about the user unless `kind` says merchant, whose `value` is m-1 unless given. `reasons` are the codes in the answer's order,
//! `shadow` the ids of the shadow rules that fire; both are empty unless given.

mod read;
mod run;

pub use read::read;
pub use run::{Failure, Outcomes, run};

use verdict_core::decision::Outcome;
use verdict_core::event::{Login, Transaction};
use verdict_core::lists::ListChange;
use verdict_core::rules::diagnostic::Place;

/// The file, in the set's folder.
pub const CASES_FILE: &str = "cases.yaml";

/// One history.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// What happens, in order of arrival.
    pub steps: Vec<Step>,
}

/// One event of a history.
#[derive(Clone, Debug)]
pub enum Step {
    /// A login.
    Login(Login),
    /// A list entry about the user or a merchant.
    List(ListChange),
    /// A payment.
    Transaction(Box<Payment>),
}

/// A payment and what is expected of it.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The event.
    pub transaction: Transaction,
    /// What the model says of it; `None` for no model.
    pub score: Option<f32>,
    /// What must be decided; `None` for history.
    pub expected: Option<Expectation>,
}

/// A decision as a case states it.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Where the file says so.
    pub place: Place,
    /// What must happen to the payment.
    pub outcome: Outcome,
    /// Reason codes, in the answer's order.
    pub reasons: Vec<String>,
    /// Ids of shadow rules that must fire, in rule order.
    pub shadow: Vec<String>,
}
