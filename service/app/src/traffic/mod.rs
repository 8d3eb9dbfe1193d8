//! Synthetic traffic with labelled fraud, event by event, from a seed.
