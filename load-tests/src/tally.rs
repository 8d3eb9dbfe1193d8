//! What came back: every answer is looked at, only those of the measured span count towards rate and latency.

use crate::connection::Answer;
use crate::latencies::{Latencies, Percentiles};
use crate::requests::Kind;
use memchr::memmem::Finder;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One answer in this many is checked to name the request's own id.
const IDENTITY_SAMPLE: u64 = 64;

/// Counts of a run.
#[derive(Debug)]
pub struct Tally {
    span: (Instant, Instant),
    deadline: Duration,
    in_time: u64,
    decides: Latencies,
    logins: Latencies,
    by_second: Vec<u64>,
    counts: Counts,
    durable: Finder<'static>,
    duplicate: Finder<'static>,
    normal: Finder<'static>,
    decision: Finder<'static>,
}

/// Counts over the whole run, the warm-up included.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Answers with status 200 or 2xx.
    pub answered: u64,
    /// Other answers, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Of those, answers with 429 or 503 that did not say when to come again; none is expected.
    pub without_retry_after: u64,
    /// Connections that broke in the middle of an exchange.
    pub broken: u64,
    /// Decisions that said `"durable":true`.
    pub durable: u64,
    /// Decisions that said `"duplicate":true`; none is expected.
    pub duplicates: u64,
    /// Decisions whose mode was other than normal.
    pub not_normal: u64,
    /// Decisions by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Sampled answers that did not name the id of their request; none is expected.
    pub mismatched: u64,
}

/// What a run found, as it is printed.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Length of the measured span in seconds.
    pub seconds: f64,
    /// Decisions in the measured span.
    pub decisions: u64,
    /// Decisions a second.
    pub decisions_per_s: f64,
    /// Decisions in the measured span that came within the deadline, counted from when the request was sent, a second.
    pub in_time_per_s: f64,
    /// Decisions in each second of the measured span: shows whether a service slows down as histories grow.
    pub by_second: Vec<u64>,
    /// Latency of decisions.
    pub latency: Percentiles,
    /// Logins in the measured span.
    pub logins: u64,
    /// Latency of logins.
    pub login_latency: Percentiles,
    /// Share of one core that the generator used; near 1 it is the bottleneck.
    pub generator_cpu: Option<f64>,
    /// Everything that came back, the warm-up included.
    pub counts: Counts,
}

