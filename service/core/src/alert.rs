//! What people and other teams hear of a decision.

use crate::event::{Transaction, uuid_v5};
use uuid::Uuid;

/// Namespace of alert ids, fixed for ever; other than the one of decisions, so that the two never coincide.
const ID_NAMESPACE: Uuid = Uuid::from_u128(0x2d7b_9e14_83c6_5a0f_b1e8_5c90_47fa_3d62);

/// The id of the alert about a transaction: derived like the decision's, the same on every replay (I4).
#[must_use]
pub fn alert_id(transaction: &Transaction) -> Uuid {
    uuid_v5(&ID_NAMESPACE, transaction.decision_id().as_bytes())
}
