#!/bin/sh
# Measures the README's two commands from a clean clone with an empty target folder: the time to the
# demo's first line, and the time of all tests, their build included. Prints both, and fails beyond
# 4 and 12 minutes. Uses crates that cargo has downloaded before.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone --quiet . "$folder/clone"
# Tests that use a real ledger look for it beside the clone, as beside the checkout.
if [ -d ../shared ]; then ln -s "$(cd ../shared && pwd)" "$folder/shared"; fi
cd "$folder/clone"
unset CARGO_TARGET_DIR
cargo fetch --quiet --locked

now() { date +%s; }
minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

begin=$(now)
cargo run --quiet --bin demo | {
    IFS= read -r line
    end=$(now)
    echo "$line"
    echo $((end - begin)) >"$folder/demo"
    cat >/dev/null
}
demo=$(cat "$folder/demo")
echo "first line of the demo: $(minutes "$demo") (at most 4 min)"

begin=$(now)
cargo test --quiet --workspace --all-features >"$folder/tests" 2>&1 || { tail -n 60 "$folder/tests"; exit 1; }
tests=$(($(now) - begin))
echo "all tests, build included: $(minutes "$tests") after the demo (at most 12 min with the demo's build)"
[ "$demo" -le 240 ] && [ $((demo + tests)) -le 720 ]
