//! Measures the journal on Kafka: `cargo run --release --example kafka_journal SERVERS [SECONDS]`.
//!
//! SERVERS are brokers such as `127.0.0.1:9092`, where it makes a topic of its own. It prints what opening, a take-over and
//! closing take, then appends one record a time with so many in flight: records a second, and milliseconds from append to
//! durable (half and 99 of 100 are faster); then replays them all, and reads single ones.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example that measures and prints")]

mod sample;

use anyhow::{Context, Result};
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, TryStreamExt};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use std::time::{Duration, Instant};
use verdict::config::KafkaConfig;
use verdict::journal::kafka::KafkaJournal;
use verdict::journal::{Journal, Tenure, Wanted};
use verdict::kafka::{Inspector, KafkaSettings, Topic};
use verdict::telemetry::clock::Clock;

const PARTITIONS: u16 = 12;
const READS: u64 = 200;
const TIMEOUT: Duration = Duration::from_secs(10);

async fn make_topic(settings: &KafkaSettings) -> Result<()> {
    let inspector = Inspector::new(settings.clone(), TIMEOUT)?;
    let name = settings.topic(Topic::Journal);
    let topic = NewTopic::new(&name, PARTITIONS.into(), TopicReplication::Fixed(1))
        .set("retention.ms", "-1")
        .set("max.message.bytes", "16777216");
    for made in inspector.admin().create_topics([&topic], &AdminOptions::new()).await? {
        made.map_err(|(name, code)| anyhow::anyhow!("topic {name}: {code}"))?;
    }
    Ok(())
}

/// Appends with so many in flight for so long, of all partitions in turn.
async fn load(journal: &KafkaJournal, tenures: &mut [Tenure], in_flight: usize, time: Duration) -> Result<()> {
    let generation = sample::generation();
    let (begun, mut turn, mut waiting, mut took) = (Instant::now(), 0, FuturesUnordered::new(), Vec::new());
    loop {
        while waiting.len() < in_flight && begun.elapsed() < time {
            let tenure = &mut tenures[turn % usize::from(PARTITIONS)];
            let record = sample::record(&generation, tenure.partition, tenure.epoch, tenure.next_n);
            (turn, tenure.next_n) = (turn + 1, tenure.next_n + 1);
            let start = Instant::now();
            waiting.push(journal.append(vec![record]).map(move |done| done.map(|()| start.elapsed())));
        }
        match waiting.next().await {
            Some(done) => took.push(done?),
            None => break,
        }
    }
    let per_second = took.len() as f64 / begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let ms = |part: usize| took[took.len() * part / 100].as_secs_f64() * 1e3;
    println!("| {in_flight} | {per_second:.0} | {:.2} | {:.2} |", ms(50), ms(99));
    Ok(())
}

async fn run(servers: &str, time: Duration) -> Result<()> {
    let mut config = KafkaConfig::at(servers);
    config.topic_prefix = format!("measure-{}.", std::process::id()).into();
    let settings = KafkaSettings::from(&config);
    make_topic(&settings).await?;
    let mut step = Instant::now();
    let mut lap = |what: &str| {
        println!("{what}: {:.1} ms", step.elapsed().as_secs_f64() * 1e3);
        step = Instant::now();
    };
    let journal = KafkaJournal::open(settings, PARTITIONS, Clock::System).await?;
    lap("open");
    let mut tenures = journal.take_over((0..PARTITIONS).collect()).await?;
    lap("take over");
    println!("| in flight | records/s | p50 ms | p99 ms |\n|---|---|---|---|");
    for in_flight in [1, 64, 512, 4_096] {
        load(&journal, &mut tenures, in_flight, time).await?;
    }
    lap("all of it");
    let cursor = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let records = journal.replay(cursor, Wanted::Everything).try_fold(0_u64, |n, _| async move { Ok(n + 1) }).await?;
    lap(&format!("replay of {records} records"));
    for n in 0..READS {
        let n = n * (tenures[0].next_n / READS);
        journal.read(0, n).await?.context("a record")?;
    }
    lap(&format!("{READS} reads"));
    tenures = journal.take_over((0..PARTITIONS).collect()).await?;
    lap(&format!("take over again, at {}", tenures[0].next_n));
    journal.close(Duration::from_secs(5));
    lap("close");
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let servers = arguments.next().context("expected the brokers, such as 127.0.0.1:9092")?;
    let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse()).context("expected seconds")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&servers, Duration::from_secs(seconds)))
}
