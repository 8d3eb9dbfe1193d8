//! Configuration: one TOML file and the environment, read once, validated whole.
