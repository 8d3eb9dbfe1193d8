//! The journal read in its order and held against the oracle, and the books drawn from it.

use super::super::{PARTITIONS, committed};
use super::oracle::{Kind, Oracle, Verdict};
use super::sent::{Lines, Payment, TOPICS, rows};
use futures_util::TryStreamExt;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use verdict::config::KafkaConfig;
use verdict::journal::kafka::KafkaJournal;
use verdict::journal::record::{Body, Record};
use verdict::journal::{Journal, Wanted};
use verdict::kafka::KafkaSettings;
use verdict::telemetry::clock::Clock;
use verdict_core::event::Source;
use verdict_tests::servers::{Kafka, Topics};

/// Everything that was sent.
pub(super) struct Sent {
    /// By the full name of the topic.
    pub(super) lines: HashMap<String, Lines>,
    /// Bodies of the payments that went over HTTP as well, and what was answered last.
    pub(super) requests: HashMap<Payment, (Box<str>, Value)>,
}

/// What the oracle says, and the number of records by kind.
pub(super) struct Audited {
    pub(super) kinds: BTreeMap<&'static str, u64>,
    pub(super) verdicts: Vec<((u16, u64), Verdict)>,
}

impl Audited {
    pub(super) fn count(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }
}

/// Reads the journal and has the oracle say what each record must be. Every record of a topic is there, in its order.
#[track_caller]
pub(super) fn audit(kafka: &Kafka, topics: &Topics, sent: &Sent) -> Audited {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut kafka_config = KafkaConfig::at(kafka.bootstrap_servers());
    kafka_config.topic_prefix = topics.prefix().into();
    let settings = KafkaSettings::from(&kafka_config);
    runtime.block_on(async {
        let partitions = u16::try_from(PARTITIONS).unwrap();
        let journal = KafkaJournal::open(settings, partitions, Clock::System).await.unwrap();
        let (mut oracle, mut kinds) = (Oracle::new(), BTreeMap::new());
        let mut next: HashMap<(Box<str>, i32), usize> = HashMap::new();
        let everything = (0..partitions).map(|partition| (partition, 0)).collect();
        let mut records = journal.replay(everything, Wanted::Everything);
        while let Some(record) = records.try_next().await.unwrap() {
            let (topic, bytes) = origin(&record, sent, &mut next);
            let topic = topic.strip_prefix(topics.prefix()).unwrap_or(topic);
            let expected = oracle.take(topic, bytes, &record);
            assert_eq!(kind(&record), Some(expected), "{record:?} came of {bytes}");
            *kinds.entry(name(expected)).or_default() += 1;
        }
        for (topic, lines) in &sent.lines {
            for (partition, lines) in (0..).zip(lines) {
                let consumed = next.get(&(topic.as_str().into(), partition)).copied().unwrap_or(0);
                assert_eq!(consumed, lines.len(), "records of {topic}/{partition}");
            }
        }
        Audited { kinds, verdicts: oracle.verdicts }
    })
}

/// Where a record came from, and the bytes that were sent there. A topic's come in the order of its offsets, none left out.
#[track_caller]
fn origin<'s>(record: &'s Record, sent: &'s Sent, next: &mut HashMap<(Box<str>, i32), usize>) -> (&'s str, &'s str) {
    match (&record.source, &record.body) {
        (Source::Topic { topic, partition, offset }, _) => {
            let expected = next.entry((topic.clone(), *partition)).or_default();
            let offset = usize::try_from(*offset).unwrap();
            assert_eq!(offset, *expected, "{topic}/{partition} (I6)");
            *expected += 1;
            (topic, &sent.lines[&**topic][usize::try_from(*partition).unwrap()][offset])
        }
        (_, Body::Decision(decided)) => {
            let who = (decided.transaction.user_id.clone(), decided.transaction.transaction_id.clone());
            (TOPICS[0], &sent.requests[&who].0)
        }
        other => panic!("nobody sent this: {other:?}"),
    }
}

