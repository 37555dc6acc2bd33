# All recipes that CI runs. `just` alone lists them.

set shell := ["bash", "-euo", "pipefail", "-c"]

libraries := "-p px-core -p px-types -p px-server -p px-client -p px-items"

# Lists the recipes.
default:
    @just --list --unsorted

# Runs everything that CI runs, one after the other.
ci: fmt words lint floats test sim-ci sabotage ledger docs features openapi package deps wasm

# Runs the demo: a bank and a reader of it.
demo *arguments:
    cargo run --bin demo -- {{ arguments }}

# Measures the README's two commands from a clean clone with an empty target folder.
first-minute:
    sh bench/first-minute.sh

# Checks the formatting.
fmt:
    cargo fmt --all -- --check

# Runs clippy on all targets, with all features and with none; warnings are errors.
lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    cargo clippy {{ libraries }} --all-targets --no-default-features -- -D warnings

# Checks names, comments and texts for words that CONTRIBUTING.md replaces. Quoted text does not count.
words:
    #!/usr/bin/env bash
    set -euo pipefail
    words='told|anew|whoever|whomever|breath|whose|trail|desk|verdict|puts? off|none any more|of which|by now'
    found=$(git ls-files '*.rs' '*.md' justfile | grep -v '^CHANGELOG.md$' | WORDS="$words" xargs perl -ne '
        $line = $_; s/"(?:[^"\\]|\\.)*"//g; s/`[^`]*`//g if $ARGV =~ /md$/;
        print "$ARGV:$.: $line" if /(?<![A-Za-z])(?:$ENV{WORDS})(?![a-z])/i && $ARGV ne "justfile";
        close ARGV if eof;')
    if [ -n "$found" ]; then
        echo "$found" >&2
        exit 1
    fi

# Checks that floats are used only in coordinates, in the readers that pass them on, and in ratios.
floats:
    #!/usr/bin/env bash
    set -euo pipefail
    found=$(git grep -nE '\bf(32|64)\b' -- '*.rs' ':!bench' \
        ':!px-types/src/model/location.rs' ':!px-types/src/wire.rs' ':!px-types/src/wire/buffered.rs' \
        ':!px-types/src/json/decode.rs' ':!px-types/src/tolerant/repair.rs' ':!examples/src/seed/names.rs' || true)
    if [ -n "$found" ]; then
        echo "forbidden floats:" >&2
        echo "$found" >&2
        exit 1
    fi
    echo "no floats in amounts of money"

# Runs all tests, including doctests.
test:
    cargo test --workspace --all-features

# Runs the simulation of the whole system with a number of seeds, over `memory`, `sqlite` or `postgres`. A failing seed prints how to replay it.
sim seeds="1000" store="memory" *arguments:
    cargo test --release -p px-items --all-features --test sim -- --seeds {{ seeds }} --store {{ store }} {{ arguments }}

# Runs the simulation over every store, with as many seeds as CI has time for.
sim-ci: (sim "200" "memory") (sim "20" "sqlite") (sim "10" "postgres")

# Runs the simulation with other seeds each night: `just sim-nightly 20000 $(date +%s)`.
sim-nightly seeds="20000" from="1000000":
    cargo test --release -p px-items --all-features --test sim -- --seeds {{ seeds }} --from {{ from }} --twice 100

# Tests with the ledger of a real bank, if it is beside the checkout: all its users are linked, and every
# Item must end idle and equal to the bank. The tests use every tenth user.
ledger:
    PX_LEDGER_EVERY=1 cargo test --workspace --all-features --test ledger -- --nocapture

# Runs the property tests with other cases than the usual ones; the printed seed replays a failure.
properties seed=`date +%s`:
    @echo "PROPTEST_RNG_SEED={{ seed }}"
    PROPTEST_RNG_SEED={{ seed }} cargo test --workspace --all-features --test it

# Prints the events of one seed of the simulation.
sim-replay seed *arguments:
    cargo test --release -p px-items --all-features --test sim -- --seed {{ seed }} --trace {{ arguments }}

# Checks that the simulation finds faults: the code is broken on purpose, in one way at a time, and a seed must fail.
sabotage seeds="100" store="memory":
    #!/usr/bin/env bash
    set -euo pipefail
    # Few banks issue a token again: for `revocation` all of them do.
    for what in merge fencing outbox unreadable refresh edges filing clock "revocation --habit reuses-tokens" set-aside; do
        cargo test --release -p px-items --all-features --test sim -- --sabotage $what --seeds {{ seeds }} --store {{ store }} --twice 0
    done

# Builds the documentation; warnings are errors.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps

# Checks every pair of features (installs cargo-hack).
features: (_cargo-tool "cargo-hack")
    cargo hack check {{ libraries }} --feature-powerset --depth 2

# Checks that the OpenAPI documents, the README's table and METRICS.md are up to date.
generated:
    cargo test --workspace --all-features --test it -- openapi:: metrics::

# Generates the OpenAPI documents, the README's table and METRICS.md.
generate:
    UPDATE=1 cargo test --workspace --all-features --test it -- openapi:: metrics::

