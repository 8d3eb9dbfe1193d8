//! The invariants as pure predicates.
