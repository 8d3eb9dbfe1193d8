//! Requests, ready to send: a pool of whole HTTP messages whose ids and timestamps are patched in place.
//!
//! Users are drawn before the clock starts and the pool is built once, so that a request costs a copy of some 500 bytes
//! and no allocation. Transaction ids are unique within a run and, by the run's id, between runs.

use crate::clock::TIMESTAMP_BYTES;
use crate::zipf::Zipf;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::f64::consts::TAU;

const POOL: usize = 1_024;
const DRAWS: usize = 1 << 20;

// Placeholders of the parts that are patched: as long as what replaces them, and found nowhere else in a message.
const NUMBER: &str = "NNNNNNNNNN";
const USER: &str = "UUUUUU";
const TIMESTAMP: &str = "TTTTTTTTTTTTTTTTTTTTTTTT";
const _: () = assert!(TIMESTAMP.len() == TIMESTAMP_BYTES);

/// Most users that fit the placeholder.
pub const MOST_USERS: u32 = 1_000_000;

/// What to send.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Value of the Host header.
    pub host: String,
    /// Further header lines, each without its line end.
    pub headers: Vec<String>,
    /// Number of users, at most [`MOST_USERS`].
    pub users: u32,
    /// Exponent of Zipf's law over users.
    pub zipf: f64,
    /// Median amount in US dollars.
    pub median: f64,
    /// Share of requests that are logins, 0 to 1.
    pub login_share: f64,
    /// Caller's deadline in the body of each transaction.
    pub deadline_ms: Option<u32>,
    /// Seeds every draw: the same seed sends the same users, amounts and places in the same order.
    pub seed: u64,
    /// Part of every id; eight hexadecimal digits of it show.
    pub run: u32,
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A transaction to be decided.
    Decide,
    /// A login.
    Login,
}

/// The pool and the draws.
#[derive(Debug)]
pub struct Requests {
    decides: Vec<Template>,
    logins: Vec<Template>,
    draws: Vec<Draw>,
}

#[derive(Clone, Copy, Debug)]
struct Draw {
    user: u32,
    template: u16,
    kind: Kind,
}

/// A request as it lies in a sender's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What it is.
    pub kind: Kind,
    /// Where its id starts and ends in the buffer.
    pub id: (usize, usize),
}

#[derive(Debug)]
struct Template {
    message: Vec<u8>,
    number: usize,
    users: Vec<usize>,
    timestamp: usize,
    id: (usize, usize),
}

impl Requests {
    /// Builds the pool.
    #[must_use]
    pub fn new(workload: &Workload) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(workload.seed);
        let run = format!("{:08x}", workload.run);
        let decides = (0..POOL).map(|_| Template::decide(workload, &run, &mut random)).collect();
        let logins = (0..POOL).map(|_| Template::login(workload, &run, &mut random)).collect();
        let zipf = Zipf::new(workload.users.min(MOST_USERS), workload.zipf);
        let draws = (0..DRAWS)
            .map(|_| Draw {
                user: zipf.draw(&mut random),
                template: random.random_range(0..POOL as u16),
                kind: if random.random::<f64>() < workload.login_share { Kind::Login } else { Kind::Decide },
            })
            .collect();
        Self { decides, logins, draws }
    }

    /// Writes the request with this number into the buffer, whole.
    pub fn prepare(&self, number: u64, timestamp: &[u8; TIMESTAMP_BYTES], buffer: &mut Vec<u8>) -> Prepared {
        let draw = self.draws[number as usize % DRAWS];
        let templates = match draw.kind {
            Kind::Decide => &self.decides,
            Kind::Login => &self.logins,
        };
        let template = &templates[usize::from(draw.template)];
        buffer.clear();
        buffer.extend_from_slice(&template.message);
        write_digits(&mut buffer[template.number..][..NUMBER.len()], number);
        for place in &template.users {
            write_digits(&mut buffer[*place..][..USER.len()], u64::from(draw.user));
        }
        buffer[template.timestamp..][..TIMESTAMP_BYTES].copy_from_slice(timestamp);
        Prepared { kind: draw.kind, id: template.id }
    }
}

