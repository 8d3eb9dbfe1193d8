//! Simulated traffic: people who log in and buy, and the few who steal from them, as a stream of events in event-time
//! order with the truth known.
//!
//! Everything follows from a [`Shape`]: the same shape gives the same events. Nothing here reads a clock, the
//! environment or entropy, and nothing here knows how the service decides. A model is trained on this traffic
//! (`models/train.py`), so honest people must be able to look suspicious and thieves unremarkable: people travel, log
//! in through far-away gateways, spend big now and then, buy in bursts, and keep arriving as new customers.

pub(crate) mod dice;
mod fraud;
mod generator;
mod honest;
mod line;
mod noise;
mod population;
mod quota;
pub mod target;
pub mod topics;
mod world;

pub use generator::Generator;
pub use line::LineWriter;
pub use noise::{Noise, NoiseError};
pub use quota::{Quota, Selected};

/// Purposes of randomness; each has draws of its own, so that one more draw here changes nothing there.
const STREAM_MERCHANTS: u64 = 1;
const STREAM_USERS: u64 = 2;
const STREAM_EVENTS: u64 = 3;
const STREAM_NOISE: u64 = 4;

/// Share of purchases that are fraud, unless a shape says otherwise.
const FRAUD_SHARE: f64 = 0.01;

/// Share of the users who are there from the start; the others arrive evenly over the span, so that a first purchase
/// says nothing about fraud.
const SHARE_FROM_START: f64 = 0.5;
/// Mean share of the users who are there, over the span.
const MEAN_SHARE_PRESENT: f64 = f64::midpoint(SHARE_FROM_START, 1.0);
/// Events (logins, purchases, labels) of one present user on a day at natural pace; measured, see the tests of `generator`.
const EVENTS_PER_USER_DAY: f64 = 3.2;
const DAY_MS: f64 = 86_400_000.0;

/// What the traffic looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Number of people who are there in the end.
    pub users: u32,
    /// Everything random follows from it.
    pub seed: u64,
    /// Event time of the start, in milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// Event time until all people have arrived, in milliseconds.
    pub span_ms: i64,
    /// Sessions of a person relative to what is natural (about 2 purchases a day).
    pub pace: f64,
    /// Time until fraud is reported, relative to what is natural (hours to weeks).
    pub label_delay_scale: f64,
    /// Share of purchases that are fraud.
    pub fraud_share: f64,
}

impl Shape {
    /// People at their natural pace, for as long as `events` events take them.
    #[must_use]
    pub fn natural(users: u32, events: u64, seed: u64, start_ms: i64) -> Self {
        let days = events as f64 / (f64::from(users.max(1)) * MEAN_SHARE_PRESENT * EVENTS_PER_USER_DAY);
        let span_ms = (days * DAY_MS) as i64;
        Self { users, seed, start_ms, span_ms, pace: 1.0, label_delay_scale: 1.0, fraud_share: FRAUD_SHARE }
    }

    /// The same people, busier or idler, so that the events take about this many days.
    #[must_use]
    pub fn over_days(mut self, days: f64) -> Self {
        let natural_ms = self.span_ms as f64 * self.pace;
        self.span_ms = (days * DAY_MS) as i64;
        self.pace = natural_ms / (days * DAY_MS);
        self
    }

    /// The number of people who at natural pace make this many events a second.
    #[must_use]
    pub fn users_for_rate(events_per_second: f64) -> f64 {
        events_per_second * DAY_MS / 1000.0 / (EVENTS_PER_USER_DAY * MEAN_SHARE_PRESENT)
    }
}

/// One event and when it happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Whose.
    pub user: u32,
    /// What.
    pub kind: Kind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Somebody pays.
    Purchase(Purchase),
    /// Somebody logs in.
    Login(Login),
    /// Somebody learns whether a purchase was fraud.
    Label(Label),
}

/// A payment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Purchase {
    /// Unique in the run.
    pub number: u64,
    /// Who is paid.
    pub merchant: u32,
    /// ISO 18245 code.
    pub category: &'static str,
    /// ISO 4217 code.
    pub currency: &'static str,
    /// Minor units of the currency.
    pub amount_minor: i64,
    /// Decimals of the currency.
    pub decimals: u8,
    /// Where from.
    pub client: Client,
    /// The truth.
    pub fraud: bool,
}

/// An attempt to log in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Login {
    /// Unique in the run.
    pub number: u64,
    /// Where from.
    pub client: Client,
    /// Whether the password was right.
    pub success: bool,
}

/// A report about a purchase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// Number of the purchase.
    pub purchase: u64,
    /// Whether it was fraud.
    pub fraud: bool,
    /// Name of the source on the wire.
    pub source: &'static str,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Client {
    /// Degrees.
    pub location: Option<(f64, f64)>,
    /// Identifies the device.
    pub device: u64,
    /// Picks an address of the documentation ranges.
    pub address: u32,
}
