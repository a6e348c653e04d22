#!/usr/bin/env bash
# Fill a folder with the wheels that bench/gpu.sh installs on a machine without a network:
#
#   bench/gpu_wheels.sh WHEELS [cuda12 | cuda13]
#
# CuPy is left out where neither is named, for a machine that has it. To be run by a python3 of that machine's version,
# on its kind of system and processor.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
case "${2:-none}" in
    none) extra= ;;
    cuda12 | cuda13) extra=,$2 ;;
    *) extra=unknown ;;
esac
if [ $# -lt 1 ] || [ "$extra" = unknown ]; then
    echo "usage: bench/gpu_wheels.sh WHEELS [cuda12 | cuda13]" >&2
    exit 2
fi
mkdir -p "$1"
python3 -m pip wheel -q --disable-pip-version-check -w "$1" "$root[test,bench,gpu$extra]" 'setuptools>=77'
rm -f "$1"/fastnn_kernels-*.whl  # the checkout itself is installed there
du -sh "$1"