const fn kind(record: &Record) -> Option<Kind> {
    match &record.body {
        Body::Decision(_) => Some(Kind::Decision),
        Body::Login(_) => Some(Kind::Login),
        Body::Label(_) => Some(Kind::Label),
        Body::Duplicate { .. } => Some(Kind::Duplicate),
        Body::DeadLetter { .. } => Some(Kind::DeadLetter),
        Body::List(_) | Body::Answered(_) | Body::Skipped { .. } => None,
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Decision => "decisions",
        Kind::Login => "logins",
        Kind::Label => "labels",
        Kind::Duplicate => "duplicates",
        Kind::DeadLetter => "dead letters",
    }
}

/// Whoever asked over HTTP was told what the oracle says; gives how many payments a topic had brought before.
#[track_caller]
pub(super) fn assert_answers(sent: &Sent, verdicts: &[((u16, u64), Verdict)]) -> u64 {
    let (mut answered, mut brought_before) = (0, 0);
    for (_, verdict) in verdicts {
        let Some((_, answer)) = sent.requests.get(&(verdict.user_id.clone(), verdict.transaction_id.clone())) else {
            assert!(!verdict.over_http, "{verdict:?}");
            continue;
        };
        let told = ["decision_id", "decision"].map(|field| answer[field].as_str().unwrap());
        assert_eq!(told, [verdict.decision_id.as_str(), verdict.outcome.name()], "{answer}");
        answered += 1;
        brought_before += u64::from(!verdict.over_http);
    }
    assert_eq!(answered, sent.requests.len(), "payments with an answer and a decision");
    brought_before
}

/// Alerts in their topic and rows in the tables are those of the oracle, each once; gives the number of alerts.
#[track_caller]
pub(super) fn assert_projections(
    kafka: &Kafka,
    topics: &Topics,
    url: &str,
    verdicts: &[((u16, u64), Verdict)],
) -> usize {
    let alert = |verdict: &Verdict| {
        let Verdict { user_id, transaction_id, outcome, alert, .. } = verdict;
        alert.as_ref().map(|id| format!("{id}|{user_id}|{transaction_id}|{}", outcome.name()))
    };
    let mut expected: Vec<String> = verdicts.iter().filter_map(|(_, verdict)| alert(verdict)).collect();
    expected.sort_unstable();
    let published = committed(kafka, &topics.name("fraud-alerts"), "%s\n");
    let shown = |alert: &String| {
        let alert: Value = serde_json::from_str(alert).unwrap();
        ["alert_id", "user_id", "transaction_id", "decision"]
            .map(|field| alert[field].as_str().unwrap().to_owned())
            .join("|")
    };
    let mut published: Vec<String> = published.iter().map(shown).collect();
    published.sort_unstable();
    assert_same("alerts of the topic", &published, &expected);
    let mut stored = rows(url, "SELECT alert_id, user_id, transaction_id, decision FROM fraud_alerts");
    stored.sort_unstable();
    assert_same("alerts of the table", &stored, &expected);
    let row = |((partition, n), verdict): &((u16, u64), Verdict)| {
        let Verdict { user_id, transaction_id, decision_id, outcome, .. } = verdict;
        format!("{partition}|{n}|{decision_id}|{user_id}|{transaction_id}|{}", outcome.name())
    };
    let mut decided: Vec<String> = verdicts.iter().map(row).collect();
    let columns = "journal_partition, journal_n, decision_id, user_id, transaction_id, decision";
    let mut stored = rows(url, &format!("SELECT {columns} FROM decisions"));
    decided.sort_unstable();
    stored.sort_unstable();
    assert_same("decisions of the table", &stored, &decided);
    expected.len()
}

/// Two sorted lists are the same, without printing a million rows when they are not.
#[track_caller]
fn assert_same(what: &str, found: &[String], expected: &[String]) {
    let differs = found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert_eq!((found.len(), differs), (expected.len(), None), "{what}: number, and the first that differs");
}
