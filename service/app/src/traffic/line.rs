//! Events as lines of JSON, in the shapes that the service takes (DESIGN 4). It writes; it never reads.

use super::dice::mix;
use super::{Client, Event, Kind, Label, Login, Purchase, Shape};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Common software; which one a client uses follows from its device.
const USER_AGENTS: [&str; 5] = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 Chrome/140.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
];

/// Writes the events of one run.
#[derive(Clone, Debug)]
pub struct LineWriter {
    /// Part of every event id, so that two runs against one service do not use the same ids for different events.
    run: u32,
    with_truth: bool,
}

impl LineWriter {
    /// For the run of a shape. `with_truth` adds `label_is_fraud` to transactions, a field that the service ignores.
    #[must_use]
    pub fn new(shape: &Shape, with_truth: bool) -> Self {
        let parts = [
            shape.seed,
            u64::from(shape.users),
            shape.start_ms as u64,
            shape.span_ms as u64,
            shape.pace.to_bits(),
            shape.label_delay_scale.to_bits(),
            shape.fraud_share.to_bits(),
        ];
        let run = parts.into_iter().fold(0, |hash, part| mix(hash ^ part)) as u32;
        Self { run, with_truth }
    }

    /// Appends an event as one line, with a line feed, as if it happened at this time.
    ///
    /// # Errors
    /// When the time is outside the years that RFC 3339 can write.
    pub fn write(&self, event: &Event, at_ms: i64, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let user_id = Id("u", None, u64::from(event.user));
        let timestamp = Millis(at_ms);
        match &event.kind {
            Kind::Purchase(purchase) => {
                serde_json::to_writer(&mut *out, &self.transaction(purchase, user_id, timestamp))?;
            }
            Kind::Login(login) => serde_json::to_writer(&mut *out, &self.login(login, user_id, timestamp))?,
            Kind::Label(label) => serde_json::to_writer(&mut *out, &self.label(label, user_id, timestamp))?,
        }
        out.push(b'\n');
        Ok(())
    }

    fn transaction(&self, purchase: &Purchase, user_id: Id, timestamp: Millis) -> TransactionLine {
        TransactionLine {
            transaction_id: Id("t", Some(self.run), purchase.number),
            user_id,
            amount: Decimal(purchase.amount_minor, purchase.decimals),
            currency: purchase.currency,
            merchant_id: Id("m", None, u64::from(purchase.merchant)),
            timestamp,
            client: ClientFields::new(&purchase.client),
            merchant_category: purchase.category,
            label_is_fraud: self.with_truth.then_some(purchase.fraud),
        }
    }

    fn login(&self, login: &Login, user_id: Id, timestamp: Millis) -> LoginLine {
        LoginLine {
            login_id: Id("l", Some(self.run), login.number),
            user_id,
            timestamp,
            client: ClientFields::new(&login.client),
            success: login.success,
        }
    }

    fn label(&self, label: &Label, user_id: Id, timestamp: Millis) -> LabelLine {
        LabelLine {
            transaction_id: Id("t", Some(self.run), label.purchase),
            user_id,
            is_fraud: label.fraud,
            source: label.source,
            timestamp,
        }
    }
}

#[derive(Serialize)]
struct TransactionLine {
    transaction_id: Id,
    user_id: Id,
    amount: Decimal,
    currency: &'static str,
    merchant_id: Id,
    timestamp: Millis,
    #[serde(flatten)]
    client: ClientFields,
    merchant_category: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_is_fraud: Option<bool>,
}

#[derive(Serialize)]
struct LoginLine {
    login_id: Id,
    user_id: Id,
    timestamp: Millis,
    #[serde(flatten)]
    client: ClientFields,
    success: bool,
}

#[derive(Serialize)]
struct LabelLine {
    transaction_id: Id,
    user_id: Id,
    is_fraud: bool,
    source: &'static str,
    timestamp: Millis,
}

#[derive(Serialize)]
struct ClientFields {
    ip_address: Address,
    user_agent: &'static str,
    device_id: Device,
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<f64>,
}

