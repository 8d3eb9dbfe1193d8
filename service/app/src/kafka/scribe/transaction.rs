//! Transactions as librdkafka has them: begin, send, commit, abort, and what became of it.
//!
//! The client's own `flush` waits in steps of 100 ms, whatever arrives meanwhile; here records are waited for by short
//! looks, and a commit is asked for when none is on its way.

use super::{Message, ScribeError, Shared};
use crate::kafka::{ClientLog, Topic};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::statistics::Statistics;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a call may block before it is looked up whether the scribe must end.
const STEP: Duration = Duration::from_millis(500);
/// How long it waits before it asks again: for records that are given up, for room, for a call that some errors end at once.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Why a transaction was not committed.
pub(super) enum Failure {
    /// It is to be aborted, and may be tried again.
    Passing(Box<str>),
    /// The producer is of no more use.
    Over(ScribeError),
}

/// Hears of brokers that are lost.
struct Line {
    log: ClientLog,
    is_lost: AtomicBool,
}

impl ClientContext for Line {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        let lost = [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::AllBrokersDown];
        if error.rdkafka_error_code().is_some_and(|code| lost.contains(&code)) {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        self.log.error(error, reason);
    }
}

impl ProducerContext for Line {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// The producer of a partition's transactions.
pub(super) struct Ledger {
    shared: Arc<Shared>,
    producer: BaseProducer<Line>,
}

impl Ledger {
    /// Makes the producer and fences whoever had its id. Blocks.
    pub(super) fn open(shared: &Arc<Shared>, within: Duration) -> Result<Self, ScribeError> {
        let Shared { partition, settings, clock, .. } = &**shared;
        let (partition, until) = (*partition, clock.instant() + within);
        let config = settings.transactional_producer(&format!("{}-{partition}", settings.group_id));
        let line = Line { log: settings.log("transactions"), is_lost: AtomicBool::new(false) };
        let producer: BaseProducer<Line> = BaseProducer::from_config_and_context(&config, line)
            .map_err(|error| ScribeError::NotReady { partition, error: settings.explain(&error) })?;
        let ledger = Self { shared: Arc::clone(shared), producer };
        ledger.initialise(until)?;
        ledger.abort_what_hangs(until)?;
        Ok(ledger)
    }

    fn initialise(&self, until: Instant) -> Result<(), ScribeError> {
        let Shared { partition, clock, .. } = &*self.shared;
        let partition = *partition;
        loop {
            let Err(error) = self.producer.init_transactions(STEP) else { return Ok(()) };
            let again = match &error {
                ClientError::Transaction(error) => !error.is_fatal() && is_late(error),
                _ => false,
            };
            if let ClientError::Transaction(error) = &error
                && error.is_fatal()
            {
                return Err(self.over(error));
            }
            if !again || clock.instant() >= until {
                let what = format!("that the transactions of partition {partition} begin");
                return Err(ScribeError::NotReady { partition, error: self.shared.settings.not_said(what, &error) });
            }
            self.look(ASK_AGAIN);
        }
    }

