//! `verdict dead-letters`: what was refused on the topics, shown, or sent to where it came from. It keeps no account of what
//! it sent: the service tells duplicates apart.

use super::UsageError;
use crate::config::Config;
use crate::kafka::{Inspector, KafkaSettings, Scan, Sender, Topic};
use crate::projections::outbox::Letter;
use crate::telemetry::clock::Clock;
use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use rdkafka::message::Message as _;
use rdkafka::producer::BaseRecord;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

/// How long the brokers have to say which topics there are.
const PATIENCE: Duration = Duration::from_secs(30);
/// Topics that the service consumes; nothing is sent anywhere else, whatever a header says.
const SOURCES: [Topic; 3] = [Topic::Transactions, Topic::Logins, Topic::Labels];

/// Show what was refused on the topics, or send it there again.
///
/// The topic dead-letters is read from its start to what is committed now, a partition after the other, oldest first.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  verdict dead-letters list --limit 20
  verdict dead-letters redrive --reason TOO_EARLY --dry-run")]
pub struct DeadLettersArgs {
    /// Configuration file that names the brokers [default: verdict.toml, if it exists]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Show them, a JSON object a line
    ///
    /// Each has partition, offset, origin {topic, partition, offset}, reason, detail, time (of the refusal) and the refused
    /// bytes: `value` if they are UTF-8, else `value_base64`. Where they were cut, `cut` has length and sha256 of the whole.
    #[command(after_help = "Examples:
  verdict dead-letters list
  verdict dead-letters list --reason NOT_JSON --topic logins --since 2026-11-01T00:00:00Z")]
    List {
        /// Which ones.
        #[command(flatten)]
        filter: Filter,
    },
    /// Send them to the partition of the topic that they came from, where the service consumes them anew
    ///
    /// Every run sends all that match: running it twice sends twice. A transaction that was decided meanwhile is a duplicate
    /// then and counts once; what is still refused becomes another dead letter, which a later run matches as well.
    ///
    /// Prints {matched, redriven, cut, no_origin, dry_run}, once the brokers have acknowledged everything. What was cut
    /// (over 1 MiB) is not sent, nor is what came from no topic that this configuration names. If it fails, some may have
    /// been sent.
    #[command(after_help = "Examples:
  verdict dead-letters redrive --reason TOO_EARLY --since 2026-11-28T00:00:00Z --dry-run
  verdict dead-letters redrive --reason TOO_EARLY --since 2026-11-28T00:00:00Z")]
    Redrive {
        /// Which ones.
        #[command(flatten)]
        filter: Filter,
        /// Send nothing; `redriven` is 0
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which dead letters are meant: those that meet all that is given.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Refused for this reason, NOT_JSON for one
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// From this topic, with kafka.topic_prefix or without
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Refused at this time or later, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl Filter {
    fn takes(&self, letter: &Letter, prefix: &str) -> bool {
        let is_from = |topic: &String| {
            let origin = letter.origin.as_ref().map(|origin| origin.topic.as_str());
            origin.is_some_and(|origin| origin == topic || origin.strip_prefix(prefix) == Some(topic))
        };
        let is_since = |since: &jiff::Timestamp| {
            let time = letter.time.as_ref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
            time.is_some_and(|time| time >= *since)
        };
        self.reason.as_ref().is_none_or(|reason| letter.reason.as_ref() == Some(reason))
            && self.topic.as_ref().is_none_or(is_from)
            && self.since.as_ref().is_none_or(is_since)
    }
}

/// A line of `list`.
#[derive(Serialize)]
struct Line<'a> {
    partition: u16,
    offset: i64,
    origin: Option<Value>,
    reason: Option<&'a str>,
    detail: Option<&'a str>,
    time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl<'a> Line<'a> {
    fn of(partition: u16, offset: i64, letter: &'a Letter) -> Self {
        let origin = letter.origin.as_ref();
        let value = std::str::from_utf8(&letter.value).ok();
        Self {
            partition,
            offset,
            origin: origin.map(|at| json!({"topic": at.topic, "partition": at.partition, "offset": at.offset})),
            reason: letter.reason.as_deref(),
            detail: letter.detail.as_deref(),
            time: letter.time.as_deref(),
            cut: letter.cut.as_ref().map(|(length, sha256)| json!({"length": length, "sha256": sha256})),
            value,
            value_base64: value.is_none().then(|| STANDARD.encode(&letter.value)),
        }
    }
}

/// What `redrive` did; the line on stdout.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    matched: u64,
    redriven: u64,
    cut: u64,
    no_origin: u64,
    dry_run: bool,
}

impl Summary {
    /// Counts a letter; where it is to be sent, if anywhere.
    fn count<'a>(&mut self, letter: &'a Letter, sources: &[impl AsRef<str>]) -> Option<(&'a str, i32)> {
        self.matched += 1;
        if letter.cut.is_some() {
            self.cut += 1;
            return None;
        }
        let known = letter.origin.as_ref().filter(|origin| sources.iter().any(|name| name.as_ref() == origin.topic));
        self.no_origin += u64::from(known.is_none());
        let origin = known.filter(|_| !self.dry_run)?;
        self.redriven += 1;
        Some((&origin.topic, origin.partition))
    }
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong or names no brokers, they do not answer, or they refuse what is sent.
pub fn run(args: &DeadLettersArgs) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), Vec::new())?;
    crate::telemetry::init_logging(config.log_filter())?;
    let Some(kafka) = &config.kafka else {
        let what =
            "expected [kafka] with bootstrap_servers in the configuration, found none: dead letters are on a topic";
        return Err(UsageError(what.to_owned()).into());
    };
    let settings = KafkaSettings::from(kafka);
    let result = match &args.action {
        Action::List { filter } => list(&settings, filter),
        Action::Redrive { filter, dry_run } => redrive(&settings, filter, *dry_run),
    };
    result.or_else(|error| match error.downcast_ref::<io::Error>() {
        // A reader that went away (`| head`) is no failure.
        Some(io_error) if io_error.kind() == ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

fn list(settings: &KafkaSettings, filter: &Filter) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    each(settings, filter, |partition, offset, letter| {
        serde_json::to_writer(&mut out, &Line::of(partition, offset, letter)).map_err(io::Error::from)?;
        Ok(out.write_all(b"\n")?)
    })?;
    Ok(out.flush()?)
}

fn redrive(settings: &KafkaSettings, filter: &Filter, dry_run: bool) -> anyhow::Result<()> {
    let sources = SOURCES.map(|topic| settings.topic(topic));
    let sender = Sender::new(settings.clone(), "redrive", std::thread::sleep)?;
    let mut summary = Summary { dry_run, ..Summary::default() };
    each(settings, filter, |_, _, letter| {
        let Some((topic, partition)) = summary.count(letter, &sources) else { return Ok(()) };
        Ok(sender.send(BaseRecord::to(topic).partition(partition).payload(&letter.value[..]))?)
    })?;
    sender.finish().context("not everything was sent")?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&summary)?).context("writing what was sent to stdout")
}

