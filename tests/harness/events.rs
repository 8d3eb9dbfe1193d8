//! Events as JSON: what a client would send, with little to write.

use super::clock::{now_ms, rfc3339};
use serde_json::{Value, json};

/// A payment on its way to `/v1/decide`.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The body.
    pub body: Value,
}

impl Payment {
    /// A payment in US dollars, now, at a merchant of its own kind.
    #[must_use]
    pub fn new(user: &str, id: &str, amount: &str) -> Self {
        let at = rfc3339(now_ms());
        let body = json!({
            "transaction_id": id, "user_id": user, "amount": amount, "currency": "USD", "merchant_id": "m-1",
            "timestamp": at,
        });
        Self { body }
    }

    /// At this time instead.
    #[must_use]
    pub fn at(self, ms: i64) -> Self {
        self.with("timestamp", rfc3339(ms))
    }

    /// At this place.
    #[must_use]
    pub fn place(self, latitude: f64, longitude: f64) -> Self {
        self.with("latitude", latitude).with("longitude", longitude)
    }

    /// With this field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body[name] = value.into();
        self
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        self.body.to_string()
    }
}

/// A login at a time and place.
#[must_use]
pub fn login(user: &str, id: &str, at_ms: i64, (latitude, longitude): (f64, f64)) -> Value {
    let at = rfc3339(at_ms);
    json!({"login_id": id, "user_id": user, "timestamp": at, "latitude": latitude, "longitude": longitude})
}

/// The word of a chargeback on a payment.
#[must_use]
pub fn label(user: &str, transaction: &str, at_ms: i64, is_fraud: bool) -> Value {
    let at = rfc3339(at_ms);
    json!({"transaction_id": transaction, "user_id": user, "is_fraud": is_fraud, "source": "chargeback", "timestamp": at})
}

/// What stays the same however often a decision is given: everything but whether it is durable, and a duplicate.
#[must_use]
#[track_caller]
pub fn lasting(mut answer: Value) -> Value {
    let fields = answer.as_object_mut().expect("an answer is an object");
    fields.remove("durable");
    fields.remove("duplicate");
    answer
}

/// What a profile shows that does not change with the time of asking, for events that are minutes old.
#[must_use]
#[track_caller]
pub fn timeless(mut profile: Value) -> Value {
    let features = profile["features"].as_object_mut().expect("a profile has features");
    features.retain(|name, _| {
        !name.ends_with("_1h")
            && !matches!(&**name, "hour_of_day" | "is_weekend" | "minutes_since_login" | "user_spend_today")
    });
    profile
}

/// A number that a test takes from the environment, so that a failure can be repeated or a run made longer.
///
/// # Panics
/// The variable is set to something else.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "tests have no configuration file")]
pub fn setting(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")),
        Err(_) => default,
    }
}
