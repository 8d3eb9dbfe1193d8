//! The last line of a backtest: what became of every row.

use serde::Serialize;
use std::collections::BTreeMap;
use verdict_core::decision::{Decision, Outcome};

/// Counts of a run; `rows` = `decided` + `duplicates` + dead letters + `logins` + labels that were rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Lines read, headers and empty lines left out.
    pub rows: u64,
    /// Transactions decided.
    pub decided: u64,
    /// Events that came again.
    pub duplicates: u64,
    /// Lines refused, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Logins remembered.
    pub logins: u64,
    /// Labels remembered, those that rows carried included.
    pub labels: u64,
    /// Alerts raised.
    pub alerts: u64,
    /// Transactions by decision.
    pub decisions: Decisions,
    /// From the first line to the last answer.
    pub seconds: f64,
}

/// Transactions by decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decisions {
    /// Approved.
    pub approve: u64,
    /// Challenged.
    pub challenge: u64,
    /// To be reviewed.
    pub review: u64,
    /// Blocked.
    pub block: u64,
}

impl Summary {
    pub(super) fn decided(&mut self, decision: &Decision) {
        self.decided += 1;
        self.alerts += u64::from(decision.alert);
        let count = match decision.outcome {
            Outcome::Approve => &mut self.decisions.approve,
            Outcome::Challenge => &mut self.decisions.challenge,
            Outcome::Review => &mut self.decisions.review,
            Outcome::Block => &mut self.decisions.block,
        };
        *count += 1;
    }

    pub(super) fn dead_letter(&mut self, reason: &str) {
        *self.dead_letters.entry(reason.to_owned()).or_default() += 1;
    }
}