/// Hands out the dead letters that are meant, with their partition and offset.
fn each(
    settings: &KafkaSettings,
    filter: &Filter,
    mut take: impl FnMut(u16, i64, &Letter) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let topic = settings.topic(Topic::DeadLetters);
    let partitions = Inspector::new(settings.clone(), PATIENCE)?.partitions_of(&topic)?;
    let partitions = u16::try_from(partitions).with_context(|| format!("{topic} has {partitions} partitions"))?;
    let scan = Scan::new(settings.clone(), topic, Clock::System, "dead-letters")?;
    // All ends before the first record: what comes of the records that are sent is not read in the same run.
    let marks = (0..partitions).map(|partition| Ok((partition, scan.watermarks(partition)?)));
    let marks: Vec<_> = marks.collect::<anyhow::Result<_>>()?;
    let (mut left, mut failure) = (filter.limit.unwrap_or(u64::MAX), None);
    for (partition, mark) in marks {
        if left == 0 || failure.is_some() {
            break;
        }
        scan.read(partition, mark.low, Some(mark.high), &mut |message| {
            let letter = Letter::of(message);
            if !filter.takes(&letter, &settings.topic_prefix) {
                return ControlFlow::Continue(());
            }
            failure = take(partition, message.offset(), &letter).err();
            left -= 1;
            if left == 0 || failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projections::outbox::LetterOrigin;

    fn letter(topic: &str) -> Letter {
        Letter {
            origin: Some(LetterOrigin { topic: topic.to_owned(), partition: 3, offset: 12 }),
            reason: Some("TOO_EARLY".to_owned()),
            detail: Some("d".to_owned()),
            time: Some("2026-11-23T12:00:00.012Z".to_owned()),
            cut: None,
            value: b"{\"a\":1}".to_vec(),
        }
    }

    #[test]
    fn filters_take_what_meets_all_of_them() {
        let since = |text: &str| Filter { since: Some(text.parse().unwrap()), ..Filter::default() };
        let topic = |name: &str| Filter { topic: Some(name.to_owned()), ..Filter::default() };
        let reason = |code: &str| Filter { reason: Some(code.to_owned()), ..Filter::default() };
        let both = Filter { reason: Some("NOT_JSON".to_owned()), ..topic("logins") };
        for (filter, expected) in [
            (Filter::default(), true),
            (since("2026-11-23T12:00:00.012Z"), true),
            (since("2026-11-23T12:00:00.013Z"), false),
            (topic("logins"), true),
            (topic("p.logins"), true),
            (topic("gins"), false),
            (reason("TOO_EARLY"), true),
            (reason("TOO"), false),
            (both, false),
        ] {
            assert_eq!(filter.takes(&letter("p.logins"), "p."), expected, "{filter:?}");
        }
        let told_nothing = [topic("logins"), since("2026-11-23T12:00:00Z"), reason("TOO_EARLY")];
        assert!(told_nothing.iter().all(|filter| !filter.takes(&Letter::default(), "p.")));
    }

    #[test]
    fn lines_show_text_as_it_is_and_other_bytes_in_base64() {
        let mut shown = letter("logins");
        let line = |letter: &Letter| serde_json::to_value(Line::of(1, 5, letter)).unwrap();
        let mut expected = json!({"partition": 1, "offset": 5, "reason": "TOO_EARLY", "detail": "d",
            "origin": {"topic": "logins", "partition": 3, "offset": 12},
            "time": "2026-11-23T12:00:00.012Z", "value": "{\"a\":1}"});
        assert_eq!(line(&shown), expected);
        (shown.value, shown.cut) = (vec![0xff, 0], Some((2_000_000, "0a".to_owned())));
        expected.as_object_mut().unwrap().remove("value");
        expected["value_base64"] = json!("/wA=");
        expected["cut"] = json!({"length": 2_000_000, "sha256": "0a"});
        assert_eq!(line(&shown), expected);
    }

    #[test]
    fn only_whole_letters_from_known_topics_are_sent() {
        let sources = ["p.transactions", "p.logins"];
        let cut = Letter { cut: Some((2_000_000, String::new())), ..letter("p.logins") };
        let letters = [letter("p.logins"), cut, letter("verdict.journal"), Letter::default()];
        let counted = |dry_run: bool| {
            let mut summary = Summary { dry_run, ..Summary::default() };
            let sent = letters.iter().filter_map(|letter| summary.count(letter, &sources)).collect::<Vec<_>>();
            (sent, summary)
        };
        let summary = Summary { matched: 4, redriven: 1, cut: 1, no_origin: 2, dry_run: false };
        assert_eq!(counted(false), (vec![("p.logins", 3)], summary));
        let summary = Summary { matched: 4, redriven: 0, cut: 1, no_origin: 2, dry_run: true };
        assert_eq!(counted(true), (vec![], summary));
    }
}
