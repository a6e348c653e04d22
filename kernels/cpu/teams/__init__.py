"""Threads that run one compiled function together."""
