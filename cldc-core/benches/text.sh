#!/usr/bin/env bash
# Prints the size of the core as a device would link it: a SmallSession with all its calls, optimised for size, unused
# code left out, for this machine's processor. Needs ld and size (binutils); without them, says so and succeeds.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v ld >/dev/null || ! command -v size >/dev/null; then
  echo "text: binutils are not installed: skipped"
  exit 0
fi
target=${CARGO_TARGET_DIR:-target}
cargo build -q -p cldc-core --profile embedded
out=$target/embedded/freestanding
mkdir -p "$out"
rustc --edition 2024 --crate-type staticlib -C panic=abort -C opt-level=s -C codegen-units=1 -C lto=fat --out-dir "$out" \
  --extern cldc_core="$target/embedded/libcldc_core.rlib" -L "$target/embedded/deps" cldc-core/benches/freestanding/session.rs
roots=$(printf ' -u %s' begin call datagram timeout transmit event)
# shellcheck disable=SC2086
ld -r --gc-sections $roots -o "$out/session.o" "$out/libsession.a"
size "$out/session.o"
# Not nm: Debian's cannot read the bitcode that rustc leaves beside the code.
symbols=$(objdump -t "$out/session.o")
echo "asks of its surroundings: $(awk '$2 == "*UND*" { print $NF }' <<<"$symbols" | sort | xargs)"
echo "ways to panic: $(grep -c ' F .*core9panicking' <<<"$symbols" || true)"
