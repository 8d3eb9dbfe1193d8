//! From a profile and an event to the feature vector.

use super::FeatureVector;

/// placeholder until the profile lands in the next commit
pub fn compute() -> Option<FeatureVector> {
    None
}
