"""The parts of the benchmark runner `load-tests/run`. Standard library only, so that a fresh machine needs nothing."""
