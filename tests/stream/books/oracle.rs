//! What must have come of a journal: one thread, everything of every user kept whole, asked by linear scans. It is told only
//! the order of the journal, and takes the events themselves from the topics and from whoever sent them over HTTP.
//!
//! History and features are those of the core's own oracle; parsing, rules and model are the service's, which have theirs.

#[expect(dead_code, reason = "the core's tests ask for more")]
#[path = "../../../service/core/tests/oracle/history.rs"]
mod history;
#[path = "../../../service/core/tests/oracle/naive.rs"]
mod naive;

use history::{Answer, Decided, History, Listing};
use naive::Question;
use std::collections::HashMap;
use std::sync::Arc;
use verdict::app::Deciding;
use verdict::config::Config;
use verdict::journal::record::{Body, Decided as Recorded, Record};
use verdict::model::{ModelHost, Scorer};
use verdict::wire::{AgeBounds, ParseContext, label, login, transaction};
use verdict_core::decision::{Decision, ModelVerdict, Outcome};
use verdict_core::event::{Source, Transaction};
use verdict_core::lists::{List, ListEntry, ListHit, ListKind};
use verdict_core::profile::Admission;
use verdict_core::rules::DecideInput;
use verdict_core::time::{DAY_MS, Timestamp};
use verdict_tests::workspace;

/// The service's default horizon.
const DEDUPE_MS: i64 = 8 * DAY_MS;
/// Rows of a batch may score otherwise by this much, as golden rows may.
const SCORE_TOLERANCE: f32 = 1e-6;

/// What a record must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Decision,
    Login,
    Label,
    Duplicate,
    DeadLetter,
}

/// What was decided of a transaction, for whoever has to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) user_id: Box<str>,
    pub(super) transaction_id: Box<str>,
    pub(super) decision_id: String,
    pub(super) outcome: Outcome,
    /// The id, if people must hear of it.
    pub(super) alert: Option<String>,
    pub(super) over_http: bool,
}

/// See the module.
pub(super) struct Oracle {
    deciding: Deciding,
    scorer: Scorer,
    users: HashMap<Box<str>, History>,
    pub(super) verdicts: Vec<((u16, u64), Verdict)>,
}

impl Oracle {
    /// Nobody known yet; rules and model as they ship.
    pub(super) fn new() -> Self {
        let mut config = Config::default();
        config.rules.dir = workspace().join(&config.rules.dir);
        config.model.dir = config.model.dir.map(|dir| workspace().join(dir));
        let deciding = Deciding::load(&config).unwrap();
        let scorer = deciding.model.as_ref().map(ModelHost::scorer).unwrap().unwrap();
        Self { deciding, scorer, users: HashMap::new(), verdicts: Vec::new() }
    }

    /// Takes the next record of its partition with the bytes that it came of, and says what it must be.
    #[track_caller]
    pub(super) fn take(&mut self, topic: &str, bytes: &str, record: &Record) -> Kind {
        let rules = Arc::clone(self.deciding.rules());
        let context = ParseContext { rates: rules.rates(), now: record.received_at, bounds: AgeBounds::default() };
        let bytes = bytes.as_bytes();
        match topic {
            "logins" => login::parse(bytes, &context).map_or(Kind::DeadLetter, |login| {
                let history = self.users.entry(login.user_id.clone()).or_default();
                let kind = kind(&history.admit_login(&login, history.floor(DEDUPE_MS), |_| true), Kind::Login);
                if kind == Kind::Login {
                    history.logins.push(login);
                }
                kind
            }),
            "fraud-labels" => label::parse(bytes, &context).map_or(Kind::DeadLetter, |label| {
                let history = self.users.entry(label.user_id.clone()).or_default();
                let kind = kind(&history.admit_label(&label), Kind::Label);
                if kind == Kind::Label {
                    history.labels.push(label);
                }
                kind
            }),
            _ => transaction::parse(bytes, &context)
                .map_or(Kind::DeadLetter, |parsed| self.pay(*parsed.transaction, record)),
        }
    }

    #[track_caller]
    fn pay(&mut self, transaction: Transaction, record: &Record) -> Kind {
        let history = self.users.entry(transaction.user_id.clone()).or_default();
        match history.admit_transaction(&transaction, history.floor(DEDUPE_MS), |_| true) {
            Admission::New => {}
            Admission::Duplicate { .. } => return Kind::Duplicate,
            Admission::IdReused | Admission::TooOld { .. } => return Kind::DeadLetter,
        }
        let Body::Decision(recorded) = &record.body else { return Kind::Decision };
        assert_eq!(recorded.transaction, transaction, "partition {} record {}", record.partition, record.n);
        // Only who waits at the counter goes without the model; what a topic brings can wait.
        assert!(recorded.decision.is_normal() || record.source == Source::Http, "{recorded:?}");
        let decision = self.decide(&transaction, record.received_at, recorded);
        assert_eq!(recorded.decision, decision, "{transaction:?} (I3)");
        let alert = decision.alert.then(|| verdict_core::alert::alert_id(&transaction).to_string());
        let verdict = Verdict {
            user_id: transaction.user_id.clone(),
            transaction_id: transaction.transaction_id.clone(),
            decision_id: transaction.decision_id().to_string(),
            outcome: decision.outcome,
            alert,
            over_http: record.source == Source::Http,
        };
        self.verdicts.push(((record.partition, record.n), verdict));
        let history = self.users.entry(transaction.user_id.clone()).or_default();
        history.listings.extend(decision.block_entry.map(Listing::Automatic));
        history.decided.push(Decided { n: record.n, transaction });
        Kind::Decision
    }

    #[track_caller]
    fn decide(&mut self, transaction: &Transaction, now: Timestamp, recorded: &Recorded) -> Decision {
        let (history, rules) = (&self.users[&transaction.user_id], self.deciding.rules());
        let value = &transaction.user_id;
        let hit = |entry: ListEntry| ListHit {
            list: List::Block,
            kind: ListKind::User,
            value: value.clone(),
            reason: entry.reason,
        };
        let list_hits: Vec<ListHit> = history.listed(List::Block, now).map(hit).into_iter().collect();
        let minor_per_major = rules.rates().base().minor_per_major();
        let question = Question { history, transaction, block_hits: list_hits.len(), allow_hits: 0, minor_per_major };
        let features = question.features();
        assert_eq!(recorded.features, features, "{transaction:?} (I3)");
        let model = match recorded.decision.score {
            Some(score) => {
                let expected = self.scorer.score(&[&features]).unwrap()[0];
                assert!((score - expected).abs() <= SCORE_TOLERANCE, "{transaction:?}: {score}, expected {expected}");
                // The recorded one is what the decision's band and texts came of.
                ModelVerdict::Score(score)
            }
            None => ModelVerdict::Missing(recorded.decision.degraded[0]),
        };
        let mut rule_hits = Vec::new();
        rules.evaluate(&features, &mut rule_hits);
        let window_approximate = false;
        let received_at = now;
        rules.decide(DecideInput {
            transaction,
            features: &features,
            rule_hits,
            list_hits,
            model,
            window_approximate,
            received_at,
        })
    }
}

fn kind(answer: &Answer, new: Kind) -> Kind {
    match answer {
        Answer::New => new,
        Answer::Duplicate => Kind::Duplicate,
        Answer::IdReused | Answer::TooOld { .. } => Kind::DeadLetter,
    }
}
