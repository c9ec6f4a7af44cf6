"""The systems we measure ourselves against, each a program of its own (docs/benchmarks.md)."""
