//! Why brokers that can be reached will not have this client. A client tells such an error to whoever polls it, and hides it
//! from whoever asks a question, which only is not answered in time. So one is made that asks nothing and is polled.

use super::{ClientLog, KafkaSettings};
use crate::telemetry::clock::instant;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::statistics::Statistics;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a client has to be refused: a connection and a handshake, and another after a back-off.
const PATIENCE: Duration = Duration::from_secs(3);
const TURN: Duration = Duration::from_millis(50);

struct Hearing {
    log: ClientLog,
    refused: Mutex<Option<Box<str>>>,
}

impl ClientContext for Hearing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        let refusals = [RDKafkaErrorCode::Authentication, RDKafkaErrorCode::SSL];
        if error.rdkafka_error_code().is_some_and(|code| refusals.contains(&code)) {
            let why = self.log.hide(reason).into();
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        }
    }
}

impl ProducerContext for Hearing {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// What the brokers say to a client of these settings if they refuse it: a wrong password, a certificate. Blocks.
pub(super) fn refusal(settings: &KafkaSettings) -> Option<Box<str>> {
    let context = Hearing { log: settings.log("inspector"), refused: Mutex::new(None) };
    let client: BaseProducer<Hearing> = settings.client().create_with_context(context).ok()?;
    let began = instant();
    while began.elapsed() < PATIENCE {
        client.poll(TURN);
        let refused = client.client().context().refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        if refused.is_some() {
            return refused;
        }
    }
    None
}