impl Tally {
    /// Counts rate and latency of what is answered from `from` to `to`, and what of it is within the deadline.
    #[must_use]
    pub fn new(from: Instant, to: Instant, deadline: Duration) -> Self {
        Self {
            span: (from, to),
            deadline,
            in_time: 0,
            decides: Latencies::default(),
            logins: Latencies::default(),
            by_second: Vec::new(),
            counts: Counts::default(),
            durable: Finder::new(br#""durable":true"#),
            duplicate: Finder::new(br#""duplicate":true"#),
            normal: Finder::new(br#""mode":"normal""#),
            decision: Finder::new(br#""decision":""#),
        }
    }

    /// Counts an answer to a request that was due and sent at these times, and finished at `finished`.
    pub fn answered(
        &mut self,
        kind: Kind,
        id: &[u8],
        answer: &Answer<'_>,
        (due, sent): (Instant, Instant),
        finished: Instant,
    ) {
        if !(200..300).contains(&answer.status) {
            self.counts.without_retry_after += u64::from(matches!(answer.status, 429 | 503) && !answer.retry_after);
            *self.counts.refused.entry(answer.status).or_default() += 1;
            return;
        }
        self.counts.answered += 1;
        if self.counts.answered % IDENTITY_SAMPLE == 1 && memchr::memmem::find(answer.body, id).is_none() {
            self.counts.mismatched += 1;
        }
        if kind == Kind::Decide {
            self.look_at_decision(answer.body);
        }
        if finished < self.span.0 || finished >= self.span.1 {
            return;
        }
        let latency = finished.saturating_duration_since(due);
        match kind {
            Kind::Decide => {
                self.decides.record(latency);
                self.in_time += u64::from(finished.saturating_duration_since(sent) <= self.deadline);
                let second = finished.saturating_duration_since(self.span.0).as_secs() as usize;
                self.by_second.resize(self.by_second.len().max(second + 1), 0);
                self.by_second[second] += 1;
            }
            Kind::Login => self.logins.record(latency),
        }
    }

    /// Counts a connection that broke.
    pub const fn broke(&mut self) {
        self.counts.broken += 1;
    }

    fn look_at_decision(&mut self, body: &[u8]) {
        let Some(place) = self.decision.find(body) else { return };
        let outcome = match body.get(place + self.decision.needle().len()) {
            Some(b'a') => "approve",
            Some(b'c') => "challenge",
            Some(b'r') => "review",
            Some(b'b') => "block",
            _ => "unknown",
        };
        *self.counts.outcomes.entry(outcome).or_default() += 1;
        self.counts.durable += u64::from(self.durable.find(body).is_some());
        self.counts.duplicates += u64::from(self.duplicate.find(body).is_some());
        self.counts.not_normal += u64::from(self.normal.find(body).is_none());
    }

    /// The findings, given the CPU time that the whole run took and how long it was.
    #[must_use]
    pub fn findings(&self, cpu: Option<Duration>, run: Duration) -> Findings {
        let seconds = self.span.1.saturating_duration_since(self.span.0).as_secs_f64();
        Findings {
            seconds,
            decisions: self.decides.count(),
            decisions_per_s: self.decides.count() as f64 / seconds,
            in_time_per_s: self.in_time as f64 / seconds,
            by_second: self.by_second.clone(),
            latency: self.decides.percentiles(),
            logins: self.logins.count(),
            login_latency: self.logins.percentiles(),
            generator_cpu: cpu.map(|cpu| cpu.as_secs_f64() / run.as_secs_f64()),
            counts: self.counts.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn answers_are_looked_at() {
        let start = clock::now();
        let ms = |millis| start + Duration::from_millis(millis);
        let mut tally = Tally::new(ms(1_000), ms(3_000), Duration::from_millis(150));
        let mut answer = |status, body: &str, id: &str, due, finished| {
            let answer = Answer { status, body: body.as_bytes(), closing: false, retry_after: false };
            tally.answered(Kind::Decide, id.as_bytes(), &answer, (ms(due), ms(due)), ms(finished));
        };
        let good = r#"{"transaction_id":"t-1","decision":"approve","mode":"normal","durable":true,"duplicate":false}"#;
        let poor = r#"{"transaction_id":"t-2","decision":"review","mode":"degraded","durable":false,"duplicate":true}"#;
        answer(200, good, "t-9", 0, 500); // in the warm-up, and of another request
        answer(200, good, "t-1", 900, 1_100);
        answer(200, poor, "t-2", 1_100, 1_101);
        answer(503, "{}", "t-3", 1_200, 1_300);
        answer(200, good, "t-1", 2_999, 3_000); // after the end
        let found = tally.findings(Some(Duration::from_secs(1)), Duration::from_secs(4));
        assert_eq!((found.decisions, found.decisions_per_s), (2, 1.0));
        assert_eq!((found.in_time_per_s, found.counts.without_retry_after), (0.5, 1));
        assert_eq!(found.by_second, [2]);
        assert_eq!((found.latency.p50_us, found.latency.max_us), (1_001, 200_000));
        assert_eq!(found.generator_cpu, Some(0.25));
        let counts = found.counts;
        assert_eq!((counts.answered, counts.durable, counts.duplicates, counts.not_normal), (4, 3, 1, 1));
        assert_eq!((counts.mismatched, counts.refused), (1, [(503, 1)].into()));
        assert_eq!(counts.outcomes, [("approve", 3), ("review", 1)].into());
    }
}
