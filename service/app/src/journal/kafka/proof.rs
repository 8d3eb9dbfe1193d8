//! Whether a position that was kept elsewhere is one of this topic. A database or a file may be older than the topic, or of
//! another one under the same name, and a reader that begins where another epoch is in force finds nothing. Blocking calls.
//!
//! Every position lies behind the entry that made it one: a record that counts, or an epoch's. That one entry is read.

use super::Shared;
use super::consumer::Pool;
use super::entry::Entry;
use crate::journal::{JournalError, Partition, Position};
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::Duration;

/// How long the brokers have to give an entry, and how often meanwhile is looked whether that is still wanted.
const LIMIT: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_millis(100);

/// Learns those of these positions that save a search and are borne out.
///
/// # Errors
/// The brokers do not answer.
pub(super) fn learn(
    shared: &Shared,
    pool: &Arc<Pool>,
    positions: &[(Partition, Position)],
) -> Result<(), JournalError> {
    for &(partition, position) in positions {
        if partition >= shared.partitions || !shared.places(partition).lacks(position) {
            continue;
        }
        if is_borne_out(shared, pool, partition, position)? {
            shared.places(partition).learn(position);
        } else {
            let (offset, n) = (position.offset, position.n);
            tracing::warn!(partition, offset, n, "what was kept as a place in the journal is none; it is looked for");
        }
    }
    Ok(())
}

fn is_borne_out(
    shared: &Shared,
    pool: &Arc<Pool>,
    partition: Partition,
    position: Position,
) -> Result<bool, JournalError> {
    let Some(before) = position.offset.checked_sub(1).and_then(|before| i64::try_from(before).ok()) else {
        return Ok(false);
    };
    let consumer = pool.lend()?;
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&shared.topic, partition.into(), Offset::Offset(before))
        .and_then(|()| consumer.assign(&list))
        .map_err(|error| JournalError::Store(consumer.settings().explain(&error).to_string().into()))?;
    let since = shared.clock.instant();
    while shared.clock.since(since) < LIMIT && !shared.is_closed() {
        match consumer.poll(WAIT) {
            Some(Ok(message)) => {
                let entry = Entry::parse(message.payload().unwrap_or_default(), partition, shared.partitions);
                return Ok(message.offset() == before && entry.is_ok_and(|entry| makes(&entry, position)));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(false),
            // The topic does not reach so far, or it was trimmed up to here.
            Some(Err(error)) if is_out_of_range(&error) => return Ok(false),
            // It goes on by itself, and the client has logged it.
            Some(Err(_)) | None => {}
        }
    }
    let what = format!("expected the entry before offset {} of partition {partition}, found none", position.offset);
    Err(JournalError::Store(what.into()))
}

fn is_out_of_range(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange))
}

/// Whether the position behind this entry can be that one.
fn makes(entry: &Entry<'_>, position: Position) -> bool {
    match *entry {
        Entry::Epoch { .. } => position.offset.checked_sub(1) == Some(position.epoch),
        Entry::Record { epoch, n, .. } => (epoch, Some(n)) == (position.epoch, position.n.checked_sub(1)),
    }
}
