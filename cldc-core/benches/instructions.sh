#!/usr/bin/env bash
# Prints what a request and its answer cost the client, in instructions, beside the digests of the same bytes; and the
# size of the code. Needs valgrind; without it, says so and succeeds.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v valgrind >/dev/null; then
  echo "instructions: valgrind is not installed: skipped"
  exit 0
fi
program=$(cargo bench -q -p cldc-core --bench instructions --no-run --message-format=json |
  sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

count() { # KIND FUNCTIONS: instructions in them, all rounds together
  valgrind --tool=callgrind --callgrind-out-file="$scratch/out" --toggle-collect="*$2*" "$program" "$1" \
    >"$scratch/line" 2>/dev/null
  sed -n 's/^totals: \([0-9]*\).*/\1/p' "$scratch/out"
}

echo "| request | packets | bytes | instructions | HMAC-SHA1 alone |"
echo "|---|---:|---:|---:|---:|"
"$program" | while read -r kind; do
  client=$(count "$kind" counted_client)
  digests=$(count "$kind" counted_digests)
  read -r rounds packets bytes <"$scratch/line"
  echo "| $kind | $packets | $bytes | $((client / rounds)) | $((digests / rounds)) |"
done

text=$(nm -S -t d "$program" | awk '
  $3 ~ /^[tTwW]$/ && $4 ~ /cldc_core|4hmac|4sha1|6digest|8heapless|3nom/ && $4 !~ /12instructions/ { sum += $2 } END { print sum }')
echo
echo "Code of the core and the crates beneath it, as linked into this program (FullSession): $text bytes."
