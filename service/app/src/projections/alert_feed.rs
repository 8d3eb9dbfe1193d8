//! Tells whoever follows along of alerts as they arrive: one read of the store for all of them.
//!
//! Reads the store after the projection has committed, never the journal and nothing that decides (I4). It keeps a bounded
//! number of arrivals for those who are slow, and waits for nobody; what they miss they read from the store.

use super::review_store::{ReviewError, ReviewStore};
use crate::wire::alert::Arrival;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Arrivals that a follower may be behind: some seconds of a flood of alerts, about a megabyte in all.
pub const MAX_BEHIND: usize = 1_024;
/// Arrivals in one read.
const PAGE: u32 = 256;
const BACK_OFF: Duration = Duration::from_secs(1);

/// See the module.
pub struct AlertFeed {
    store: Arc<ReviewStore>,
    live: broadcast::Sender<Arc<Arrival>>,
}

impl AlertFeed {
    /// A feed of a store to everybody who subscribes to the channel.
    #[must_use]
    pub const fn new(store: Arc<ReviewStore>, live: broadcast::Sender<Arc<Arrival>>) -> Self {
        Self { store, live }
    }

    /// Follows the store until it is dropped.
    pub async fn run(self) {
        let mut head = self.store.head();
        let mut told = *head.borrow_and_update();
        // The sender lives in the store, which this holds.
        while head.changed().await.is_ok() {
            let newest = *head.borrow_and_update();
            if self.live.receiver_count() == 0 {
                // Whoever subscribes from here on finds everything up to the newest in the store.
                told = newest;
                continue;
            }
            while let Err(error) = self.tell(&mut told).await {
                tracing::warn!(%error, "alert streams are late");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }

    async fn tell(&self, told: &mut i64) -> Result<(), ReviewError> {
        loop {
            let arrivals = self.store.arrived(*told, PAGE).await?;
            let last_page = arrivals.len() < PAGE as usize;
            for arrival in arrivals {
                *told = arrival.seq;
                // Without a receiver there is nobody to tell.
                let _ = self.live.send(Arc::new(arrival));
            }
            if last_page {
                return Ok(());
            }
        }
    }
}