impl Template {
    fn decide(workload: &Workload, run: &str, random: &mut Xoshiro256PlusPlus) -> Self {
        let amount = amount(workload.median, random);
        let merchant = random.random_range(0..2_000);
        let category = [5411, 5812, 5541, 5999, 4121][random.random_range(0..5)];
        let (latitude, longitude) = place(random);
        let deadline = workload.deadline_ms.map(|ms| format!(r#","deadline_ms":{ms}"#)).unwrap_or_default();
        let address = random.random_range(1..255);
        let body = format!(
            r#"{{"transaction_id":"t-{run}-{NUMBER}","user_id":"u-{USER}","amount":"{amount:.2}","currency":"USD","merchant_id":"m-{merchant:04}","timestamp":"{TIMESTAMP}","ip_address":"203.0.113.{address}","user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","device_id":"d-{USER}","merchant_category":"{category}","latitude":{latitude:.4},"longitude":{longitude:.4}{deadline}}}"#
        );
        Self::new(workload, "/v1/decide", &body, &format!("t-{run}-{NUMBER}"))
    }

    fn login(workload: &Workload, run: &str, random: &mut Xoshiro256PlusPlus) -> Self {
        let (latitude, longitude) = place(random);
        let address = random.random_range(1..255);
        let body = format!(
            r#"{{"login_id":"l-{run}-{NUMBER}","user_id":"u-{USER}","timestamp":"{TIMESTAMP}","ip_address":"203.0.113.{address}","device_id":"d-{USER}","latitude":{latitude:.4},"longitude":{longitude:.4},"success":true}}"#
        );
        Self::new(workload, "/v1/logins", &body, &format!("l-{run}-{NUMBER}"))
    }

    fn new(workload: &Workload, path: &str, body: &str, id: &str) -> Self {
        let further: String = workload.headers.iter().map(|line| format!("{line}\r\n")).collect();
        let message = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{further}\r\n{body}",
            workload.host,
            body.len()
        );
        let place = |part: &str| message.find(part).unwrap_or_default();
        Self {
            number: place(NUMBER),
            users: message.match_indices(USER).map(|(place, _)| place).collect(),
            timestamp: place(TIMESTAMP),
            id: (place(id), place(id) + id.len()),
            message: message.into_bytes(),
        }
    }
}

/// A payment in US dollars: lognormal with a long tail (with a median of 20, 90 % below 72 and 1 in 1,000 above 440).
fn amount(median: f64, random: &mut Xoshiro256PlusPlus) -> f64 {
    // Box-Muller: a normal number from two uniform ones.
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    let normal = radius * (TAU * random.random::<f64>()).cos();
    (median * normal.exp()).clamp(0.01, 20_000.0)
}

/// Somewhere within some 20 miles, so that ordinary traffic is no geographic anomaly.
fn place(random: &mut Xoshiro256PlusPlus) -> (f64, f64) {
    (40.71 + random.random_range(-0.2..0.2), -74.0 + random.random_range(-0.2..0.2))
}

/// The lowest digits of a number, with leading zeros.
fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload {
            host: "127.0.0.1:80".into(),
            headers: vec!["authorization: Bearer k".into()],
            users: 1_000,
            zipf: 1.1,
            median: 20.0,
            login_share: 0.25,
            deadline_ms: Some(150),
            seed: 3,
            run: 0xbeef,
        }
    }

    #[test]
    fn requests_are_whole_and_unique() {
        let requests = Requests::new(&workload());
        let mut buffer = Vec::new();
        let mut ids = std::collections::BTreeSet::new();
        let mut logins = 0;
        for number in 0..2_000 {
            let prepared = requests.prepare(number, b"2026-11-23T12:34:56.789Z", &mut buffer);
            let text = std::str::from_utf8(&buffer).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.contains(&format!("content-length: {}", body.len())) && head.contains("Bearer k"), "{head}");
            let fields: serde_json::Value = serde_json::from_str(body).expect("JSON");
            let (path, id) = match prepared.kind {
                Kind::Decide => ("/v1/decide", &fields["transaction_id"]),
                Kind::Login => ("/v1/logins", &fields["login_id"]),
            };
            assert!(head.starts_with(&format!("POST {path} ")), "{head}");
            assert_eq!(fields["timestamp"], "2026-11-23T12:34:56.789Z");
            let id = id.as_str().expect("an id").to_owned();
            assert!(id.ends_with(&format!("-0000beef-{number:010}")), "{id}");
            assert_eq!(text[prepared.id.0..prepared.id.1], id);
            let user = fields["user_id"].as_str().expect("a user");
            assert_eq!(fields["device_id"].as_str().expect("a device")[1..], user[1..]);
            assert!(user[2..].parse::<u32>().expect("digits") < 1_000);
            if prepared.kind == Kind::Decide {
                let amount: f64 = fields["amount"].as_str().expect("text").parse().expect("digits");
                assert!((0.5..=20_000.0).contains(&amount));
                assert_eq!(fields["deadline_ms"], 150);
            } else {
                logins += 1;
            }
            assert!(ids.insert(id));
        }
        assert!((400..600).contains(&logins), "{logins}");
    }

    #[test]
    fn the_same_seed_sends_the_same() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let (first, second) = (Requests::new(&workload()), Requests::new(&workload()));
        for number in 0..100 {
            first.prepare(number, b"2026-11-23T12:34:56.789Z", &mut one);
            second.prepare(number, b"2026-11-23T12:34:56.789Z", &mut two);
            assert_eq!(one, two);
        }
    }
}
