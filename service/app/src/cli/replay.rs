//! `verdict replay`: the journal against the code that reads it.

use super::ConfigArgs;
use crate::actors::recovery::fold;
use crate::app;
use crate::app::archive::Archive;
use crate::app::storage::Observed;
use crate::config::Config;
use crate::journal::Partition;
use crate::journal::checkpoint::Totals;
use crate::journal::record::{Body, Decided, Record};
use crate::model::{Scorer, Search};
use anyhow::{Context, bail};
use futures_util::TryStreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;
use verdict_core::decision::{Degradation, ModelVerdict};
use verdict_core::event::Source;
use verdict_core::features::{CATALOGUE, compute, schema_version};
use verdict_core::invariant;
use verdict_core::lists::ListKind;
use verdict_core::profile::{Profile, Retention};
use verdict_core::rules::RuleSet;

/// Scores may differ by this much between one row and a batch of them; the same bound as for golden rows.
const SCORE_TOLERANCE: f32 = 1e-6;

/// Recompute every decision in the journal from its events, with the rule sets and models archived beside it, and
/// compare. The books are counted anew, and every partition of a topic must have left its records in the order of its
/// offsets. Nothing is changed, and the service may run meanwhile.
///
/// Exit code 1 and the first difference, if there is any.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict replay --verify
  verdict replay --verify --data-dir /var/lib/verdict")]
pub struct ReplayArgs {
    /// Compare every decision with the recorded one
    #[arg(long, required = true)]
    pub verify: bool,
    /// Where the configuration and the data are.
    #[command(flatten)]
    pub common: ConfigArgs,
}

/// What was replayed; the line on stdout.
#[derive(Debug, Default, Serialize)]
struct Verified {
    records: u64,
    decisions: u64,
    /// Those among them that were answered before they were journaled, and are not computed again.
    as_answered: u64,
    users: usize,
    rulesets: usize,
    models: usize,
    differences: u64,
    books: Books,
    /// By topic and partition of the topic.
    sources: BTreeMap<String, Consumed>,
}

/// Records by kind.
#[derive(Debug, Default, Serialize)]
struct Books {
    decisions: u64,
    logins: u64,
    labels: u64,
    list_changes: u64,
    duplicates: u64,
    dead_letters: u64,
    skipped: u64,
    answered: u64,
}

/// What a partition of a topic left.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Consumed {
    records: u64,
    next_offset: i64,
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, the journal cannot be read, or a decision differs.
pub fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let config = args.common.load([])?;
    crate::telemetry::init_logging(config.log_filter())?;
    let verified = actix::System::new().block_on(verify(&config))?;
    let mut line = serde_json::to_string(&verified)?;
    line.push('\n');
    io::stdout().write_all(line.as_bytes()).context("the result cannot be written")
}

async fn verify(config: &Config) -> anyhow::Result<Verified> {
    let journal = Observed::open(config).await?;
    let bar = match journal.records() {
        Some(records) => {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3}% {pos} records {elapsed}, {eta} left")?;
            ProgressBar::new(records).with_style(style)
        }
        None => ProgressBar::no_length().with_style(ProgressStyle::with_template("{pos} records {elapsed}")?),
    };
    let mut replay = Replay::new(config);
    let mut records = journal.replay();
    while let Some(record) = records.try_next().await? {
        replay.check(&record)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(replay.summary())
}

/// Profiles as of the last record read, and everything that decided them.
struct Replay<'a> {
    config: &'a Config,
    archive: Archive,
    retention: Retention,
    users: HashMap<Box<str>, Box<Profile>>,
    last_n: HashMap<Partition, u64>,
    totals: Totals,
    sources: HashMap<Box<str>, HashMap<i32, Consumed>>,
    rulesets: HashMap<[u8; 32], Arc<RuleSet>>,
    models: HashMap<[u8; 32], Scorer>,
    records: u64,
    decisions: u64,
    as_answered: u64,
}

impl<'a> Replay<'a> {
    fn new(config: &'a Config) -> Self {
        Self {
            config,
            archive: Archive::of(config),
            retention: app::retention(&config.data),
            users: HashMap::new(),
            last_n: HashMap::new(),
            totals: Totals::default(),
            sources: HashMap::new(),
            rulesets: HashMap::new(),
            models: HashMap::new(),
            records: 0,
            decisions: 0,
            as_answered: 0,
        }
    }

    fn check(&mut self, record: &Record) -> anyhow::Result<()> {
        let at = || format!("partition {} record {}", record.partition, record.n);
        let previous = self.last_n.insert(record.partition, record.n);
        if !invariant::contiguous(previous, record.n) {
            bail!("{}: expected the record after {previous:?} (I6)", at());
        }
        if let Source::Topic { topic, partition, offset } = &record.source {
            let Consumed { records, next_offset } =
                self.sources.entry(topic.clone()).or_default().entry(*partition).or_default();
            if offset < next_offset {
                bail!(
                    "{}: expected offset {next_offset} or a later one of {topic}/{partition}, found {offset} (I6)",
                    at()
                );
            }
            (*records, *next_offset) = (*records + 1, offset + 1);
        }
        self.totals.count(record);
        if let Body::Decision(decided) = &record.body {
            // What was answered stands, whatever the records say that came before its own (I3).
            if decided.as_answered {
                self.as_answered += 1;
            } else {
                self.compare(record, decided).with_context(at)?;
            }
            self.decisions += 1;
        }
        fold(&mut self.users, record, &self.retention);
        self.records += 1;
        Ok(())
    }