# Checks the OpenAPI documents with an external validator (Python, installed into the target folder).
openapi:
    sh openapi/check.sh

# Checks that the libraries can be packaged.
package:
    cargo package {{ libraries }} --no-verify --allow-dirty

# Checks that forbidden dependencies are absent: a runtime in px-types, TLS in px-client, a second TLS library anywhere.
deps:
    #!/usr/bin/env bash
    set -euo pipefail
    absent() { # absent WHAT PATTERN cargo-tree arguments…
        local what=$1 pattern=$2; shift 2
        if cargo tree --edges normal --prefix none --format '{p}' "$@" | sort -u | grep -E "^($pattern) v"; then
            echo "$what: the crates above are forbidden dependencies" >&2
            exit 1
        fi
        echo "$what: ok"
    }
    absent "px-types without runtime and network" 'tokio|hyper|hyper-util|reqwest|mio|socket2' -p px-types --all-features
    absent "px-core without ports" 'tokio|http|bytes|rand|chrono|async-trait' -p px-core --no-default-features
    absent "px-core without Plaid Exchange" 'px-[a-bd-z].*' -p px-core --all-features
    absent "px-server without a C compiler unless enabled" 'aws-lc-rs|aws-lc-sys|ring|cc|jsonwebtoken' -p px-server
    absent "px-client without TLS" 'reqwest|hyper|rustls|tokio-rustls|native-tls|openssl|ring' -p px-client --all-features
    absent "px-client without a server without the feature bank" 'px-server|aws-lc-rs' -p px-client
    absent "px-items without stores and network unless enabled" 'sqlx|sqlx-core|libsqlite3-sys|reqwest|hyper|rustls|axum' -p px-items --no-default-features
    absent "one TLS, one HTTP stack" 'native-tls|openssl|openssl-sys|boring|isahc|ureq|curl' --workspace --all-features
    if cargo deny --version >/dev/null 2>&1; then
        # Without advisories, which need a database from the network.
        cargo deny --all-features check bans licenses sources
    else
        echo "cargo-deny is not installed: deny.toml was not checked (cargo install cargo-deny)"
    fi

# Builds px-types for WebAssembly, if that target is installed or can be installed.
wasm:
    #!/usr/bin/env bash
    set -euo pipefail
    target=wasm32-unknown-unknown
    installed() { [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; }
    installed || rustup target add "$target" >/dev/null 2>&1 || true
    if installed; then
        cargo check -p px-types --target "$target"
    else
        echo "skipped: the target $target is not installed and cannot be fetched here"
    fi

# Runs the fuzz targets with a fixed seed; outside CI also for a few seconds each, with a nightly compiler.
fuzz seconds="10":
    #!/usr/bin/env bash
    set -euo pipefail
    cargo test --workspace --all-features --test it -- smoke::
    if [ -n "${CI:-}" ]; then
        echo "in CI only the fixed seed, so that the result does not depend on chance"
        exit 0
    fi
    if ! cargo +nightly --version >/dev/null 2>&1; then
        echo "skipped: libFuzzer needs a nightly compiler (rustup toolchain install nightly)"
        exit 0
    fi
    just _cargo-tool cargo-fuzz
    # With the prebuilt standard library: AddressSanitizer finds little in code without `unsafe`.
    for target in decode path query token_request tolerant; do
        cargo +nightly fuzz run --sanitizer none --fuzz-dir fuzz "$target" -- -max_total_time={{ seconds }} -verbosity=0
    done

# Attacks the built demo bank and demo Plaid from one address of this machine with large sizes, and prints
# the results. `just test` does the same with small sizes. Needs 2,400 open files (`ulimit -n`).
attack:
    PX_ATTACK_LARGE=1 cargo test -p px-examples --all-features --test attack -- --nocapture

# Checks the pages of both sides in headless Chromium (installed with apt-get, as root) with axe-core.
browser: _axe
    #!/usr/bin/env bash
    set -euo pipefail
    if ! command -v chromedriver >/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null
        else
            echo "chromedriver is missing: install chromium and its driver" >&2
            exit 1
        fi
    fi
    cargo test -p px-examples --all-features --test browser -- --nocapture

# Takes the README's pictures again: goes through the tour and copies the screenshots (needs Chromium, like `browser`).
pictures: browser
    #!/usr/bin/env bash
    set -euo pipefail
    from="${CARGO_TARGET_DIR:-target}/screenshots"
    take() { cp "$from/tour-$1.png" "examples/pictures/$2.png"; }
    take desktop-04-consent consent
    take desktop-06-accounts application
    take desktop-09-connected-apps connected-apps
    take desktop-13-connect-from-the-bank connect-from-the-bank
    take desktop-15-activity activity
    take phone-09-connected-apps connected-apps-phone

# Runs the benchmarks and prints ratios within one run. `just bench --only decode`, `just bench --help`.
bench *arguments:
    cargo run --release -p px-bench -- {{ arguments }}

# Installs axe-core, which checks the accessibility of pages, into the target folder.
_axe:
    sh examples/tests/axe.sh

# Installs a cargo tool if it is missing.
_cargo-tool name:
    command -v {{ name }} >/dev/null || cargo install --locked {{ name }}
