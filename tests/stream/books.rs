//! The books balance: what was produced and sent is what was decided, remembered, seen before and refused, alerts and rows are
//! those of an oracle fed in the order of the journal, and none is there twice.
//!
//! `VERDICT_BOOKS` sets the number of payments (`make books`: 1,000,000); all values of the topics are held in memory.

mod balance;
mod oracle;
mod sent;

use super::{PARTITIONS, committed, consuming, metric, produce, replayed, settings, until_no_lag};
use balance::{Sent, assert_answers, assert_projections, audit};
use sent::{Lines, Payment as Sold, call, identity, read_topics, rows, some_payments};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, KafkaOptions, Postgres, Topics};
use verdict_tests::{Payment, Service, Stopwatch, command, finish, setting, until, within};

/// Percentages of the simulator's noise.
const NOISE: [&str; 6] = ["--duplicates", "5", "--late", "2", "--malformed", "0.5"];
/// Who have payments decided over HTTP at the same time.
const CALLERS: usize = 4;
/// Of the payments so many are sent over HTTP as well: one in this, or some hundred of a short run.
const ONE_IN: u64 = 100;
const LEAST_CALLED: u64 = 800;

/// Fills the topics: payments and a tenth of it in logins, exactly, before the noise; what was sent.
fn simulate(kafka: &Kafka, prefix: &str, payments: u64) -> Value {
    let mut simulate = command(["simulate", "--target", "kafka", "--config", "/dev/null"]);
    let numbers = [("--transactions", payments), ("--logins", payments / 10), ("--users", payments / 10)];
    simulate.args(NOISE).args(numbers.iter().flat_map(|(name, number)| [(*name).to_owned(), number.to_string()]));
    finish(simulate.envs(settings(kafka, prefix))).success().lines().remove(0)["sent"].take()
}

fn book(verified: &Value, name: &str) -> u64 {
    verified["books"][name].as_u64().unwrap()
}

/// Waits as long as a slow machine may take for so many payments.
#[track_caller]
fn until_of(payments: u64, what: &str, mut done: impl FnMut() -> bool) {
    let patience = Duration::from_secs(60 + payments / 300);
    let found = within(patience, || {
        let found = done().then_some(());
        if found.is_none() {
            // A look is a page of metrics, which a busy service should not spend its time on.
            let _ = within(Duration::from_millis(200), || None::<()>);
        }
        found
    });
    assert!(found.is_some(), "waited {patience:?} in vain for {what}");
}

/// Everything consumed, and read by every projection.
fn is_at_rest(service: &Service) -> bool {
    let text = service.get("/metrics").body;
    let lags = |name: &str| -> Vec<bool> {
        text.lines().filter(|line| line.starts_with(name)).map(|line| line.ends_with(" 0")).collect()
    };
    let (sources, projections) = (lags("verdict_source_lag_records{"), lags("verdict_projection_lag_records{"));
    sources.len() == 3 * PARTITIONS as usize
        && projections.len() >= 2
        && sources.into_iter().chain(projections).all(|none| none)
}

/// Consumes it all with two kills on the way, while callers have some of the payments decided.
fn consume(
    kafka: &Kafka,
    topics: &Topics,
    database: &str,
    payments: u64,
    lines: &Lines,
) -> HashMap<Sold, (Box<str>, Value)> {
    let serve = |folder| {
        let builder = consuming(kafka, topics.prefix(), folder).env("VERDICT__POSTGRES__MIGRATE", "true");
        builder.env("VERDICT__POSTGRES__URL", database).start()
    };
    let one_in = ONE_IN.min(payments / LEAST_CALLED).max(1);
    let mut called = some_payments(lines, usize::try_from(one_in).unwrap());
    // In no order: some come before the topic has brought them, some after.
    fastrand::Rng::with_seed(1).shuffle(&mut called);
    let bodies: HashMap<Sold, Box<str>> =
        called.iter().map(|payment| (identity(payment), payment.to_string().into())).collect();
    let mut service = serve(TempDir::new().unwrap());
    let client = Mutex::new(service.client());
    let (service, answers) = thread::scope(|scope| {
        let chunks = called.chunks(called.len().div_ceil(CALLERS)).map(<[Value]>::to_vec);
        let callers: Vec<_> = chunks.map(|chunk| scope.spawn(|| call(&client, chunk))).collect();
        for part in [payments / 5, payments / 4] {
            let records = |service: &Service| metric(service, "verdict_journal_records_total");
            until_of(payments, "records in the journal", || records(&service) >= part as f64);
            let folder = service.kill().folder;
            service = serve(folder);
            *client.lock().unwrap() = service.client();
        }
        let answers = callers.into_iter().flat_map(|caller| caller.join().unwrap());
        (service, answers.collect::<HashMap<_, _>>())
    });
    until_of(payments, "all to be consumed", || is_at_rest(&service));
    // A lag is a second old.
    until_of(payments, "all to be shown", || {
        let count = |table: &str| rows(database, &format!("SELECT count(*) FROM {table}"))[0].parse::<u64>().unwrap();
        let published = committed(kafka, &topics.name("fraud-alerts"), "%o\n").len() as u64;
        count("decisions") >= payments && published >= count("fraud_alerts")
    });
    // Whatever was killed on the way, nothing was read twice.
    let rest = metric(&service, "verdict_journal_records_total");
    let sent = lines.iter().map(Vec::len).sum::<usize>() + answers.len();
    assert!(rest < sent as f64 * 0.75, "the first two left nearly half of the records, and this one {rest} of {sent}");
    let _ = service.terminate();
    assert_eq!(answers.len(), bodies.len());
    answers.into_iter().map(|(who, answer)| (who.clone(), (bodies[&who].clone(), answer))).collect()
}

