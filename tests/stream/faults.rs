//! Everything at once, under load: the service and each of its servers killed, held and emptied while events come over HTTP
//! and from topics. After each round the books balance, whoever answered keeps their word, and nothing is there twice.
//!
//! `VERDICT_ROUNDS` sets how many rounds of all faults (`make chaos`: 20), `VERDICT_SEED` repeats their order.

use super::{
    PARTITIONS, assert_consumed_but, committed, consuming, decision, metric, replayed, settings, until_consumed,
    until_no_lag,
};
use fastrand::Rng;
use redis::Commands;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, KafkaOptions, Postgres, Redis, Topics};
use verdict_tests::{Answer, Client, Payment, Service, command, finish, now_ms, setting, until, within};

/// Events a second from topics: little, as a debug build beside three servers has to catch up in between.
const RATE: &str = "40";
const CALLERS: u64 = 2;
/// Longer than a member of the group may be silent (6 s).
const HELD: Duration = Duration::from_secs(8);
/// Before a caller whose payment was not taken asks again.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest that a payment is not taken, in any of this.
const PATIENCE: Duration = Duration::from_secs(120);

/// Beyond the minute that a transaction may take, and the 10 s between two looks of the brokers for those that took longer.
const LOST_TRANSACTION: Duration = Duration::from_secs(150);

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillService,
    HoldService,
    KillBroker,
    KillRedis,
    KillPostgres,
    HoldRedis,
    HoldPostgres,
    EmptyRedis,
    EmptyTables,
}

const FAULTS: [Fault; 9] = [
    Fault::KillService,
    Fault::HoldService,
    Fault::KillBroker,
    Fault::KillRedis,
    Fault::KillPostgres,
    Fault::HoldRedis,
    Fault::HoldPostgres,
    Fault::EmptyRedis,
    Fault::EmptyTables,
];

struct Stack {
    kafka: Kafka,
    topics: Topics,
    postgres: Postgres,
    redis: Redis,
    /// Of the service that runs now; callers take a copy for each request.
    client: Mutex<Option<Client>>,
    answered: AtomicU64,
}

impl Stack {
    fn start() -> Self {
        let kafka = Kafka::start(KafkaOptions { partitions: 0, ..KafkaOptions::default() });
        let topics = kafka.fresh_topics("faults", PARTITIONS);
        let (postgres, redis) = (Postgres::start(), Redis::start());
        Self { kafka, topics, postgres, redis, client: Mutex::new(None), answered: AtomicU64::new(0) }
    }

    fn serve(&self, folder: TempDir) -> Service {
        let builder = consuming(&self.kafka, self.topics.prefix(), folder).env("VERDICT__POSTGRES__MIGRATE", "true");
        let builder = builder.env("VERDICT__POSTGRES__URL", self.postgres.url());
        // They are in nobody's books, whatever happens on their way.
        let builder = builder.env("VERDICT__KAFKA__HEARTBEAT_SECS", "1");
        let service = builder.env("VERDICT__REDIS__URL", self.redis.url()).start();
        *self.client.lock().unwrap() = Some(service.client());
        service
    }

