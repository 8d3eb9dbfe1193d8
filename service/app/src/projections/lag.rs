//! How far a projection of the whole journal is behind it.

use tokio::sync::watch;

/// How far the projection is behind; cheap to clone.
#[derive(Clone, Debug)]
pub struct Lag {
    durable: watch::Receiver<Vec<u64>>,
    reflected: watch::Receiver<Vec<u64>>,
}

impl Lag {
    /// For every partition the number of durable records, and the first that is not reflected.
    pub(super) const fn new(durable: watch::Receiver<Vec<u64>>, reflected: watch::Receiver<Vec<u64>>) -> Self {
        Self { durable, reflected }
    }

    /// Durable records that are not reflected yet.
    #[must_use]
    pub fn records(&self) -> u64 {
        let (durable, reflected) = (self.durable.borrow(), self.reflected.borrow());
        durable.iter().zip(reflected.iter()).map(|(end, next)| end.saturating_sub(*next)).sum()
    }

    /// For every partition the first record that is not reflected; changes as the projection advances.
    #[must_use]
    pub fn reflected(&self) -> watch::Receiver<Vec<u64>> {
        self.reflected.clone()
    }
}
