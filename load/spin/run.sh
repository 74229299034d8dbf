#!/bin/sh
# Checks the model of fence, stamp and late statements, and that it fails without either. Needs spin and a C compiler;
# without them it says so and skips. EPOCHS bounds how many epochs are given out (4: seconds; 6: longer).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
epochs=${EPOCHS:-4}
for tool in spin cc; do
  if ! command -v "$tool" >/dev/null 2>&1; then
    echo "skipped: $tool is not installed (Debian: spin, gcc)"
    exit 0
  fi
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# check <name> <expected: holds|violated> <definitions…>
check() {
  name=$1 expected=$2
  shift 2
  spin "$@" -a "$here/fence.pml" >/dev/null
  cc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c 2>/dev/null
  ./pan -m3000000 -w26 -E >out.txt 2>&1 || true
  states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out.txt)
  if grep -q 'errors: 0' out.txt && ! grep -q 'max search depth too small\|out of memory' out.txt; then
    found=holds
  elif grep -q 'assertion violated' out.txt; then
    found=violated
  else
    found='not decided'
  fi
  echo "$name: $found ($states states), as it must: $expected"
  if [ "$found" != "$expected" ]; then
    cat out.txt
    exit 1
  fi
}

check "fence and stamp, $epochs epochs" holds -DEPOCHS="$epochs"
check 'without a stamp' violated -DEPOCHS="$epochs" -DRESTAMP=0
check 'without a fence' violated -DEPOCHS="$epochs" -DFENCED=0
