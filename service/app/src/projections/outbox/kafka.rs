//! Publishes through the scribe of the partition; what is reflected stands in `verdict.profiles`, beside the partition's
//! checkpoints, under `alerts/P` and `dead-letters/P`.

use super::{Channel, Outbox, Outgoing, PublishError, Publisher, Reached, Reflected};
use crate::journal::{Journal, Partition, Position};
use crate::kafka::{Compacted, KafkaSettings, Message, Scribe, ScribeError, Scribes, Topic};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first byte of a stored position.
const VERSION: u8 = 1;

/// The stored form of a position; its fields and their order are the format of version 1.
#[derive(Serialize, Deserialize)]
struct ReachedV1 {
    n: u64,
    /// Offset, epoch and n.
    position: Option<(u64, u64, u64)>,
}

/// The outbox of a partition in its present term. Its transactions were taken over before, and then the journal's
/// partition: `profiles` holds what `scribes` writes.
///
/// # Errors
/// When its transactions were not taken over here.
pub fn open(
    settings: &KafkaSettings,
    journal: Arc<dyn Journal>,
    scribes: &Scribes,
    profiles: Arc<Compacted>,
    partition: Partition,
) -> Result<Outbox, ScribeError> {
    let publisher = KafkaPublisher {
        scribe: scribes.of(partition)?,
        profiles,
        alerts: settings.topic(Topic::Alerts),
        dead_letters: settings.topic(Topic::DeadLetters),
    };
    Ok(Outbox::new(journal, Arc::new(publisher), partition))
}

/// What is reflected of a partition, as it stands in `verdict.profiles`. Blocks.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn stored(profiles: &Compacted, partition: Partition) -> Result<Reflected, PublishError> {
    let small = profiles.small(partition).map_err(|error| PublishError::Unread(error.to_string().into()))?;
    let reached = |key: String| match small.get(key.as_bytes()) {
        Some(value) => decode(&key, value)
            .map_err(|what| PublishError::Damaged(format!("the position {key} in {} {what}", profiles.topic()).into())),
        None => Ok(Reached::default()),
    };
    Ok(Reflected { alerts: reached(alerts_key(partition))?, dead_letters: reached(dead_letters_key(partition))? })
}

/// See the module.
struct KafkaPublisher {
    scribe: Arc<Scribe>,
    profiles: Arc<Compacted>,
    alerts: Arc<str>,
    dead_letters: Arc<str>,
}

impl KafkaPublisher {
    fn message(&self, outgoing: Outgoing) -> Message {
        let topic = match outgoing.channel {
            Channel::Alerts => &self.alerts,
            Channel::DeadLetters => &self.dead_letters,
        };
        Message {
            topic: Arc::clone(topic),
            partition: None,
            key: outgoing.key,
            value: Some(outgoing.value),
            headers: outgoing.headers,
        }
    }

    fn position(&self, key: String, reached: Reached) -> Message {
        let value = encode(&key, reached);
        Message {
            topic: Arc::clone(self.profiles.topic()),
            partition: Some(self.scribe.partition()),
            key: Some(key.into_bytes().into()),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }
}

impl Publisher for KafkaPublisher {
    fn reflected(&self) -> BoxFuture<'_, Result<Reflected, PublishError>> {
        Box::pin(async move {
            let (profiles, partition) = (Arc::clone(&self.profiles), self.scribe.partition());
            let read = tokio::task::spawn_blocking(move || stored(&profiles, partition)).await;
            read.map_err(|error| PublishError::Unread(error.to_string().into()))?
        })
    }

    fn publish(&self, messages: Vec<Outgoing>, reflected: Reflected) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let partition = self.scribe.partition();
            let mut job: Vec<Message> = messages.into_iter().map(|outgoing| self.message(outgoing)).collect();
            job.push(self.position(alerts_key(partition), reflected.alerts));
            job.push(self.position(dead_letters_key(partition), reflected.dead_letters));
            self.scribe.write(job).await.map_err(end_of_term)
        })
    }

    fn ended(&self) -> BoxFuture<'_, PublishError> {
        Box::pin(async move { end_of_term(self.scribe.until_ended().await) })
    }
}

fn end_of_term(error: ScribeError) -> PublishError {
    match error {
        ScribeError::Fenced { .. } => PublishError::Fenced,
        other => PublishError::Ended(other.to_string().into()),
    }
}

fn alerts_key(partition: Partition) -> String {
    format!("alerts/{partition}")
}

fn dead_letters_key(partition: Partition) -> String {
    format!("dead-letters/{partition}")
}

fn encode(key: &str, reached: Reached) -> Vec<u8> {
    let position = reached.position.map(|Position { offset, epoch, n }| (offset, epoch, n));
    let mut value = vec![VERSION, 0, 0, 0, 0];
    // invariant: a shape of numbers is always written
    value.extend(postcard::to_stdvec(&ReachedV1 { n: reached.n, position }).unwrap_or_default());
    let checksum = checksum(key, &value[5..]);
    value[1..5].copy_from_slice(&checksum.to_le_bytes());
    value
}

fn decode(key: &str, value: &[u8]) -> Result<Reached, String> {
    let Some((&[VERSION, a, b, c, d], body)) = value.split_first_chunk::<5>() else {
        return Err(format!("is damaged: expected version {VERSION}, found {:?}", value.first()));
    };
    let (expected, found) = (u32::from_le_bytes([a, b, c, d]), checksum(key, body));
    if found != expected {
        return Err(format!("is damaged: expected checksum {expected:08x}, found {found:08x}"));
    }
    let ReachedV1 { n, position } = postcard::from_bytes(body).map_err(|error| format!("is damaged: {error}"))?;
    Ok(Reached { n, position: position.map(|(offset, epoch, n)| Position { offset, epoch, n }) })
}

/// Over the key as well, so that another partition's is damage.
fn checksum(key: &str, body: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(key.as_bytes());
    hash.update(body);
    hash.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_damage_is_told() {
        let here = Reached { n: 1 << 40, position: Some(Position { offset: 1 << 41, epoch: 7, n: 5 }) };
        for reached in [here, Reached { n: 3, position: None }, Reached::default()] {
            assert_eq!(decode("alerts/3", &encode("alerts/3", reached)), Ok(reached));
        }
        let value = encode("alerts/3", here);
        assert!(decode("alerts/4", &value).expect_err("another's").starts_with("is damaged: expected checksum"));
        assert!(decode("alerts/3", &value[..4]).expect_err("cut").starts_with("is damaged: expected version 1"));
        assert!(decode("alerts/3", b"").expect_err("none").ends_with("found None"));
    }
}
