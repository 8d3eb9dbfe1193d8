//! Shapes on the wire: JSON and CSV in, JSON and problem+json out; parsed once into core types.