#[test]
fn they_balance_over_noise_requests_and_two_kills() {
    let payments = setting("VERDICT_BOOKS", 20_000);
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("books", PARTITIONS);
    let database = Postgres::shared().fresh_database();
    let told = simulate(kafka, topics.prefix(), payments);
    let lines = read_topics(kafka, &topics);
    let watch = Stopwatch::start();
    let requests = consume(kafka, &topics, &database, payments, &lines[&topics.name("transactions")]);
    let consumed_s = watch.seconds();
    let sent = Sent { lines, requests };
    let audited = audit(kafka, &topics, &sent);
    let again = assert_answers(&sent, &audited.verdicts);
    let alerts = assert_projections(kafka, &topics, &database, &audited.verdicts);
    let letters = committed(kafka, &topics.name("dead-letters"), "%p/%o\n").len() as u64;
    let produced: u64 = told.as_object().unwrap().values().map(|sent| sent.as_u64().unwrap()).sum();
    let of = |kind: &str| audited.count(kind);
    let (requests, remembered) = (sent.requests.len() as u64, of("logins") + of("labels"));
    println!(
        "{produced} produced and {requests} sent over HTTP in {consumed_s:.0} s: {} decided, {remembered} logins and labels, \
         {} duplicates on topics and {again} over HTTP, {letters} dead letters; {alerts} alerts in Kafka and PostgreSQL",
        of("decisions"),
        of("duplicates"),
    );
    assert_eq!(of("decisions") + remembered + of("duplicates") + again + of("dead letters"), produced + requests);
    assert_eq!((of("decisions"), of("logins")), (payments, payments / 10), "every event of the simulator, once");
    assert_eq!(letters, of("dead letters"));
    // Both ways were taken, and all that can happen did.
    assert!(again > 0 && again < requests, "{again} of {requests}");
    let least = |share: f64| (payments as f64 * share) as u64;
    assert!(
        of("duplicates") > least(0.04) && letters > least(0.004) && alerts as u64 > least(0.002),
        "{:?}",
        audited.kinds
    );
}

#[test]
fn a_broker_that_goes_and_comes_back_costs_nothing() {
    let kafka = Kafka::start(KafkaOptions { partitions: PARTITIONS, ..KafkaOptions::default() });
    let service = consuming(&kafka, "", TempDir::new().unwrap()).start();
    let pay = |number: u32| {
        let payment = Payment::new(&format!("u-{number}"), "t-1", "12.00").text();
        // Wherever it goes: three of four are moved.
        produce(&kafka, "transactions", number % PARTITIONS, "", &payment);
    };
    (0..4).for_each(pay);
    let decided = |count: f64| {
        until("decisions", || (metric(&service, "verdict_decisions_total") >= count).then_some(()));
    };
    decided(4.0);
    kafka.kill();
    // Nothing becomes durable now, and nobody is told that it did.
    let payment = Payment::new("u-1", "t-2", "1.00").text();
    let answer = service.post("/v1/decide", &payment);
    assert_eq!((answer.status, &answer.json()["durable"]), (200, &json!(false)), "{}", answer.body);
    kafka.restart();
    (4..8).for_each(pay);
    decided(9.0);
    let answer = service.post("/v1/decide", &payment);
    let told = answer.json();
    assert_eq!((&told["durable"], &told["duplicate"]), (&json!(true), &json!(true)), "{}", answer.body);
    until_no_lag(&service);
    let verified = replayed(&kafka, "", service.terminate().folder.path());
    assert_eq!((book(&verified, "decisions"), book(&verified, "dead_letters")), (9, 0), "{verified}");
    let skipped = book(&verified, "skipped");
    assert_eq!(skipped + 8, verified["records"].as_u64().unwrap() - 1, "{verified}");
}
