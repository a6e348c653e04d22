"""The tests on ARM64 Linux, emulated."""