    /// Aborts a transaction in the partition's own topic, and with it what hangs there. A broker without replicas that dies
    /// when a transaction is decided takes the partitions for deleted when it comes back (Kafka 4.3.1), and never writes
    /// their ends; the next end of this producer is then theirs as well.
    fn abort_what_hangs(&self, until: Instant) -> Result<(), ScribeError> {
        let Shared { partition, settings, clock, .. } = &*self.shared;
        let over = |failure| match failure {
            Failure::Over(over) => over,
            Failure::Passing(why) => self.broken(&why),
        };
        let trace = Message {
            topic: settings.topic(Topic::Profiles),
            partition: Some(*partition),
            key: Some(format!("opened/{partition}").into_bytes().into()),
            value: None,
            headers: Vec::new(),
        };
        self.begin().map_err(over)?;
        self.send(&trace).map_err(over)?;
        while self.on_the_way() > 0 && clock.instant() < until {
            self.look(ASK_AGAIN);
            self.check(false).map_err(over)?;
        }
        self.abort()?;
        // What was lost before was settled by this.
        self.producer.context().is_lost.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Why nothing more may be committed once a broker was lost: what was committed last may hang there, and would share the
    /// end of whatever is committed next, in the partitions that it touches and no others.
    pub(super) fn lost(&self) -> Option<ScribeError> {
        let is_lost = self.producer.context().is_lost.load(Ordering::Relaxed);
        is_lost.then(|| self.broken("a broker was lost, and with it perhaps the end of the last transaction"))
    }

    /// Hears what the client has to say.
    pub(super) fn hear(&self) {
        loop {
            // Any time to wait would be kept to whole milliseconds below, and the rest of it spent asking again and again. A call
            // takes one event, and there is one for each batch.
            let before = self.on_the_way();
            self.producer.poll(Duration::ZERO);
            let left = self.on_the_way();
            if left == 0 || left >= before {
                return;
            }
        }
    }

    /// Hears what the client has to say after this time.
    fn look(&self, wait: Duration) {
        std::thread::sleep(wait);
        self.hear();
    }

    pub(super) fn begin(&self) -> Result<(), Failure> {
        self.producer.begin_transaction().map_err(|error| self.judge(&error))
    }

    pub(super) fn send(&self, message: &Message) -> Result<(), Failure> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&message.topic);
        record.partition = message.partition.map(i32::from);
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        if !message.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
            for (key, value) in &message.headers {
                headers = headers.insert(Header { key, value: Some(&**value) });
            }
            record.headers = Some(headers);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                    self.check(false)?;
                    self.look(ASK_AGAIN);
                    record = same;
                }
                Err((error, _)) => return Err(self.judge(&error)),
            }
        }
    }

    /// Records that no broker has acknowledged.
    pub(super) fn on_the_way(&self) -> i32 {
        self.producer.in_flight_count()
    }

    /// Whether a broker answers. Blocks.
    pub(super) fn is_answered(&self) -> bool {
        // Of all topics: asking for one by name may create it.
        self.producer.client().fetch_metadata(None, STEP).is_ok()
    }

    /// Whether it is of use to wait any longer.
    pub(super) fn check(&self, is_late: bool) -> Result<(), Failure> {
        if let Some((code, why)) = self.producer.client().fatal_error() {
            return Err(Failure::Over(self.over_with(code, &why)));
        }
        if self.shared.is_due() {
            return Err(Failure::Over(self.shared.closed()));
        }
        if is_late { Err(Failure::Passing("the brokers do not take its records".into())) } else { Ok(()) }
    }

    /// Commits what was sent; nothing may be on its way. Blocks until that is done or fails.
    pub(super) fn commit(&self) -> Result<(), Failure> {
        if let Some(lost) = self.lost() {
            return Err(Failure::Over(lost));
        }
        loop {
            match self.producer.commit_transaction(STEP) {
                Ok(()) => return Ok(()),
                // It goes on by itself, and is asked again for what became of it.
                Err(ClientError::Transaction(error)) if is_late(&error) && !error.is_fatal() => self.look(ASK_AGAIN),
                Err(error) => return Err(self.judge(&error)),
            }
            self.check(false)?;
        }
    }

    /// Ends a transaction without a trace for readers of what is committed. Blocks until that is known.
    pub(super) fn abort(&self) -> Result<(), ScribeError> {
        let over = |failure| match failure {
            Failure::Over(over) => over,
            Failure::Passing(why) => self.broken(&why),
        };
        loop {
            // What is in a broker's hands is waited for: giving it up would leave a gap.
            while self.on_the_way() > 0 {
                self.producer.purge(PurgeConfig::default().queue());
                self.look(ASK_AGAIN);
                self.check(false).map_err(over)?;
            }
            match self.producer.abort_transaction(STEP) {
                Ok(()) => return Ok(()),
                Err(ClientError::Transaction(error)) if error.is_fatal() => return Err(self.over(&error)),
                Err(ClientError::Transaction(error)) if is_late(&error) => self.look(ASK_AGAIN),
                Err(error) => return Err(self.broken(&error.to_string())),
            }
            self.check(false).map_err(over)?;
        }
    }

    fn judge(&self, error: &ClientError) -> Failure {
        if let Some((code, why)) = self.producer.client().fatal_error() {
            return Failure::Over(self.over_with(code, &why));
        }
        match error {
            ClientError::Transaction(error) if error.is_fatal() => Failure::Over(self.over(error)),
            // Neither done nor to be aborted: nobody knows.
            ClientError::Transaction(error) if !error.txn_requires_abort() => {
                Failure::Over(self.broken(&error.string()))
            }
            other => Failure::Passing(self.hide(&other.to_string()).into()),
        }
    }

    fn over(&self, error: &RDKafkaError) -> ScribeError {
        self.over_with(error.code(), &error.string())
    }

    fn over_with(&self, code: RDKafkaErrorCode, why: &str) -> ScribeError {
        use RDKafkaErrorCode as Code;
        match code {
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
                ScribeError::Fenced { partition: self.shared.partition }
            }
            _ => self.broken(why),
        }
    }

    fn broken(&self, why: &str) -> ScribeError {
        ScribeError::Broken { partition: self.shared.partition, why: self.hide(why).into() }
    }

    fn hide(&self, text: &str) -> String {
        self.shared.settings.log("").hide(text)
    }
}

/// Whether a call has only taken too long, and is to be repeated.
fn is_late(error: &RDKafkaError) -> bool {
    error.is_retriable() || error.code() == RDKafkaErrorCode::OperationTimedOut
}
