//! Reads partitions of `verdict.profiles` on threads that may block.

use super::shape;
use crate::journal::checkpoint::ProfileSnapshot;
use crate::journal::{JournalError, Partition};
use crate::kafka::{Compacted, KafkaError, Small};
use futures_util::future::try_join_all;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Profiles, and bytes of them, that the thread hands over at a time; the largest profile has 700 KB.
const PAGE_PROFILES: usize = 1_024;
const PAGE_BYTES: usize = 256 << 10;

type Page = Result<Vec<ProfileSnapshot>, JournalError>;

fn failed(error: &KafkaError) -> JournalError {
    JournalError::Store(error.to_string().into())
}

/// The small records of these partitions, all at a time: each takes the brokers some hundred milliseconds.
pub(super) async fn small(
    profiles: Arc<Compacted>,
    partitions: Vec<Partition>,
) -> Result<Vec<(Partition, Small)>, JournalError> {
    let read = |partition: Partition| {
        let profiles = Arc::clone(&profiles);
        let read = tokio::task::spawn_blocking(move || profiles.small(partition));
        async move {
            let read = read.await;
            let read = read.map_err(|error| JournalError::Store(format!("the reader was stopped: {error}").into()))?;
            read.map(|small| (partition, small)).map_err(|error| failed(&error))
        }
    };
    try_join_all(partitions.into_iter().map(read)).await
}

/// The small records of one partition.
pub(super) async fn one(profiles: &Arc<Compacted>, partition: Partition) -> Result<Small, JournalError> {
    let small = small(Arc::clone(profiles), vec![partition]).await?;
    Ok(small.into_iter().map(|(_, records)| records).next().unwrap_or_default())
}

/// The same of several as far as they are committed for certain, whatever is under way there: before a take-over nobody
/// ends what a former owner has left.
pub(super) async fn so_far(
    profiles: Arc<Compacted>,
    partitions: Vec<Partition>,
) -> Result<Vec<(Partition, Small)>, JournalError> {
    let read = move || {
        let small = |partition: Partition| profiles.small_so_far(partition).map(|small| (partition, small));
        partitions.into_iter().map(small).collect::<Result<_, _>>().map_err(|error| failed(&error))
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| JournalError::Store(format!("the reader was stopped: {error}").into()))?
}

/// The newest of every profile of these partitions, of all of them at a time.
pub(super) fn profiles(
    profiles: Arc<Compacted>,
    partitions: Vec<Partition>,
) -> BoxStream<'static, Result<ProfileSnapshot, JournalError>> {
    let pages = async move {
        let (pages, read) = mpsc::channel(1);
        for partition in partitions {
            let (profiles, pages) = (Arc::clone(&profiles), pages.clone());
            drop(tokio::task::spawn_blocking(move || {
                if let Err(error) = read_partition(&profiles, partition, &pages) {
                    // Whoever has stopped reading has heard of another.
                    let _ = pages.blocking_send(Err(error));
                }
            }));
        }
        drop(pages);
        stream::unfold(read, async |mut read| Some((read.recv().await?, read)))
    };
    let pages = stream::once(pages).flatten();
    pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten().boxed()
}

/// Ends early when nobody reads any more.
fn read_partition(profiles: &Compacted, partition: Partition, pages: &mpsc::Sender<Page>) -> Result<(), JournalError> {
    let (mut page, mut bytes, mut damage) = (Vec::new(), 0, None);
    let read = profiles.large(partition, |key, value| {
        match shape::read_profile(partition, key, value) {
            Ok(profile) => {
                bytes += profile.bytes.len();
                page.push(profile);
            }
            Err(what) => {
                damage = Some(what);
                return ControlFlow::Break(());
            }
        }
        if page.len() < PAGE_PROFILES && bytes < PAGE_BYTES {
            return ControlFlow::Continue(());
        }
        bytes = 0;
        match pages.blocking_send(Ok(std::mem::take(&mut page))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    read.map_err(|error| failed(&error))?;
    if let Some(what) = damage {
        return Err(JournalError::DamagedSnapshot { topic: Arc::clone(profiles.topic()), what: what.into() });
    }
    if !page.is_empty() {
        // Whoever has stopped reading does not want the rest.
        let _ = pages.blocking_send(Ok(page));
    }
    Ok(())
}
