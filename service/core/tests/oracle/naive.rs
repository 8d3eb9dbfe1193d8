//! Every feature of the catalogue by its meaning: filters over the whole history, sums in `i128`, one division.

use super::history::History;
use std::collections::BTreeSet;
use verdict_core::event::Transaction;
use verdict_core::features::{CATALOGUE, FeatureVector};
use verdict_core::geo::Coordinates;
use verdict_core::time::Timestamp;

/// 2026-11-23T00:00:00Z, a Monday, in milliseconds since the epoch.
pub(crate) const A_MONDAY: i64 = 1_795_392_000_000;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// Count, sum and maximum of the amounts in minor units of the base currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) count: i128,
    pub(crate) sum: i128,
    pub(crate) max: i128,
}

/// What a transaction is asked with.
pub(crate) struct Question<'a> {
    pub(crate) history: &'a History,
    pub(crate) transaction: &'a Transaction,
    pub(crate) block_hits: usize,
    pub(crate) allow_hits: usize,
    /// Minor units in one major unit of the base currency.
    pub(crate) minor_per_major: i64,
}

impl Question<'_> {
    /// Transactions that lie after `start` and not after this one, itself the last of them.
    fn seen_after(&self, start: i64) -> impl Iterator<Item = &Transaction> {
        let end = self.transaction.at.as_millis();
        let before = self.history.decided.iter().map(|decided| &decided.transaction);
        before.chain([self.transaction]).filter(move |seen| {
            let at = seen.at.as_millis();
            start < at && at <= end
        })
    }

    pub(crate) fn totals_after(&self, start: i64) -> Totals {
        let amounts: Vec<i128> = self.seen_after(start).map(|seen| i128::from(seen.base.0)).collect();
        Totals {
            count: amounts.len() as i128,
            sum: amounts.iter().sum(),
            max: amounts.iter().copied().max().unwrap_or(0),
        }
    }

    /// The totals of (t − w, t].
    pub(crate) fn window(&self, length_ms: i64) -> Totals {
        self.totals_after(self.transaction.at.as_millis() - length_ms)
    }

    /// The totals from midnight UTC, included, to t.
    pub(crate) fn today(&self) -> Totals {
        let at = self.transaction.at.as_millis();
        self.totals_after(at - (at - A_MONDAY).rem_euclid(DAY) - 1)
    }

    pub(crate) fn merchants(&self) -> BTreeSet<&str> {
        let start = self.transaction.at.as_millis() - DAY;
        self.seen_after(start).map(|seen| &*seen.merchant_id).collect()
    }

    pub(crate) fn is_first(&self) -> bool {
        !self.history.decided.iter().any(|decided| decided.transaction.at <= self.transaction.at)
    }

    /// Miles to the last located login, and the milliseconds since.
    fn journey(&self) -> Option<(f64, i64)> {
        let here = self.transaction.location?;
        let login = self.history.last_login(self.transaction.at, true)?;
        let miles = login.location?.miles_to(here);
        let chord = chord_miles(login.location?, here);
        assert!((miles - chord).abs() < 1e-3, "expected {chord} miles, found {miles}");
        Some((miles, self.transaction.at.as_millis() - login.at.as_millis()))
    }

    /// The value that a feature must have.
    pub(crate) fn feature(&self, name: &str) -> f64 {
        let at = self.transaction.at.as_millis();
        let flag = |yes: bool| if yes { 1.0 } else { 0.0 };
        let major = |minor: i128| self.ratio(minor, 1);
        if let Some((aggregate, length_ms)) = windowed(name) {
            let totals = self.window(length_ms);
            return match aggregate {
                "count" => totals.count as f64,
                "sum" => major(totals.sum),
                "mean" => self.ratio(totals.sum, totals.count),
                "max" => major(totals.max),
                other => panic!("no aggregate {other}"),
            };
        }
        match name {
            "amount" => major(i128::from(self.transaction.base.0)),
            "hour_of_day" => ((at - A_MONDAY).rem_euclid(DAY) / HOUR) as f64,
            "is_weekend" => flag((at - A_MONDAY).rem_euclid(7 * DAY) >= 5 * DAY),
            "is_first_purchase" => flag(self.is_first()),
            "user_merchants_24h" => self.merchants().len() as f64,
            "user_spend_today" => major(self.today().sum),
            "has_last_login" => flag(self.last_login_at().is_some()),
            "minutes_since_login" => {
                self.last_login_at().map_or(f64::NAN, |login| (at - login.as_millis()) as f64 / 60_000.0)
            }
            "miles_from_login" => self.journey().map_or(f64::NAN, |(miles, _)| miles),
            "speed_mph" => self.journey().map_or(f64::NAN, |(miles, ms)| miles / (ms.max(1_000) as f64 / HOUR as f64)),
            "block_list_hits" => self.block_hits as f64,
            "allow_list_hits" => self.allow_hits as f64,
            other => panic!("the oracle does not know the feature {other}"),
        }
    }

    /// The whole vector, in the order of the catalogue.
    pub(crate) fn features(&self) -> FeatureVector {
        FeatureVector(CATALOGUE.map(|spec| self.feature(spec.name)))
    }

    fn last_login_at(&self) -> Option<Timestamp> {
        self.history.last_login(self.transaction.at, false).map(|login| login.at)
    }

    /// `minor / (minor_per_major × parts)`, rounded once: both sides are whole numbers below 2⁵³.
    fn ratio(&self, minor: i128, parts: i128) -> f64 {
        let denominator = i128::from(self.minor_per_major) * parts;
        assert!(minor < 1 << 53 && denominator < 1 << 53, "the oracle's own arithmetic must be exact");
        minor as f64 / denominator as f64
    }
}

/// Aggregate and length of a sliding window's feature.
fn windowed(name: &str) -> Option<(&str, i64)> {
    let (rest, window) = name.strip_prefix("user_")?.rsplit_once('_')?;
    let length_ms = match window {
        "1h" => HOUR,
        "24h" => DAY,
        "7d" => 7 * DAY,
        "30d" => 30 * DAY,
        _ => return None,
    };
    (rest != "merchants").then_some((rest, length_ms))
}

/// Great-circle miles another way: the angle between two vectors, from the chord between their ends.
fn chord_miles(a: Coordinates, b: Coordinates) -> f64 {
    let vector = |point: Coordinates| {
        let (lat, lon) = (point.latitude().to_radians(), point.longitude().to_radians());
        [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
    };
    let (a, b) = (vector(a), vector(b));
    let length = |parts: [f64; 3]| parts.iter().map(|part| part * part).sum::<f64>().sqrt();
    let apart = length([0, 1, 2].map(|axis| a[axis] - b[axis]));
    let together = length([0, 1, 2].map(|axis| a[axis] + b[axis]));
    // 2 atan2(|a − b|, |a + b|) stays well conditioned at both ends.
    3_958.761_3 * 2.0 * apart.atan2(together)
}