    fn compare(&mut self, record: &Record, decided: &Decided) -> anyhow::Result<()> {
        let transaction = &decided.transaction;
        let generation = &decided.generation;
        if generation.feature_schema != schema_version() {
            bail!(
                "decided with another feature schema than this version of verdict computes; verify it with that version"
            );
        }
        let rules = self.rules(&generation.ruleset_hash)?;
        if rules.rates().to_base(transaction.amount) != Ok(transaction.base) {
            bail!(
                "transaction {:?} of user {:?} (I8): recorded {} minor units for {}, which the rates of its rule set do not give",
                transaction.transaction_id,
                transaction.user_id,
                transaction.base.0,
                transaction.amount
            );
        }
        let unseen = Profile::default();
        let profile = self.users.get(&transaction.user_id).map_or(&unseen, |profile| profile);
        let mut list_hits = profile.list_hits(&transaction.user_id, record.received_at);
        // Other entries are in other partitions, whose order against this one nothing tells: the record says what was met.
        if !invariant::hits_concern(transaction, &decided.decision) {
            bail!("transaction {:?}: a list hit names something else than it", transaction.transaction_id);
        }
        list_hits.extend(decided.decision.list_hits.iter().filter(|hit| hit.kind != ListKind::User).cloned());
        let computed = compute(profile, transaction, &list_hits, rules.rates().base());
        if computed.features != decided.features {
            bail!(
                "transaction {:?} of user {:?} (I3): {}",
                transaction.transaction_id,
                transaction.user_id,
                first_difference(&decided.features.0, &computed.features.0)
            );
        }
        let model = match (&generation.model, decided.decision.score) {
            (None, _) => ModelVerdict::Absent,
            (Some(_), None) if decided.decision.degraded.contains(&Degradation::ModelError) => {
                ModelVerdict::Missing(Degradation::ModelError)
            }
            (Some(_), None) => ModelVerdict::Missing(Degradation::ModelTimeout),
            (Some(model), Some(recorded)) => {
                let score = self.score(&model.sha256, &computed.features)?;
                if (score - recorded).abs() > SCORE_TOLERANCE {
                    bail!(
                        "transaction {:?}: recorded score {recorded}, recomputed {score}",
                        transaction.transaction_id
                    );
                }
                // The recorded score is what the decision's band and texts came from.
                ModelVerdict::Score(recorded)
            }
        };
        let decision = rules.evaluate_and_decide(transaction, &computed, list_hits, model, record.received_at);
        if decision != decided.decision {
            bail!(
                "transaction {:?} of user {:?} (I3): recorded {:?}, recomputed {decision:?}",
                transaction.transaction_id,
                transaction.user_id,
                decided.decision
            );
        }
        Ok(())
    }

    fn rules(&mut self, hash: &[u8; 32]) -> anyhow::Result<Arc<RuleSet>> {
        if let Some(rules) = self.rulesets.get(hash) {
            return Ok(Arc::clone(rules));
        }
        let rulebook = self.archive.ruleset(hash)?;
        self.rulesets.insert(*hash, Arc::clone(rulebook.rules()));
        Ok(Arc::clone(rulebook.rules()))
    }

    fn score(&mut self, sha256: &[u8; 32], features: &verdict_core::features::FeatureVector) -> anyhow::Result<f32> {
        if !self.models.contains_key(sha256) {
            let search = Search::new(self.config.model.runtime_library.clone());
            let host = self.archive.model(sha256, &search)?;
            self.models.insert(*sha256, host.scorer()?);
        }
        let scorer = self.models.get_mut(sha256).context("the model was just loaded")?;
        scorer.score(&[features])?.first().copied().context("expected one score for one row, found none")
    }

    fn summary(&self) -> Verified {
        Verified {
            records: self.records,
            decisions: self.decisions,
            as_answered: self.as_answered,
            users: self.users.len(),
            rulesets: self.rulesets.len(),
            models: self.models.len(),
            differences: 0,
            books: Books {
                decisions: self.totals.decisions,
                logins: self.totals.logins,
                labels: self.totals.labels,
                list_changes: self.totals.list_changes,
                duplicates: self.totals.duplicates,
                dead_letters: self.totals.dead_letters,
                skipped: self.totals.skipped,
                answered: self.totals.answered,
            },
            sources: (self.sources.iter())
                .flat_map(|(topic, partitions)| {
                    partitions.iter().map(move |(partition, consumed)| (format!("{topic}/{partition}"), *consumed))
                })
                .collect(),
        }
    }
}

fn first_difference(recorded: &[f64], recomputed: &[f64]) -> String {
    CATALOGUE
        .iter()
        .zip(recorded.iter().zip(recomputed))
        .find(|(_, (recorded, recomputed))| recorded.to_bits() != recomputed.to_bits())
        .map(|(spec, (recorded, recomputed))| format!("{}: recorded {recorded}, recomputed {recomputed}", spec.name))
        .unwrap_or_default()
}
