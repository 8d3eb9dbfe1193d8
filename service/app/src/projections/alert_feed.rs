//! Tells whoever follows along of alerts as they arrive: one read of the store for all of them.
//!
//! Reads the store after the projection has committed, never the journal and nothing that decides (I4). It keeps a bounded
//! number of arrivals for those who are slow, and waits for nobody; what they miss they read from the store.

use super::review_store::{ProjectionStore, ReviewError};
use crate::wire::alert::Arrival;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Arrivals that a follower may be behind: some seconds of a flood of alerts, about a megabyte in all.
pub const MAX_BEHIND: usize = 1_024;
/// Arrivals in one read.
const PAGE: u32 = 256;
const BACK_OFF: Duration = Duration::from_secs(1);

/// See the module.
pub struct AlertFeed {
    store: Arc<dyn ProjectionStore>,
    live: broadcast::Sender<Arc<Arrival>>,
    head: watch::Receiver<Option<i64>>,
    /// What arrived up to here is told; `None` before the store could be read.
    told: Option<i64>,
}

impl AlertFeed {
    /// A feed of what arrives in a store from now on, to everybody who subscribes to the channel.
    #[must_use]
    pub fn new(store: Arc<dyn ProjectionStore>, live: broadcast::Sender<Arc<Arrival>>) -> Self {
        let mut head = store.head();
        // Now, and not when it first runs: whoever subscribes before that has read the store.
        let told = *head.borrow_and_update();
        Self { store, live, head, told }
    }

    /// Follows the store until it is dropped.
    pub async fn run(mut self) {
        // The sender lives in the store, which this holds.
        while self.head.changed().await.is_ok() {
            let newest = *self.head.borrow_and_update();
            // Whoever subscribes from here on finds everything up to the newest in the store, and so does whoever was
            // there before the store could be read.
            let Some(mut told) = self.told.filter(|_| self.live.receiver_count() > 0) else {
                self.told = newest;
                continue;
            };
            while let Err(error) = self.tell(&mut told).await {
                tracing::warn!(%error, "alert streams are late");
                tokio::time::sleep(BACK_OFF).await;
            }
            self.told = Some(told);
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

#[cfg(test)]
mod tests {
    use super::super::review_store::contract::{alert, fill, reflect, subjects};
    use super::*;

    #[tokio::test]
    async fn followers_hear_of_what_arrives_once_they_listen() {
        // One kind will do: what a feed asks of a store is in the suite of both.
        let subject = subjects().await.remove(0);
        let store = &subject.store;
        fill(&**store, 3).await;
        let live = broadcast::Sender::new(8);
        let feed = AlertFeed::new(Arc::clone(store) as _, live.clone());
        // Before it first runs.
        let mut first = live.subscribe();
        reflect(&**store, &[alert(10, "u")], 4).await.expect("applies");
        let acting = async {
            assert_eq!(first.recv().await.expect("an arrival").seq, 4);
            // Two in one write, and nobody is told twice.
            let mut second = live.subscribe();
            reflect(&**store, &[alert(10, "u"), alert(11, "u"), alert(12, "u")], 6).await.expect("applies");
            for follower in [&mut first, &mut second] {
                let told = [follower.recv().await.expect("one").alert.transaction_id.clone(), {
                    follower.recv().await.expect("another").alert.transaction_id.clone()
                }];
                assert_eq!(told, ["t-0-11", "t-0-12"]);
            }
            drop((first, second));
            // What arrives while nobody listens is read from the store by whoever comes next.
            reflect(&**store, &[alert(13, "u")], 7).await.expect("applies");
            let mut head = store.head();
            tokio::task::yield_now().await;
            let mut third = live.subscribe();
            let place = store.place(None).await.expect("reads").expect("a place");
            reflect(&**store, &[alert(14, "u")], 8).await.expect("applies");
            head.changed().await.expect("the store is there");
            let next = loop {
                let arrival = third.recv().await.expect("an arrival");
                if arrival.seq > place {
                    break arrival;
                }
            };
            assert_eq!(next.alert.transaction_id, "t-0-14");
        };
        let both = async {
            tokio::select! {
                () = feed.run() => panic!("it follows until it is dropped"),
                () = acting => {}
            }
        };
        tokio::time::timeout(Duration::from_secs(30), both).await.expect("in time");
    }
}
