//! The HTTP API of DESIGN 4.
