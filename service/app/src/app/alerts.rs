//! Alerts as the API shows them, read from the review store: the two rooms do not know one another.

use crate::ingress::http::{AlertFilter, AlertPage, AlertReadError, AlertReader, ReviewStatus};
use crate::projections::review_store::{self, AlertStatus, ReviewError, ReviewStore, StoredAlert};
use crate::wire::alert::{AlertJson, AlertModel};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use verdict_core::time::Timestamp;

/// The embedded store as a reader.
pub(super) struct Alerts(pub(super) Arc<ReviewStore>);

impl AlertReader for Alerts {
    fn page(&self, filter: AlertFilter) -> BoxFuture<'_, Result<AlertPage, AlertReadError>> {
        Box::pin(async move {
            let cursor = filter.cursor.as_deref().map(str::parse).transpose().map_err(|_| AlertReadError::Cursor)?;
            let filter = review_store::AlertFilter {
                status: filter.status.map(status),
                user_id: filter.user_id,
                decision: filter.decision,
                since: filter.since,
                cursor,
                limit: filter.limit,
            };
            let page = self.0.alerts(&filter).await.map_err(|error| unavailable(&error))?;
            Ok(AlertPage {
                alerts: page.alerts.into_iter().map(shape).collect::<Result<_, _>>()?,
                next_cursor: page.next_cursor.map(|cursor| cursor.to_string()),
            })
        })
    }
}

fn unavailable(error: &ReviewError) -> AlertReadError {
    AlertReadError::Unavailable(error.to_string().into())
}

const fn status(status: ReviewStatus) -> AlertStatus {
    match status {
        ReviewStatus::Open => AlertStatus::Open,
        ReviewStatus::InReview => AlertStatus::InReview,
        ReviewStatus::ConfirmedFraud => AlertStatus::ConfirmedFraud,
        ReviewStatus::FalsePositive => AlertStatus::FalsePositive,
    }
}

fn shape(alert: StoredAlert) -> Result<AlertJson, AlertReadError> {
    let reasons_json =
        serde_json::to_string(&alert.reasons).map_err(|error| AlertReadError::Unavailable(error.to_string().into()))?;
    Ok(AlertJson {
        alert_id: alert.alert_id,
        schema_version: alert.schema_version,
        transaction_id: alert.transaction_id,
        user_id: alert.user_id,
        decision: alert.decision,
        score: alert.score,
        risk_level: alert.risk_level,
        reasons_json,
        amount: alert.amount,
        currency: alert.currency,
        merchant_id: alert.merchant_id,
        timestamp: Timestamp::from_millis(alert.timestamp_ms),
        detected_at: Timestamp::from_millis(alert.detected_at_ms),
        ruleset_name: alert.ruleset_name,
        ruleset_version: alert.ruleset_version,
        model: alert.model.map(|model| AlertModel { name: model.name, version: model.version, sha256: model.sha256 }),
        // No review is stored yet, so that every alert is open.
        status: Some(AlertStatus::Open.name().to_owned()),
    })
}
