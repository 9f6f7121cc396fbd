#!/usr/bin/env bash
# Builds libcldc_bare: one object file that holds the calls of cldc.h and needs no C library, and prints its sizes.
#
#   build-bare.sh OUT [CARGO ARGUMENTS]
#
# writes OUT/cldc_bare.o and OUT/libcldc_bare.a. Arguments for cargo such as `--target thumbv7m-none-eabi` follow; then
# LD, OBJCOPY, AR, OBJDUMP and SIZE name the tools of that target. Fails if the library can panic, or asks for more than the five
# functions of memory, or is larger than 48 KiB (CLD_MAX_TEXT) of code.
set -euo pipefail
out=$(realpath -m "${1:?usage: build-bare.sh OUT [CARGO ARGUMENTS]}")
shift
cd "$(dirname "$0")/.."
max_text=${CLD_MAX_TEXT:-49152}
ld=${LD:-ld} objcopy=${OBJCOPY:-objcopy} ar=${AR:-ar}

# Features unify in a target folder that is shared with others: this one has its own.
export CARGO_TARGET_DIR=${CLD_BARE_TARGET_DIR:-${CARGO_TARGET_DIR:-$PWD/target}/bare}
# No vector registers, and no look at what the processor has: kernels allow neither.
export RUSTFLAGS="${RUSTFLAGS:-} --cfg sha1_backend=\"soft\""
archive=$(cargo rustc -q -p cldc-ffi --lib --crate-type staticlib --profile bare --no-default-features "$@" \
  --message-format=json-render-diagnostics | sed -n 's/.*"filenames":\["\([^"]*libcldc\.a\)"\].*/\1/p' | tail -n 1)

mkdir -p "$out"
# What the headers declare: a program may leave out any of it, and gets what it uses.
symbols=$(sed -n '/^#ifndef CLDC_BARE/,/^#endif/d; s/^[a-z].*[ *]\(cldc\?_[a-z0-9_]*\)(.*/\1/p' cldc-ffi/include/cldc.h)
# shellcheck disable=SC2046
"$ld" -r --gc-sections $(printf ' -u %s' $symbols) -o "$out/cldc_bare.o" "$archive"
# shellcheck disable=SC2046
"$objcopy" --strip-debug $(printf ' --keep-global-symbol=%s' $symbols) -R .comment -R .llvmbc -R .llvmcmd \
  -R .note.GNU-stack "$out/cldc_bare.o"
rm -f "$out/libcldc_bare.a"
"$ar" rcs "$out/libcldc_bare.a" "$out/cldc_bare.o"

# Not nm: Debian's cannot read the bitcode that rustc may leave beside the code.
table=$("${OBJDUMP:-objdump}" -t "$out/cldc_bare.o")
wanted=$(awk '$2 == "*UND*" && $NF != "" { print $NF }' <<<"$table" | sort -u | xargs)
panics=$(grep -c 'core9panicking' <<<"$table" || true)
sections=$("${SIZE:-size}" -A "$out/cldc_bare.o")
sum() { awk -v kind="^[.]($1)" '$1 ~ kind { sum += $2 } END { print sum + 0 }' <<<"$sections"; }
text=$(sum text) rodata=$(sum rodata) data=$(sum 'data|bss')
echo "text $text bytes, rodata $rodata bytes, data and bss $data bytes"
echo "needs: $wanted"
fail() {
  echo "build-bare.sh: $*" >&2
  exit 1
}
for name in $wanted; do
  case $name in
    memcpy | memmove | memset | memcmp | bcmp) ;;
    *) fail "the library needs $name, which a freestanding program does not have" ;;
  esac
done
[ "$panics" = 0 ] || fail "the library has $panics ways to panic"
[ "$text" -le "$max_text" ] || fail "the code has $text bytes, and $max_text are allowed"
