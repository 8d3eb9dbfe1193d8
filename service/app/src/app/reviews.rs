//! Sends the label that follows a review the way of every label: through the gateway, with a permit, until it is durable.

use crate::actors::gateway::Gateway;
use crate::actors::messages::{Accepted, Refusal, Submission};
use crate::telemetry::clock::Clock;
use futures_util::future::LocalBoxFuture;
use std::time::Duration;
use verdict_core::event::{Label, Source};

/// How long one attempt waits for the journal; the next one finds a duplicate if it was only late.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Sends labels through a gateway.
pub(super) fn through(
    gateway: Gateway,
    clock: Clock,
) -> impl Fn(Label) -> LocalBoxFuture<'static, Result<Accepted, Refusal>> {
    move |label| {
        let (gateway, clock) = (gateway.clone(), clock.clone());
        Box::pin(async move {
            let started = clock.instant();
            let (received_at, deadline) = (clock.now(), Some(started + ATTEMPT));
            let source = Source::Http;
            gateway
                .label(Submission {
                    event: Box::new(label),
                    source,
                    received_at,
                    started,
                    deadline,
                    undurable: false,
                    original: None,
                })
                .await
        })
    }
}
