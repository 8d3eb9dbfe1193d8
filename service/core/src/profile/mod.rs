//! The profile: everything Verdict remembers of one user, as a pure fold over the journal (I3).
