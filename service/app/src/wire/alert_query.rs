//! Which alerts are asked for, the page that comes back, and the cursor from one page to the next.
//!
//! A cursor names the last alert of its page, not a number of rows: alerts that arrive meanwhile move nothing, and it
//! still holds when the store was made again from the journal. It also carries a fingerprint of its filters, because
//! going on with others would skip or repeat alerts without anybody noticing. It is no secret and no proof of anything.

use super::alert::Alert;
use super::append;
use super::fault::shown;
use super::review::ReviewStatus;
use serde::Serialize;
use uuid::Uuid;
use verdict_core::decision::Outcome;
use verdict_core::time::Timestamp;

/// Most alerts on a page.
pub const MAX_PAGE: u32 = 500;

/// Which alerts are asked for; what is `None` does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// Only of this review status.
    pub status: Option<ReviewStatus>,
    /// Only of this user.
    pub user_id: Option<String>,
    /// Only with this outcome.
    pub decision: Option<Outcome>,
    /// Only decided at or after this instant.
    pub since: Option<Timestamp>,
    /// Only what follows this alert: the last one of the page before.
    pub after: Option<Uuid>,
    /// Most alerts on the page, 1 to [`MAX_PAGE`]; other values are brought into that range.
    pub limit: u32,
}

/// A page of alerts, the last to be decided first. Alerts that arrive later do not move what the next pages show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertPage {
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// For the next page; `None` on the last.
    pub next_cursor: Option<String>,
}

impl AlertPage {
    /// Appends the page as JSON.
    pub fn to_json(&self, out: &mut Vec<u8>) {
        append(self, out);
    }
}

/// Version of the cursor's layout; another one is refused.
const VERSION: u8 = 1;
/// Version, alert id, fingerprint of the filters, CRC-32 of the three.
const BYTES: usize = 1 + 16 + 4 + 4;

impl AlertFilter {
    /// The cursor to what follows an alert under this filter.
    #[must_use]
    pub fn cursor_after(&self, alert_id: Uuid) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(alert_id.as_bytes());
        bytes.extend_from_slice(&self.fingerprint().to_be_bytes());
        let check = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&check.to_be_bytes());
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The alert that a cursor of this filter goes on after.
    ///
    /// # Errors
    /// A sentence for people: it is no cursor, or one of other filters.
    pub fn read_cursor(&self, text: &str) -> Result<Uuid, String> {
        let malformed = || format!("expected a cursor as next_cursor gave it, found {}", shown(text));
        let bytes = unhex(text).ok_or_else(malformed)?;
        let (body, check) = bytes.split_at(BYTES - 4);
        if bytes[0] != VERSION || check != crc32fast::hash(body).to_be_bytes() {
            return Err(malformed());
        }
        let (id, fingerprint) = body[1..].split_at(16);
        if fingerprint != self.fingerprint().to_be_bytes() {
            let expected = "expected the filters that this cursor came with, found others";
            return Err(format!("{expected}; keep them from page to page, or start again without a cursor"));
        }
        Uuid::from_slice(id).map_err(|_| malformed())
    }

    /// Tells this filter from others; the size of a page is none.
    fn fingerprint(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let since = self.since.map(|since| since.as_millis().to_string());
        let parts = [
            self.status.map(ReviewStatus::name),
            self.decision.map(Outcome::name),
            since.as_deref(),
            self.user_id.as_deref(),
        ];
        for part in parts {
            // Length first, so that no two filters read the same; an empty text is not an absent one.
            let length = part.map_or(0, |part| part.len() as u64 + 1);
            hasher.update(&length.to_be_bytes());
            hasher.update(part.unwrap_or_default().as_bytes());
        }
        hasher.finalize()
    }
}

/// The bytes of a cursor's digits.
fn unhex(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::alert::testing::alert;
    use super::super::testing::NOON;
    use super::*;
    use proptest::prelude::*;

    fn filters() -> Vec<AlertFilter> {
        let none = AlertFilter { limit: 50, ..AlertFilter::default() };
        let user = |id: &str| AlertFilter { user_id: Some(id.to_owned()), ..none.clone() };
        vec![
            AlertFilter { status: Some(ReviewStatus::Open), ..none.clone() },
            AlertFilter { status: Some(ReviewStatus::InReview), ..none.clone() },
            AlertFilter { decision: Some(Outcome::Review), ..none.clone() },
            AlertFilter { since: Some(NOON), ..none.clone() },
            AlertFilter { since: Some(NOON + 1), ..none.clone() },
            AlertFilter { status: Some(ReviewStatus::Open), ..user("u") },
            user("open"),
            user(""),
            user("u"),
            none,
        ]
    }

    #[test]
    fn a_cursor_goes_on_under_its_own_filters_only() {
        let id = Uuid::from_u128(7);
        for (place, own) in filters().iter().enumerate() {
            let cursor = own.cursor_after(id);
            for (other_place, other) in filters().iter().enumerate() {
                let other = AlertFilter { limit: 7, after: Some(Uuid::nil()), ..other.clone() };
                match other.read_cursor(&cursor) {
                    Ok(found) => assert_eq!((found, other_place), (id, place)),
                    Err(message) => assert!(other_place != place && message.contains("other"), "{message}"),
                }
            }
        }
    }

    #[test]
    fn a_page_is_printed_whole() {
        let mut out = Vec::new();
        AlertPage { alerts: vec![alert()], next_cursor: Some("0a".into()) }.to_json(&mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(
            text.starts_with(r#"{"alerts":[{"alert_id":""#) && text.ends_with(r#"],"next_cursor":"0a"}"#),
            "{text}"
        );
        let mut out = Vec::new();
        AlertPage { alerts: Vec::new(), next_cursor: None }.to_json(&mut out);
        assert_eq!(out, br#"{"alerts":[],"next_cursor":null}"#);
    }

    proptest! {
        #[test]
        fn nothing_else_is_a_cursor(text in "\\PC{0,60}|[0-9a-f]{50}", at in 0..50_usize, digit in "[0-9a-fx]") {
            let filter = AlertFilter::default();
            prop_assert!(filter.read_cursor(&text).is_err());
            let cursor = filter.cursor_after(Uuid::from_u128(7));
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &digit);
            prop_assert_eq!(filter.read_cursor(&changed).is_ok(), changed == cursor);
        }
    }
}
