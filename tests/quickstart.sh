#!/usr/bin/env bash
# The README's first command, against the same run from random weights: transfer must be visibly
# better, and done within a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
xp="${CARGO_TARGET_DIR:-target}/release/xp"
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
export XP_CACHE__DISK=false

accuracy() { # runs one variant and prints its test accuracy in percent
    "$xp" run configs/quickstart.toml --quiet --json --set runs_dir="$runs" "$@" |
        grep -o '"test_accuracy":[0-9.]*' | awk -F: '{ printf "%.0f", 100 * $2 }'
}

started=$SECONDS
transferred=$(accuracy)
took=$((SECONDS - started))
random=$(accuracy --set model.weights=none)
echo "quickstart: $transferred % transferred in $took s, $random % from random weights"
((took < 60)) || { echo "the quickstart took a minute or more" >&2; exit 1; }
((transferred >= random + 10)) || { echo "transfer is not visibly better" >&2; exit 1; }
