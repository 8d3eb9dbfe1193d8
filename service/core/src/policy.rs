//! Policy: how model bands, the block list and fallbacks are declared by a rule set.

use crate::decision::Outcome;

/// What the score alone leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelBand {
    /// Scores strictly above it fall in the band.
    pub above: f64,
    /// What follows.
    pub outcome: Outcome,
    /// The reason code.
    pub code: Box<str>,
}

/// The answer while the user's profile cannot be had: its shard recovers, or its node is out of reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Fallback {
    /// Amounts strictly above it, in minor units of the base currency, get `outcome`.
    pub above_minor: i64,
    /// For larger amounts.
    pub outcome: Outcome,
    /// For all others.
    pub otherwise: Outcome,
}

/// The policy section of a rule set.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// From the highest threshold to the lowest.
    pub model_bands: Vec<ModelBand>,
    /// How long a blocked user stays on the block list, in milliseconds; `None` puts nobody there.
    pub block_user_ttl_ms: Option<i64>,
    /// See [`Fallback`].
    pub fallback: Fallback,
}

impl Default for Fallback {
    /// Reviews everything: without a declared policy nothing goes through unseen.
    fn default() -> Self {
        Self { above_minor: 0, outcome: Outcome::Review, otherwise: Outcome::Review }
    }
}

impl Default for Policy {
    /// No bands, nobody put on a list, every fallback a review.
    fn default() -> Self {
        Self { model_bands: Vec::new(), block_user_ttl_ms: None, fallback: Fallback::default() }
    }
}
