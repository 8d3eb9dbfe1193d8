//! The rule book: loads a rule set from its folder, compiles it, archives it by hash.
