//! Topics into the service, where `[kafka]` names the brokers: what is checked before the start, and what runs.

use super::brokers;
use super::publishing::Outboxes;
use crate::actors::gateway::Gateway;
use crate::config::{Config, KafkaConfig};
use crate::ingress::kafka::{Beating, Consumption, Input, Kind, Ports, Published};
use crate::kafka::KafkaSettings;
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::health::Readiness;
use crate::wire::AgeBounds;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};
use verdict_core::money::Rates;

/// The topics that are to be consumed, known to be fit for it.
pub(super) struct Topics {
    settings: KafkaSettings,
    inputs: Vec<Input>,
    beating: Option<Beating>,
}

impl Topics {
    /// Asks the brokers for the topics and checks them; `None` without `[kafka]`.
    ///
    /// # Errors
    /// When the brokers cannot be reached, or a topic is missing, too small, or would lose records.
    pub(super) async fn find(config: &Config) -> anyhow::Result<Option<Self>> {
        let journal = config.data.partitions;
        let Some(kafka) = &config.kafka else { return Ok(None) };
        let settings = KafkaSettings::from(kafka);
        let topics = Kind::ALL.map(Kind::topic);
        let mut inputs = Vec::new();
        for (kind, facts) in Kind::ALL.into_iter().zip(&brokers::topics(&settings, &topics).await?) {
            if facts.partitions % u32::from(journal) != 0 {
                warn!(
                    topic = &*facts.name,
                    partitions = facts.partitions,
                    journal,
                    "not a multiple of the journal's partitions: most records are moved to another partition first"
                );
            }
            inputs.push(Input::new(kind, facts, out_of_order_ms(kafka, kind), journal)?);
        }
        Ok(Some(Self { settings, inputs, beating: None }))
    }

    /// Heartbeats are sent, and seen to be published by these outboxes of a journal with these ends.
    pub(super) fn beating(self, every: Duration, outboxes: Outboxes, durable: watch::Receiver<Vec<u64>>) -> Self {
        let published: Published = Box::new(move |partition| {
            let end = durable.borrow().get(usize::from(partition)).copied().unwrap_or(0);
            Box::pin(outboxes.clone().published(partition, end))
        });
        Self { beating: Some(Beating { every, published }), ..self }
    }

    /// Starts to consume.
    ///
    /// # Errors
    /// When librdkafka does not take the settings.
    pub(super) fn consume(
        self,
        config: &Config,
        gateway: Gateway,
        rates: impl Fn() -> Arc<Rates> + Send + Sync + 'static,
        bounds: AgeBounds,
        (metrics, readiness): (Metrics, Readiness),
    ) -> anyhow::Result<Consumption> {
        let ports = Ports::new(&self.settings, gateway, rates, bounds, (Clock::System, metrics, readiness))?;
        let consumption =
            Consumption::start(&self.settings, &self.inputs, ports, config.decide.max_in_flight, self.beating)?;
        let topics: Vec<&str> = self.inputs.iter().map(|input| &*input.topic).collect();
        info!(brokers = &*self.settings.bootstrap_servers, ?topics, "consuming");
        Ok(consumption)
    }
}

/// Labels come as late as logins do: nothing waits for either.
fn out_of_order_ms(config: &KafkaConfig, kind: Kind) -> i64 {
    match kind {
        Kind::Transactions => config.transactions_out_of_order_ms,
        Kind::Logins | Kind::Labels => config.logins_out_of_order_ms,
    }
}
