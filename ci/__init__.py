"""What continuous integration runs: ``perf_gate`` and its two sides, and the steps behind ``.ci/run``."""
