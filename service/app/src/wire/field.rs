//! The field names of every event, in one table: readers look fields up by number, not by text.

/// A field of a transaction, a login, a label, a review or a list entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    TransactionId,
    UserId,
    Amount,
    Currency,
    MerchantId,
    Timestamp,
    IpAddress,
    UserAgent,
    DeviceId,
    MerchantCategory,
    Latitude,
    Longitude,
    DeadlineMs,
    Fallback,
    LoginId,
    Success,
    IsFraud,
    Source,
    AmountLost,
    Status,
    Note,
    Assignee,
    Reason,
    ExpiresAt,
}

impl Field {
    /// Number of fields.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// Every field with its name, in the order of the documentation, which most senders keep.
    const ALL: [(Self, &'static str); 24] = [
        (Self::TransactionId, "transaction_id"),
        (Self::UserId, "user_id"),
        (Self::Amount, "amount"),
        (Self::Currency, "currency"),
        (Self::MerchantId, "merchant_id"),
        (Self::Timestamp, "timestamp"),
        (Self::IpAddress, "ip_address"),
        (Self::UserAgent, "user_agent"),
        (Self::DeviceId, "device_id"),
        (Self::MerchantCategory, "merchant_category"),
        (Self::Latitude, "latitude"),
        (Self::Longitude, "longitude"),
        (Self::DeadlineMs, "deadline_ms"),
        (Self::Fallback, "fallback"),
        (Self::LoginId, "login_id"),
        (Self::Success, "success"),
        (Self::IsFraud, "is_fraud"),
        (Self::Source, "source"),
        (Self::AmountLost, "amount_lost"),
        (Self::Status, "status"),
        (Self::Note, "note"),
        (Self::Assignee, "assignee"),
        (Self::Reason, "reason"),
        (Self::ExpiresAt, "expires_at"),
    ];

    /// The name on the wire.
    pub(super) const fn name(self) -> &'static str {
        Self::ALL[self.index()].1
    }

    /// The place in a table of [`Field::COUNT`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The field of a name; the search starts at `hint`, the place after the field that came before.
    pub(super) fn find(name: &str, hint: usize) -> Option<Self> {
        let (before, after) = Self::ALL.split_at(hint.min(Self::COUNT));
        after.iter().chain(before).find(|(_, known)| *known == name).map(|(field, _)| *field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_variants() {
        for (place, (field, name)) in Field::ALL.into_iter().enumerate() {
            assert_eq!((field.index(), field.name()), (place, name));
            for hint in [0, place, place + 1, Field::COUNT, usize::MAX] {
                assert_eq!(Field::find(name, hint), Some(field));
            }
        }
        assert_eq!(Field::find("Amount", 0), None);
    }
}
