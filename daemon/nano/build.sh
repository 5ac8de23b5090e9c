#!/bin/sh
# Makes the Nano model from nothing: environment, corpus, tokenizer, training, measurements, export.
# usage: daemon/nano/build.sh [setup|data|heldout|projects|first|bigger|train|export|reproduce|all] [--until HH:MM]     (another edition: NANO_CONFIG=file)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=$(cd "$here/../.." && pwd)/.tools
python=$tools/nano/bin/python
reader=$tools/nano-mlx/bin/python
work=${NANO_WORK:-$tools/nano-data}
what=${1:-all}
[ $# -gt 0 ] && shift

# Sleeping instead of spinning threads, so that other work on the machine is not starved.
export OMP_WAIT_POLICY=PASSIVE KMP_BLOCKTIME=0 GOMP_SPINCOUNT=0 PYTHONHASHSEED=0
# Activations in huge pages that are kept, since asking for pages anew each time costs a quarter of a step.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=134217728

setup() {
    [ -x "$python" ] || python3 -m venv "$tools/nano"
    "$python" -m pip install --quiet -r "$here/requirements.txt"
    [ -x "$reader" ] || python3 -m venv "$tools/nano-mlx"
    "$reader" -m pip install --quiet -r "$here/requirements-mlx.txt"
}

data() {
    mkdir -p "$work"
    "$python" "$here/fetch.py"
    "$python" "$here/data.py"
    "$python" "$here/sources_page.py"
    "$python" "$here/tokens.py"
}

# Only the packages that no training sees, for `demolish bench nano`: two minutes in the place of the whole corpus.
heldout() {
    NANO_WORK=${NANO_WORK:-$tools/heldout}
    export NANO_WORK
    mkdir -p "$NANO_WORK"
    [ -x "$NANO_WORK/python/bin/python" ] || python3 -m venv "$NANO_WORK/python"
    "$NANO_WORK/python/bin/python" "$here/fetch.py" --held-out
    "$NANO_WORK/python/bin/python" "$here/data.py" --held-out
    cd "$NANO_WORK/corpus"
    sha256sum --check --quiet "$here/heldout.sha256" || {
        echo "other packages than those that were measured: figures are not comparable with the card's" >&2
        exit 1
    }
}

# The packages of `heldout` and others, as projects that language servers can open: for `demolish bench replay` and `bench steer`.
projects() {
    NANO_WORK=${NANO_WORK:-$tools/heldout}
    export NANO_WORK
    mkdir -p "$NANO_WORK"
    [ -x "$NANO_WORK/python/bin/python" ] || python3 -m venv "$NANO_WORK/python"
    "$NANO_WORK/python/bin/python" "$here/projects.py"
}

# The first edition, as the history of the repository has it, to compare with.
first() {
    mkdir -p "$tools/first.new"
    git -C "$here/../.." archive --output "$tools/first.new/all.tar" 2f3feb9e835d01f7b261e22a7ed99f652b77ac9f:daemon/nano/model
    tar -x -C "$tools/first.new" -f "$tools/first.new/all.tar"
    rm "$tools/first.new/all.tar"
    mv "$tools/first.new" "$tools/first"
}

# A bigger model that others have trained, to compare with: `demolish bench nano --model .tools/bigger`.
bigger() {
    [ -x "$reader" ] || setup
    "$reader" "$here/bigger.py" "$tools/bigger"
}

export_model() {
    "$python" "$here/evaluate.py"
    "$python" "$here/curve.py"
    "$python" "$here/export.py"
    "$python" "$here/parity.py"
    "$reader" "$here/verify_mlx.py" "$work/float" --parity "$work/parity.npz"
    "$reader" "$here/verify_mlx.py" "$here/model"
}

case $what in
setup) setup ;;
data) data ;;
heldout) heldout ;;
projects) projects ;;
first) first ;;
bigger) bigger ;;
train) nice -n 5 "$python" "$here/train.py" "$@" ;;
export) export_model ;;
reproduce) # the first 100 steps, twice: the weights must be the same to the bit
    first=$("$python" "$here/train.py" --digest 100 | tail -n 1)
    second=$("$python" "$here/train.py" --digest 100 | tail -n 1)
    echo "$first"
    [ "$first" = "$second" ] || { echo "the second time: $second" >&2; exit 1; }
    ;;
all)
    setup
    data
    nice -n 5 "$python" "$here/train.py" "$@"
    export_model
    ;;
*)
    sed -n '3p' "$0" >&2
    exit 2
    ;;
esac
