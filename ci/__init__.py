"""What continuous integration runs: ``perf_gate`` and its baseline, and the steps behind ``.ci/run``."""
