//! What bounds the events on their way (I7), and tells how many there are.

use std::sync::Arc;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Shared by the gateway, which takes them, and its shards. Each is given back by being dropped.
#[derive(Clone, Debug)]
pub struct Permits {
    free: Arc<Semaphore>,
    limit: usize,
    shards: usize,
}

impl Permits {
    /// So many events of so many shards may be on their way together.
    #[must_use]
    pub fn new(limit: usize, shards: u16) -> Self {
        Self { free: Arc::new(Semaphore::new(limit)), limit, shards: usize::from(shards).max(1) }
    }

    /// How many there are.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// How many are taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limit.saturating_sub(self.free.available_permits())
    }

    /// How many of them are a shard's, as users are spread evenly.
    pub(super) fn in_flight_a_shard(&self) -> usize {
        self.in_flight() / self.shards
    }

    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        Arc::clone(&self.free).try_acquire_owned()
    }

    pub(super) async fn wait(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.free).acquire_owned().await
    }

    /// Waits until all are back, and gives no more.
    pub(super) async fn drain(&self) {
        let drained = self.free.acquire_many(u32::try_from(self.limit).unwrap_or(u32::MAX)).await;
        self.free.close();
        drop(drained);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn what_is_taken_is_in_flight_until_it_is_dropped() {
        let permits = Permits::new(5, 2);
        let mut taken: Vec<_> = (0..5).map(|_| permits.take().expect("a permit")).collect();
        assert_eq!((permits.in_flight(), permits.in_flight_a_shard()), (5, 2));
        assert!(matches!(permits.take(), Err(TryAcquireError::NoPermits)));
        taken.truncate(1);
        assert_eq!((permits.in_flight(), permits.in_flight_a_shard()), (1, 0));
        taken.push(permits.wait().await.expect("a permit"));
        drop(taken);
        permits.drain().await;
        assert!(permits.wait().await.is_err() && matches!(permits.take(), Err(TryAcquireError::Closed)));
        assert_eq!(permits.in_flight(), 0);
    }
}
