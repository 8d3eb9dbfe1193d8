//! A user's profile as JSON: the answer of `GET /v1/users/{id}/profile`.

use super::append;
use super::decision::Features;
use super::time::Rfc3339;
use crate::actors::messages::{LastLogin, ProfileView, RecentTransaction};
use serde::Serialize;
use verdict_core::lists::ListEntry;
use verdict_core::money::{Currency, Money};

#[derive(Serialize)]
struct ProfileJson<'a> {
    user_id: &'a str,
    features: Features<'a>,
    recent: Vec<RecentJson>,
    retained: usize,
    last_login: Option<LoginJson>,
    fraud_labels: usize,
    list_entries: Vec<EntryJson<'a>>,
}

#[derive(Serialize)]
struct RecentJson {
    timestamp: Rfc3339,
    base_amount: String,
}

#[derive(Serialize)]
struct LoginJson {
    timestamp: Rfc3339,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

#[derive(Serialize)]
struct EntryJson<'a> {
    list: &'static str,
    reason: &'a str,
    alert_id: Option<String>,
    expires_at: Option<Rfc3339>,
}

/// Appends a profile as JSON; amounts are in the base currency.
pub fn to_json(profile: &ProfileView, base: Currency, out: &mut Vec<u8>) {
    let shape = ProfileJson {
        user_id: &profile.user_id,
        features: Features(&profile.features),
        recent: profile.recent.iter().map(|recent| recent_json(recent, base)).collect(),
        retained: profile.retained,
        last_login: profile.last_login.as_ref().map(login_json),
        fraud_labels: profile.fraud_labels,
        list_entries: profile.entries.iter().map(entry_json).collect(),
    };
    append(&shape, out);
}

fn recent_json(recent: &RecentTransaction, base: Currency) -> RecentJson {
    RecentJson { timestamp: Rfc3339(recent.at), base_amount: Money::from_minor(recent.base_minor, base).decimal() }
}

fn login_json(login: &LastLogin) -> LoginJson {
    let (latitude, longitude) = login.location.unzip();
    LoginJson { timestamp: Rfc3339(login.at), latitude, longitude }
}

fn entry_json(entry: &ListEntry) -> EntryJson<'_> {
    EntryJson {
        list: entry.list.name(),
        reason: &entry.reason,
        alert_id: entry.alert_id.map(|id| id.to_string()),
        expires_at: entry.expires_at.map(Rfc3339),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, rates};
    use super::*;
    use verdict_core::features::{FeatureVector, SLOTS};
    use verdict_core::lists::List;

    #[test]
    fn shape() {
        let entry =
            ListEntry { list: List::Block, reason: "MODEL_HIGH_RISK".into(), alert_id: None, expires_at: Some(NOON) };
        let view = ProfileView {
            user_id: "u-7".into(),
            features: FeatureVector([f64::NAN; SLOTS]),
            recent: vec![RecentTransaction { at: NOON, base_minor: 12_345 }],
            retained: 1,
            last_login: Some(LastLogin { at: NOON, location: Some((40.5, -74.0)) }),
            fraud_labels: 2,
            entries: vec![entry],
        };
        let print = |view: &ProfileView| {
            let mut out = Vec::new();
            to_json(view, rates().base(), &mut out);
            String::from_utf8(out).expect("UTF-8")
        };
        let json = print(&view);
        assert!(json.starts_with(r#"{"user_id":"u-7","features":{"amount":null,"#), "{json}");
        let expected = concat!(
            r#""allow_list_hits":null},"recent":[{"timestamp":"2026-11-23T12:00:00.000Z","base_amount":"123.45"}],"#,
            r#""retained":1,"last_login":{"timestamp":"2026-11-23T12:00:00.000Z","latitude":40.5,"longitude":-74.0},"#,
            r#""fraud_labels":2,"list_entries":[{"list":"block","reason":"MODEL_HIGH_RISK","alert_id":null,"#,
            r#""expires_at":"2026-11-23T12:00:00.000Z"}]}"#
        );
        assert!(json.ends_with(expected), "{json}");
        assert!(print(&ProfileView { last_login: None, ..view }).contains(r#""last_login":null"#));
    }
}
