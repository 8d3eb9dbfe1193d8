//! Consumers of the journal's topic, assigned by hand: how they are set up, and those that wait for a reader.
//!
//! To make one takes some milliseconds and threads, and to drop one may take a broker's answer, so that a reader borrows
//! one and gives it back.

use crate::journal::JournalError;
use crate::kafka::{ClientLog, KafkaSettings};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Consumers that are kept for the next reader.
const MAX_IDLE: usize = 2;

/// How long a fetch waits for more, in milliseconds. A broker answers at once when there is something; this is how long one
/// that is idle keeps a new partition waiting.
const FETCH_WAIT_MS: &str = "50";

/// What every reader of the journal is set up with.
pub(super) fn config(settings: &KafkaSettings) -> ClientConfig {
    settings.quick_consumer(FETCH_WAIT_MS)
}

/// A consumer without partitions.
pub(super) fn create(
    settings: &KafkaSettings,
    config: &ClientConfig,
    name: &'static str,
) -> Result<BaseConsumer<ClientLog>, JournalError> {
    BaseConsumer::from_config_and_context(config, settings.log(name))
        .map_err(|error| JournalError::Store(settings.explain(&error).to_string().into()))
}

/// Consumers for readers.
pub(super) struct Pool {
    settings: KafkaSettings,
    idle: Mutex<Vec<BaseConsumer<ClientLog>>>,
}

impl Pool {
    pub(super) fn new(settings: KafkaSettings) -> Self {
        Self { settings, idle: Mutex::default() }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<BaseConsumer<ClientLog>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A consumer without partitions, until it is dropped. Blocks some milliseconds.
    pub(super) fn lend(self: &Arc<Self>) -> Result<Lent, JournalError> {
        let idle = self.idle().pop();
        let consumer = match idle {
            Some(consumer) => consumer,
            None => {
                let mut config = config(&self.settings);
                // It reads what is there. A fetch that waits for more would hold up the next reader's first.
                config.set("fetch.wait.max.ms", "2");
                create(&self.settings, &config, "journal-reader")?
            }
        };
        Ok(Lent { pool: Arc::clone(self), consumer: Some(consumer) })
    }

    /// Ends those that wait, where it holds nobody up.
    pub(super) fn close(&self) {
        self.idle().drain(..).for_each(drop_aside);
    }
}

/// A consumer for one reader.
pub(super) struct Lent {
    pool: Arc<Pool>,
    consumer: Option<BaseConsumer<ClientLog>>,
}

impl Lent {
    pub(super) fn settings(&self) -> &KafkaSettings {
        &self.pool.settings
    }
}

impl Deref for Lent {
    type Target = BaseConsumer<ClientLog>;

    #[expect(clippy::expect_used, reason = "invariant: it is taken only by `drop`")]
    fn deref(&self) -> &Self::Target {
        self.consumer.as_ref().expect("a consumer")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        let clean = consumer.unassign().is_ok();
        let mut idle = self.pool.idle();
        if clean && idle.len() < MAX_IDLE {
            idle.push(consumer);
        } else {
            drop(idle);
            drop_aside(consumer);
        }
    }
}

/// Drops a client where it holds nobody up: it waits for its own threads, and these may wait for a broker.
pub(super) fn drop_aside(client: impl Send + 'static) {
    // A thread that cannot start has the client dropped here.
    let _ = std::thread::Builder::new().name("journal-drop".to_owned()).spawn(move || drop(client));
}