    /// Asks until there is an answer that counts, whatever service gives it.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut last = String::new();
        let answer = within(PATIENCE, || {
            let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap();
            match client.request(method, path, &[("content-type", "application/json")], body.as_bytes()) {
                Ok(answer) if matches!(answer.status, 200 | 201) => return Some(answer),
                Ok(answer) if matches!(answer.status, 429 | 503 | 504) => last = answer.body,
                Ok(answer) => panic!("{method} {path} {body}: {} {}", answer.status, answer.body),
                Err(error) => last = error.to_string(),
            }
            let _ = within(PAUSE, || None::<()>);
            None
        });
        answer.unwrap_or_else(|| panic!("{method} {path} {body} was not taken in {PATIENCE:?}: {last}"))
    }

    fn simulate(&self, seed: u64) -> Simulator {
        let seed = seed.to_string();
        let args = ["simulate", "--target", "kafka", "--config", "/dev/null", "--users", "500", "--rate", RATE];
        let mut simulate = command(args);
        simulate.args(["--seed", &seed]).envs(settings(&self.kafka, self.topics.prefix()));
        Simulator(simulate.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits until so many more payments were answered.
    #[track_caller]
    fn more(&self, count: u64) {
        let target = self.answered.load(Ordering::Relaxed) + count;
        let done = within(PATIENCE, || (self.answered.load(Ordering::Relaxed) >= target).then_some(()));
        assert!(done.is_some(), "callers wait for answers");
    }

    fn suffer(&self, fault: Fault, service: Service) -> Service {
        match fault {
            Fault::KillService => return self.serve(service.kill().folder),
            Fault::HoldService => {
                let pid = Pid::from_raw(service.pid().try_into().unwrap()).unwrap();
                kill_process(pid, Signal::STOP).unwrap();
                let _ = within(HELD, || None::<()>);
                kill_process(pid, Signal::CONT).unwrap();
            }
            Fault::KillBroker => self.kafka.restart(),
            // Decisions wait for neither of the two.
            Fault::KillRedis => {
                self.redis.kill();
                self.more(10);
                self.redis.restart();
            }
            Fault::KillPostgres => {
                self.postgres.kill();
                self.more(10);
                self.postgres.restart();
            }
            Fault::HoldRedis => {
                self.redis.pause();
                self.more(20);
                self.redis.resume();
            }
            Fault::HoldPostgres => {
                self.postgres.pause();
                self.more(20);
                self.postgres.resume();
            }
            Fault::EmptyRedis => {
                let _: () = redis::cmd("FLUSHALL").query(&mut self.connect()).unwrap();
            }
            Fault::EmptyTables => {
                self.query("TRUNCATE fraud_alerts, decisions, labels");
                let mut rebuild = command(["rebuild", "review", "--config", "/dev/null", "--data-dir"]);
                rebuild.arg(service.folder().join("data")).envs(settings(&self.kafka, self.topics.prefix()));
                let _ = finish(rebuild.env("VERDICT__POSTGRES__URL", self.postgres.url())).success();
            }
        }
        service
    }

    fn connect(&self) -> redis::Connection {
        redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap()
    }

    #[track_caller]
    fn query(&self, sql: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set", "ON_ERROR_STOP=1"]);
        let ended = finish(psql.arg(self.postgres.url()).args(["--command", sql]).stdin(Stdio::null())).success();
        String::from_utf8(ended.stdout).unwrap().trim_end().to_owned()
    }

    #[track_caller]
    fn count(&self, of: &str) -> u64 {
        self.query(&format!("SELECT count(*) FROM {of}")).parse().unwrap()
    }

    /// Alert ids of the topic and of the table, sorted.
    fn alerts(&self) -> [Vec<String>; 2] {
        let published = committed(&self.kafka, &self.topics.name("fraud-alerts"), "%s\n");
        let id =
            |alert: &String| serde_json::from_str::<Value>(alert).unwrap()["alert_id"].as_str().unwrap().to_owned();
        let mut published: Vec<String> = published.iter().map(id).collect();
        published.sort_unstable();
        let rows = self.query("SELECT alert_id FROM fraud_alerts ORDER BY alert_id::text COLLATE \"C\"");
        [published, rows.lines().map(str::to_owned).collect()]
    }

    /// Names of the block entries that the service shows, and of those in the mirror.
    fn entries(&self, service: &Service) -> [BTreeSet<String>; 2] {
        let (mut shown, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let page = service.get(&format!("/v1/lists/block?limit=500{cursor}")).json();
            for entry in page["entries"].as_array().unwrap() {
                let [kind, value] = ["kind", "value"].map(|field| entry[field].as_str().unwrap());
                shown.insert(format!("verdict:block:{kind}:{value}"));
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        [shown, self.connect().keys::<_, Vec<String>>("verdict:block:*").unwrap().into_iter().collect()]
    }

    /// The same, once topic and table have as many. A transaction whose end the brokers were not told hides what came after it
    /// from readers of what is committed, until they end it.
    #[track_caller]
    fn settled_alerts(&self) -> [Vec<String>; 2] {
        let settled = within(LOST_TRANSACTION, || {
            let both = self.alerts();
            (both[0].len() >= both[1].len() && self.count("fraud_alerts") == both[0].len() as u64).then_some(both)
        });
        settled.unwrap_or_else(|| {
            let [published, rows] = self.alerts().map(|ids| ids.into_iter().collect::<BTreeSet<_>>());
            let (hidden, missing) = (rows.difference(&published).count(), published.difference(&rows).count());
            let ends = super::ends(&self.kafka, &self.topics.name("fraud-alerts"));
            panic!(
                "of {} alerts in the table {hidden} are not in the topic, of {} there {missing} are not in the table; \
                 the topic's partitions end at {ends:?}",
                rows.len(),
                published.len(),
            )
        })
    }

    /// Ends the service once all has caught up, and holds what is there against what was sent and answered.
    #[expect(clippy::print_stdout, reason = "whoever runs many rounds sees how they go")]
    fn settle(&self, service: Service, answers: &BTreeMap<String, Value>) -> TempDir {
        until_consumed(&self.kafka, self.topics.prefix(), &service);
        until_no_lag(&service);
        until("every projection at the end", || {
            let ready = service.get("/readyz").json();
            let projections = ready["components"]["projections"].as_object().unwrap();
            (projections.len() >= 3 && projections.values().all(|one| one["lag_records"] == 0)).then_some(())
        });
        let [published, rows] = self.settled_alerts();
        assert!(published.windows(2).all(|two| two[0] != two[1]), "an alert was published twice");
        assert_eq!(published, rows);
        until("the mirror of the lists", || {
            let [shown, mirrored] = self.entries(&service);
            (!shown.is_empty() && shown == mirrored).then_some(())
        });
        until("an empty spill", || (metric(&service, "verdict_spill_entries") == 0.0).then_some(()));
        for (payment, answer) in answers {
            let again = self.ask("POST", "/v1/decide", payment).json();
            assert_eq!((&again["duplicate"], &again["durable"]), (&json!(true), &json!(true)), "{again}");
            assert_eq!(&decision(again), answer, "{payment}");
        }
        let folder = service.terminate().folder;
        let verified = replayed(&self.kafka, self.topics.prefix(), folder.path());
        let consumed = assert_consumed_but(&self.kafka, &self.topics, &verified, 1);
        let book = |kind: &str| verified["books"][kind].as_u64().unwrap();
        let kinds = ["decisions", "logins", "labels", "duplicates", "dead_letters", "skipped"];
        assert_eq!(kinds.map(book).iter().sum::<u64>(), consumed + answers.len() as u64, "{verified}");
        let one = "(SELECT DISTINCT decision_id FROM decisions) AS one";
        assert_eq!([self.count("decisions"), self.count(one)], [book("decisions"); 2], "{verified}");
        assert_eq!(self.count("decisions WHERE user_id LIKE 'caller-%'"), answers.len() as u64);
        println!("{consumed} records of topics, {} answers, {} alerts", answers.len(), rows.len());
        folder
    }
}

/// Sends to the topics until it is dropped.
struct Simulator(Child);

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has payments decided, one after the other, each until it is: the payments and what was answered.
fn call(stack: &Stack, caller: &str, stop: &AtomicBool) -> BTreeMap<String, Value> {
    let mut answers = BTreeMap::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let amount = if number % 4 == 0 { "5000.01" } else { "1.00" };
        let payment = Payment::new(&format!("{caller}-{}", number / 3), &format!("t-{number}"), amount);
        let payment = payment.with("deadline_ms", 2_000).text();
        let answer = stack.ask("POST", "/v1/decide", &payment).json();
        // While the broker is away it is not durable, and stands all the same.
        answers.insert(payment, decision(answer));
        stack.answered.fetch_add(1, Ordering::Relaxed);
        // Load, not a flood: what is answered is asked about again.
        let _ = within(PAUSE, || None::<()>);
    }
    answers
}

#[test]
fn nothing_is_lost_or_doubled_whatever_becomes_of_whom() {
    let (rounds, seed) = (setting("VERDICT_ROUNDS", 1), setting("VERDICT_SEED", now_ms().unsigned_abs()));
    println!("{rounds} rounds with VERDICT_SEED={seed}");
    let (mut rng, stack) = (Rng::with_seed(seed), Stack::start());
    let (mut folder, mut answers) = (TempDir::new().unwrap(), BTreeMap::new());
    for round in 0..rounds {
        let mut faults = FAULTS;
        rng.shuffle(&mut faults);
        println!("round {round}: {faults:?}");
        let mut service = stack.serve(folder);
        let stop = AtomicBool::new(false);
        service = thread::scope(|scope| {
            let simulator = stack.simulate(round + 1);
            let (stack, stop) = (&stack, &stop);
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| scope.spawn(move || call(stack, &format!("caller-{round}-{caller}"), stop)))
                .collect();
            // A failure must not leave the callers running.
            let suffered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for (turn, fault) in faults.into_iter().enumerate() {
                    stack.more(10);
                    let _ =
                        stack.ask("PUT", &format!("/v1/lists/block/merchant/v-{round}-{turn}"), r#"{"reason": "x"}"#);
                    service = stack.suffer(fault, service);
                }
                stack.more(10);
                service
            }));
            drop(simulator);
            stop.store(true, Ordering::Relaxed);
            callers.into_iter().for_each(|caller| answers.extend(caller.join().unwrap()));
            suffered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        folder = stack.settle(service, &answers);
    }
}

/// Without the two, `/v1/decide` and the topics alike go on, and the service says that it is ready: nothing of a decision is
/// there. What they missed they get afterwards, each once (I4).
#[test]
fn with_postgres_and_redis_stopped_all_is_decided_and_they_catch_up() {
    let stack = Stack::start();
    let service = stack.serve(TempDir::new().unwrap());
    let (mut answers, numbers) = (BTreeMap::new(), 0..30);
    for killed in [false, true] {
        if killed {
            stack.redis.kill();
            stack.postgres.kill();
        } else {
            stack.redis.pause();
            stack.postgres.pause();
        }
        let before = metric(&service, "verdict_journal_records_total");
        let simulator = stack.simulate(1 + u64::from(killed));
        for number in numbers.clone() {
            let amount = if number % 4 == 0 { "5000.01" } else { "1.00" };
            let payment = Payment::new(&format!("caller-{killed}-{number}"), "t-1", amount).with("deadline_ms", 2_000);
            let answer = service.post("/v1/decide", &payment.text());
            assert_eq!((answer.status, &answer.json()["durable"]), (200, &json!(true)), "{}", answer.body);
            answers.insert(payment.text(), decision(answer.json()));
        }
        let entry = service.request("PUT", &format!("/v1/lists/block/merchant/v-{killed}"), &[], r#"{"reason": "x"}"#);
        assert!(matches!(entry.status, 200 | 201), "{}", entry.body);
        let sent = numbers.len() as f64;
        until("events of topics in the journal", || {
            (metric(&service, "verdict_journal_records_total") >= before + 2.0 * sent).then_some(())
        });
        drop(simulator);
        until("both to fall behind", || {
            let ready = service.get("/readyz");
            assert_eq!(ready.status, 200, "{}", ready.body);
            let lag = |name: &str| ready.json()["components"]["projections"][name]["lag_records"].as_u64();
            (lag("review") > Some(0) && lag("lists") > Some(0)).then_some(())
        });
        if killed {
            stack.redis.restart();
            stack.postgres.restart();
        } else {
            stack.redis.resume();
            stack.postgres.resume();
        }
    }
    let _ = stack.settle(service, &answers);
}
