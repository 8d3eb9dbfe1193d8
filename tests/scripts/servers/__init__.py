"""Kafka, PostgreSQL and Redis as plain processes: installed, started, steered and stopped. Only the standard library."""


class Trouble(Exception):
    """What stops a command, told in full to whoever ran it."""
