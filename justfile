# Recipes for working on xp. `just ci` is exactly what .ci/run runs.

set shell := ["bash", "-euo", "pipefail", "-c"]

# List the recipes
default:
    @just --list

# Everything that must pass
[group('check')]
ci: fmt lint test docs release quickstart

# Formatting
[group('check')]
fmt:
    cargo fmt --check

# Lints
[group('check')]
lint:
    cargo clippy --all-targets --locked -- -D warnings
    ! grep -rnE 'todo!\(|unimplemented!\(|dbg!\(|FIXME' --include='*.rs' src tests benches

# The README's test command
[group('check')]
test:
    cargo test

# Documentation builds without warnings
[group('check')]
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

# The binary that people use, and its size and start-up time
[group('check')]
release:
    cargo build --release --locked
    test "$(stat -c %s "${CARGO_TARGET_DIR:-target}/release/xp")" -lt 40000000

# The README's first command, twice: transferred and from random weights
[group('check')]
quickstart: release
    tests/quickstart.sh

# Compare with PyTorch on real pictures (needs ../shared and a Python with torch in PARITY_PYTHON)
[group('measure')]
parity:
    cargo test --release --locked parity -- --nocapture

# Accuracy on real pictures, three seeds (needs ../shared)
[group('measure')]
accuracy: release
    tests/accuracy.sh

# Redraw the accepted snapshots after reading their differences
[group('maintain')]
snapshots:
    INSTA_UPDATE=always cargo test --locked
