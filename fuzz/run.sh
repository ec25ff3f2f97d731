#!/usr/bin/env bash
# Fuzzes every target, or those named, for so many seconds each. No input may crash xp, and none of
# up to 1 MB may take it over 1 GB or 10 seconds. An input that does is left in fuzz/artifacts.
#
#     fuzz/run.sh [--deep] SECONDS [TARGET...]
#
# Branches in xp's own code guide the search; with --deep (cargo-fuzz, a build of everything) those in
# its dependencies too.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
deep=
[ "${1:-}" = --deep ] && deep=yes && shift
seconds=$1
shift
targets=("$@")
((${#targets[@]})) || targets=(config metrics picture picture_manifest run_manifest weights)
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

# Without a sanitizer: these want a nightly compiler, and xp's unsafe code is not in what it reads.
cp Cargo.lock fuzz/Cargo.lock
if [ "$deep" ]; then
    command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --quiet
    (unset CARGO_TARGET_DIR && cargo fuzz build --sanitizer none)
    programs=$(echo "$root"/fuzz/target/*/release)
else
    RUSTC_WRAPPER=$root/fuzz/rustc CARGO_TARGET_DIR=$target_dir \
        cargo build --quiet --release --manifest-path fuzz/Cargo.toml
    programs=$target_dir/release
fi

# Inputs are handed to xp as files: in memory where the system has such a place.
work=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work
runs=$work/runs
rm -rf fuzz/seeds fuzz/dictionaries
XP_CACHE__DISK=false "$target_dir/release/xp" run configs/quickstart.toml --quiet \
    --set runs_dir="$runs" --set data.generate.per_class=4 --set data.image_size=32 >/dev/null
python3 fuzz/seeds.py "$runs"/*/

for target in "${targets[@]}"; do
    echo "== $target"
    [ -f "fuzz/dictionaries/$target" ] && dictionary=(-dict="fuzz/dictionaries/$target") || dictionary=()
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    "$programs/$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -max_total_time="$seconds" \
        -max_len=1048576 -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 -verbosity=0 -close_fd_mask=1 \
        -artifact_prefix="fuzz/artifacts/$target/" "${dictionary[@]}" 2>&1 |
        grep -vE '^(stat::(new_units|peak_rss|slowest)|Done|"|#)' | tail -30
done
