//! Projections: readers of the journal with their own positions (I4).