impl ClientFields {
    fn new(client: &Client) -> Self {
        // Four decimals are eleven metres.
        let round = |degrees: f64| (degrees * 1e4).round() / 1e4;
        Self {
            ip_address: Address(client.address),
            user_agent: USER_AGENTS[(mix(client.device) % USER_AGENTS.len() as u64) as usize],
            device_id: Device(client.device),
            latitude: client.location.map(|(latitude, _)| round(latitude)),
            longitude: client.location.map(|(_, longitude)| round(longitude)),
        }
    }
}

/// Prefix, run, number.
#[derive(Clone, Copy)]
struct Id(&'static str, Option<u32>, u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(run) => write!(f, "{}-{run:08x}-{}", self.0, self.2),
            None => write!(f, "{}-{}", self.0, self.2),
        }
    }
}

/// Minor units and decimals.
#[derive(Clone, Copy)]
struct Decimal(i64, u8);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(minor, decimals) = *self;
        if decimals == 0 {
            return write!(f, "{minor}");
        }
        let unit = 10_i64.pow(u32::from(decimals));
        write!(f, "{}.{:0width$}", minor / unit, minor % unit, width = usize::from(decimals))
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy)]
struct Millis(i64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{at:.3}")
    }
}

struct Device(u64);

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d-{:x}", self.0)
    }
}

/// An address of the ranges that are set aside for documentation (RFC 5737, RFC 3849): nobody's.
struct Address(u32);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = (self.0 >> 8) as u8;
        match self.0 % 8 {
            0 => write!(f, "{}", Ipv4Addr::new(192, 0, 2, host)),
            1 => write!(f, "{}", Ipv4Addr::new(198, 51, 100, host)),
            2 => write!(f, "{}", Ipv4Addr::new(203, 0, 113, host)),
            _ => {
                let (high, low) = ((self.0 >> 16) as u16, self.0 as u16);
                write!(f, "{}", Ipv6Addr::new(0x2001, 0xdb8, high, low, 0, 0, 0, 1))
            }
        }
    }
}

macro_rules! serialize_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
serialize_as_text!(Id, Decimal, Millis, Device, Address);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Generator;

    const START_MS: i64 = 1_767_571_200_000;

    fn lines(seed: u64, with_truth: bool) -> String {
        let shape = Shape::natural(50, 3_000, seed, START_MS);
        let writer = LineWriter::new(&shape, with_truth);
        let mut out = Vec::new();
        for event in Generator::new(shape).take(3_000) {
            writer.write(&event, event.at_ms, &mut out).expect("times are in range");
        }
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(lines(3, true), lines(3, true));
        assert_ne!(lines(3, true), lines(4, true));
    }

    #[test]
    fn every_line_has_the_shape_of_its_kind() {
        let (mut transactions, mut logins, mut labels) = (0, 0, 0);
        for line in lines(5, true).lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
            assert!(line["user_id"].as_str().is_some_and(|id| id.starts_with("u-")));
            let timestamp: Timestamp = line["timestamp"].as_str().expect("text").parse().expect("RFC 3339");
            assert!(timestamp.as_millisecond() >= START_MS);
            if line.get("amount").is_some() {
                transactions += 1;
                assert!(line["label_is_fraud"].is_boolean() && line.get("is_fraud").is_none());
                let decimals = if line["currency"] == "JPY" { None } else { Some(2) };
                let amount = line["amount"].as_str().expect("a decimal string");
                assert_eq!(amount.split_once('.').map(|(_, cents)| cents.len()), decimals, "{amount}");
                assert_eq!(line.get("latitude").is_some(), line.get("longitude").is_some());
            } else if line.get("login_id").is_some() {
                logins += 1;
            } else {
                labels += 1;
                assert!(line["is_fraud"].is_boolean() && line["transaction_id"].is_string());
            }
        }
        assert!(transactions > 1_500 && logins > 500 && labels > 0, "{transactions} {logins} {labels}");
    }

    #[test]
    fn the_truth_is_told_only_when_asked_for() {
        assert!(!lines(5, false).contains("label_is_fraud"));
    }
}
