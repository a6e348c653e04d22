#!/usr/bin/env bash
# All that a machine with a GPU has to show, in under 10 minutes and without a network: the tests that need a device,
# the benchmarks of kernels and of training on it, what calls cost the host, and the CPU engine and products on 1 to 16
# threads, which such a machine has.
#
#   bench/gpu.sh [--python PYTHON] DIR [WHEELS]
#
# DIR takes a log of each step, JSON and tables. WHEELS is a folder that bench/gpu_wheels.sh has filled; without one pip
# asks its index. They go into an environment of their own, which sees what the machine's python3 has (CuPy, PyTorch and
# JAX, where they are). With --python nothing is installed: that Python has all that it takes.
#
# Each step has a time limit. The last lines say what failed; the exit status is 0 if nothing did, 1 if a step did, 2
# where there is no device, which stops it before anything is measured.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

usage() {
    echo "usage: bench/gpu.sh [--python PYTHON] DIR [WHEELS]" >&2
    exit 2
}

step() {  # step NAME SECONDS COMMAND...: run it within its time, its output into DIR/NAME.log
    local name=$1 limit=$2 start=$SECONDS status=0 result=ok
    shift 2
    timeout --kill-after=5 "$limit" "$@" >"$dir/$name.log" 2>&1 </dev/null || status=$?
    [ "$status" = 0 ] || { result="FAILED with status $status" && failed=1; }
    [ "$status" = 124 ] && result="FAILED: its $limit s are over"
    printf '%-12s %s, %d s\n' "$name:" "$result" $((SECONDS - start)) | tee -a "$dir/summary.txt"
    return "$status"
}

stop() {  # stop STATUS: the end of a run that cannot go on, with the last line of the last step
    tail -n 1 "$dir/$2.log" | tee -a "$dir/summary.txt"
    exit "$1"
}

machine() {
    uname -srm
    grep -m 1 'model name' /proc/cpuinfo
    nproc
    command -v nvidia-smi && nvidia-smi
    git -C "$root" log -1 --format='commit %h'
    true
}

cuda_extra() {  # CuPy's extra: that of the wheels, or for this driver; none where CuPy is there already
    "$python" -c 'import cupy' >/dev/null 2>&1 && return
    local release
    for release in 12 13; do
        [ -n "$wheels" ] && compgen -G "$wheels/cupy_cuda${release}x-*" >/dev/null && echo ",cuda$release" && return
    done
    case $(nvidia-smi 2>/dev/null | grep -o 'CUDA Version: [0-9]*') in
        *1[3-9]) echo ,cuda13 ;;
        *) echo ,cuda12 ;;
    esac
}

environment() {  # an environment that sees the packages of the machine's python3
    python3 -m venv "$scratch/venv" || return
    python3 -c 'import site; print("\n".join(site.getsitepackages()))' >"$("$python" -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))')/machine.pth"
}

install() {
    local source=()
    [ -z "$wheels" ] || source=(--no-index --find-links "$wheels")
    "$python" -m pip install -q --disable-pip-version-check "${source[@]}" -e "$root[test,bench,gpu$(cuda_extra)]"
}

python=$scratch/venv/bin/python own=1
if [ "${1:-}" = --python ]; then
    [ $# -ge 2 ] || usage
    python=$(command -v "$2") || { echo "bench/gpu.sh: error: --python: there is no $2" >&2 && exit 2; }
    python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") own=0
    shift 2
fi
[ $# -ge 1 ] && [ $# -le 2 ] || usage
mkdir -p "$1" && dir=$(cd "$1" && pwd) || exit 2
wheels=
if [ $# = 2 ]; then
    wheels=$(cd "$2" && pwd) || exit 2
fi
: >"$dir/summary.txt"
cores=$(nproc)
export PYTHONUNBUFFERED=1 root wheels scratch python
export -f machine cuda_extra environment install
cd "$root" || exit 2

# All limits together, those of matmul five times, are less than 600 s.
step machine 10 bash -c machine
if [ "$own" = 1 ]; then
    step environment 15 bash -c environment || stop 1 environment
    step install 75 bash -c install || stop 1 install
fi
step device 15 "$python" -c 'from fastnn import backends; print(backends.state("cuda"))
backends.require("cuda")' || stop 2 device

calls='^(relu|matmul|linear|linear_backward|linear_rmsprop_step|adam_step|conv2d|lstm) '
step tests 130 "$python" -m pytest -m gpu -p no:cacheprovider -n $((cores < 8 ? cores : 8)) --junitxml="$dir/tests.xml"
step kernels 90 "$python" -m fastnn bench kernels --backend cuda --quick --seconds 70 --json "$dir/kernels.json"
step training 75 "$python" -m fastnn bench training --backend cuda --quick --seconds 50 --json "$dir/training.json"
step calls 15 "$python" -m fastnn bench calls --only "$calls" --json "$dir/calls.json"
step warmup 35 "$python" -c 'import fastnn; fastnn.warmup(["float32"])'
export FASTNN_NUM_THREADS=$((cores < 16 ? cores : 16))
step engine 55 "$python" -m fastnn bench scaling threads mnist fashion wide reuters --quick --output "$dir/engine"
products='^matmul (128x784x512|512x512x512|2048x2048x2048)$'
for threads in 1 2 4 8 16; do
    [ "$threads" -gt "$cores" ] && continue
    step "matmul-$threads" 16 "$python" -m fastnn bench kernels --quick --only "$products" \
        --threads "$threads" --json "$dir/matmul-$threads.json"
done

grep FAILED "$dir/summary.txt" || echo "nothing failed"
exit "$failed"
