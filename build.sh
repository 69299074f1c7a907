#!/usr/bin/env bash
# The one entry point. `./build.sh help` lists the commands; each installs what it needs and is missing.
set -euo pipefail
cd "$(dirname "$0")"

wasm_target=wasm32-unknown-unknown
wasm_builds='outcrop outcrop-cpu'
demo=models/demo/granite-demo-Q4_K_M.gguf
cache=${OUTCROP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/outcrop}
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}    # Mesa complains on each start where nobody is logged in

usage() {
  cat <<'TEXT'
./build.sh serve           build, then serve the page at http://127.0.0.1:8080 (PORT, HOST)
./build.sh test [part ..]  build, then run every test, or some parts: lint native tint web mutation
./build.sh build           www/ with the WebAssembly build in it: all a static host needs
./build.sh size            the download's size in bytes, plain and compressed
./build.sh bench [part]    prefill and decode speed: native, web or all; then perhaps a model.gguf
./build.sh bench gpu       tokens/s, share of the memory's speed and time of each step (--shape, --model, --prompt, --tokens, --json)
./build.sh bench cpu       the same of the CPU in Chromium, by threads, and memory (--model, --threads 1,2, --prompt, --tokens, --repeats, --json)
./build.sh bench wllama    our CPU path beside wllama's, in one browser, in turns (--model, --threads 1,2, --prompt, --tokens, --repeats, --json)
./build.sh bench llama     our CPU path beside llama.cpp's, both native, in turns (as above; --web FILE: what bench cpu wrote, beside them too)
./build.sh bench plan      what WebGPU is asked to do for a token, counted without a GPU (--shape, --model, --context, --prompt)
./build.sh bench load      from an address to the first token, cold and warm, beside wllama's loader (--model, --threads, --rate 40, --repeats, --json)
./build.sh bench soak      hundreds of downloads under faults, browsers that are killed, memory over time (--seeds, --kills, --full FILE, --flat MINUTES, --json)
./build.sh bench full      a file of h-micro's full size in Chromium on the GPU: cold and warm start, memory (perhaps another shape; --json)
./build.sh bench ort       our matrix products beside onnxruntime-web's, in one browser; perhaps --json FILE
./build.sh setup           only install what the above need
TEXT
}

# What the two WebAssembly builds differ in. Folders apart from each other and from native artefacts: other flags, perhaps another compiler.
choose_wasm() { # build
  local argument
  case $1 in
    outcrop) # WebGPU, and SIMD128 on one thread: for any browser
      wasm_dir=target/wasm wasm_slot=wasm wasm_features='' wasm_flags='-C target-feature=+simd128' ;;
    outcrop-cpu) # relaxed SIMD, and threads over one shared memory: for pages that are cross-origin isolated
      wasm_dir=target/wasm-cpu wasm_slot=cpu wasm_features=--no-default-features
      wasm_flags='-C target-feature=+simd128,+relaxed-simd,+atomics,+bulk-memory,+mutable-globals'
      for argument in --shared-memory --import-memory --max-memory=4294967296 --export=__{wasm_init_tls,tls_size,tls_align,tls_base}; do
        wasm_flags+=" -C link-arg=$argument"
      done ;;
  esac
}

say() { printf '\n== %s\n' "$*"; }
die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null; }

# ---------------------------------------------------------------------------------------------------------------------- setup

is_debian() { have apt-get && grep -qx 'ID=debian' /etc/os-release; }

# Installs Debian packages, or says which ones to install. Debian's archive carries one version of each, so none can be asked for.
apt_install() {
  [ $# -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "missing packages; as root: apt-get install --no-install-recommends $*"
  say "Installing $*"
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

has_rustup_wasm() { have rustc && [ -d "$(rustc --print sysroot)/lib/rustlib/$wasm_target/lib" ]; }
has_debian_wasm() { [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library ] && have wasm-ld-22; }

# Where WebAssembly is compiled: a toolchain with the target in it, or Debian's compiler, which comes with std's source instead.
setup_rust() {
  if ! has_rustup_wasm && ! has_debian_wasm; then
    if is_debian && [ "$(id -u)" = 0 ] && apt-get update -q && apt-cache show rustc-web lld-22 >/dev/null 2>&1; then
      apt_install rustc-web cargo-web rust-web-src lld-22
    elif have rustup; then
      rustup target add "$wasm_target"
    else
      die "no Rust compiler for $wasm_target: install rustup (https://rustup.rs) and run this again"
    fi
  fi
  # Threads need a std of their own.
  if has_rustup_wasm && have rustup && [ ! -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then rustup component add rust-src; fi
  have cargo || die "no cargo: install rustup (https://rustup.rs) and run this again"
  have cc || { is_debian && apt_install gcc libc6-dev; } || die "no C linker (cc): install a C compiler"
}

setup_node() {
  have node && have npm || die "no Node.js: install version 20 or newer (https://nodejs.org)"
  [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || die "Node.js $(node -v) is too old: 20 or newer is needed"
  # npm ci deletes and installs again, so it runs only when the lock file differs from the one that node_modules was made from.
  cmp -s package-lock.json node_modules/.installed-from && return
  say "Installing npm packages"
  npm ci
  cp package-lock.json node_modules/.installed-from
}

# wasm-bindgen's generator, built once a version and kept outside the clone.
setup_bindgen() {
  bindgen=$cache/wasm-bindgen-$(cat tools/wasm-bindgen/Cargo.{toml,lock} tools/wasm-bindgen/src/main.rs | cksum | cut -d' ' -f1)/bin/outcrop-wasm-bindgen
  [ -x "$bindgen" ] && return
  say "Building the wasm-bindgen generator"
  cargo install --quiet --locked --path tools/wasm-bindgen --target-dir target/wasm-bindgen --root "${bindgen%/bin/*}"
  rm -rf target/wasm-bindgen
}

setup_build() { setup_rust; setup_node; setup_bindgen; }

has_lavapipe() { compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null; }

# Browsers, and the software GPUs (Mesa's lavapipe; SwiftShader comes with Chromium) on which tests run anywhere.
setup_test() {
  local missing=()
  if is_debian; then
    have "${CHROMIUM:-chromium}" || missing+=(chromium)
    have "${FIREFOX:-firefox-esr}" || missing+=(firefox-esr)
    has_lavapipe || missing+=(mesa-vulkan-drivers)
    [ -n "$(ldconfig -p | grep libvulkan.so.1)" ] || missing+=(libvulkan1)
    apt_install ${missing[@]+"${missing[@]}"}
  fi
  cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy
}

# ---------------------------------------------------------------------------------------------------------------------- build

# cargo for the WebAssembly build that was chosen. RUSTC_BOOTSTRAP lets a stable compiler rebuild std, which is all it is used for: Debian
# brings none for this target, and nobody one with atomics.
wasm_cargo() { # subcommand, arguments ..
  local subcommand=$1 common=(--target "$wasm_target" --target-dir "$wasm_dir" $wasm_features "${@:2}")
  if ! has_rustup_wasm; then
    env -u RUSTUP_TOOLCHAIN RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-22 RUSTFLAGS="$wasm_flags" \
      /usr/bin/cargo "$subcommand" -Zbuild-std=std,panic_abort "${common[@]}"
  elif [ "$wasm_slot" = cpu ]; then
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=$wasm_flags cargo "$subcommand" -Zbuild-std=std,panic_abort "${common[@]}"
  else
    RUSTFLAGS=$wasm_flags cargo "$subcommand" "${common[@]}"
  fi
}

wasm_rustc_version() { if has_rustup_wasm; then rustc --version; else /usr/bin/rustc --version; fi; }

# One build: www/pkg/NAME.js and NAME_bg.wasm.
wasm() { # build
  local name=$1
  choose_wasm "$name"
  seed_from_cache "$wasm_dir" "$wasm_slot" "$(wasm_rustc_version)"
  say "WebAssembly: $name"
  # The pinned compiler's warnings are errors; those that a visitor's newer one invents are not.
  local lints=()
  if [ "${CI:-}" = true ] || ! has_rustup_wasm; then lints=(-- -D warnings); fi
  wasm_cargo rustc --profile wasm --lib --locked ${lints[@]+"${lints[@]}"}
  local compiled=$wasm_dir/$wasm_target/wasm/outcrop.wasm work=$wasm_dir/pkg made=www/pkg/${name}_bg.wasm
  [ "$compiled" -nt "$made" ] || [ "$bindgen" -nt "$made" ] || return 0
  rm -rf "$work"
  "$bindgen" "$compiled" "$work" "$name"
  node_modules/.bin/wasm-opt -O3 "$work/${name}_bg.wasm" -o "$work/optimised.wasm"
  mkdir -p www/pkg
  mv "$work/optimised.wasm" "$work/${name}_bg.wasm"
  mv "$work/${name}"* www/pkg/
}

build() {
  local name
  setup_build
  for name in $wasm_builds; do wasm "$name"; done
  # The page's one library: it is served as it was published, there is no bundler.
  mkdir -p www/vendor
  cp node_modules/marked/LICENSE www/vendor/marked.LICENSE
  cp node_modules/marked/lib/marked.esm.js www/vendor/
  cp node_modules/marked/lib/marked.d.ts www/vendor/marked.esm.d.ts
  node_modules/.bin/tsc --project tsconfig.types.json
  cmp -s "$demo" "www/$demo" || { mkdir -p "www/${demo%/*}" && cp "$demo" "www/$demo"; }
}

# A clean clone starts from a copy of the dependencies that an earlier one compiled. Only from dependencies: cargo tells the crate's own
# artefacts apart by modification time, and those of another clone may be newer than these sources and yet not made from them.
# Filled by CI only; elsewhere one clone's target folder serves.
cache_slot() { echo "$cache/deps-$1-${2//[^A-Za-z0-9.]/-}"; } # kind, compiler
seed_from_cache() { # folder, kind, compiler
  local from
  from=$(cache_slot "$2" "$3")
  [ ! -d "$1" ] && [ -d "$from" ] || return 0
  mkdir -p "$(dirname "$1")"
  rm -rf "$1.seed"
  if cp -a "$from" "$1.seed"; then mv "$1.seed" "$1"; else rm -rf "$1.seed"; fi
}
keep_in_cache() { # folder, kind, compiler
  local to new key
  to=$(cache_slot "$2" "$3") new=$cache/new-$$ key=$(cat Cargo.toml Cargo.lock build.sh | cksum)
  [ "$(cat "$to/key" 2>/dev/null)" != "$key" ] || return 0
  mkdir -p "$cache"
  cp -a "$1" "$new"
  find "$new" \( -name '*outcrop*' -o -path '*/incremental/*' -o -path '*/examples/*' -o -path '*/deps/*' -type f -executable ! -name '*.so' \) \
    -prune -exec rm -rf {} +
  echo "$key" >"$new/key"
  rm -rf "$cache/deps-$2-"*
  mv -T "$new" "$to"
}

# ----------------------------------------------------------------------------------------------------------------------- test

native_dir=${CARGO_TARGET_DIR:-target}/debug

# Runs one step of the tests: a heading, its output (kept for the search for skipped tests) and its time.
step() { # title, command ..
  local began=$SECONDS
  title=$1
  shift
  say "$title"
  # No `||` here: it would switch `set -e` off inside a function that is run as a step.
  "$@" 2>&1 | tee -a "$log"
  printf -- '-- %s: %d s\n' "$title" $((SECONDS - began))
}

run_tests() {
  local parts=" $* "
  [ $# -gt 0 ] || parts=' lint native tint web mutation '
  for part in $parts; do [[ ' lint native tint web mutation ' == *" $part "* ]] || die "no such part of the tests: $part"; done
  wants() { [[ $parts == *" $1 "* ]]; }
  setup_build
  setup_test
  mkdir -p target
  log=target/test.log
  : >"$log"
  trap '[ $? = 0 ] || printf "\nFAILED: %s\n" "${title:-setup}"' EXIT
  use_software_gpu
  seed_from_cache "$native_dir" native "$(rustc --version)"
  local began=$SECONDS

  if wants lint; then
    step 'Format' cargo fmt --check
    step 'Clippy' cargo clippy --locked --quiet --all-targets -- -D warnings
  fi
  if wants lint || wants web; then step 'Build' build; fi
  if wants lint; then step 'JavaScript types' node_modules/.bin/tsc --project tsconfig.json; fi
  if wants native; then step 'Full vocabulary' node tests/fixtures/text/make_vocab.mjs; fi
  if wants native; then step 'Native tests' cargo test --locked --quiet -- --show-output; fi
  if wants tint; then step 'Shaders in Tint' node tests/tint.mjs; fi
  if wants web; then
    step 'Size' node tests/size.mjs
    step 'Stand-in model' stand_in h-350m
    step 'Browsers' node --test --test-reporter=spec --test-concurrency=1 tests/browser/*.test.mjs
  fi
  if wants mutation; then step 'Mutations' node tests/mutation.mjs; fi
  check_nothing_skipped
  if [ "${CI:-}" = true ]; then
    keep_in_cache "$native_dir" native "$(rustc --version)"
    for name in $wasm_builds; do
      choose_wasm "$name"
      keep_in_cache "$wasm_dir" "$wasm_slot" "$(wasm_rustc_version)"
    done
  fi
  printf '\nAll tests passed in %d s.\n' $((SECONDS - began))
}

# A file with a published model's shapes and random weights, target/SHAPE.gguf.
stand_in() { # shape
  node tests/fixtures/text/make_vocab.mjs
  cargo run --locked --quiet --example stand_in -- --shape "$1" --vocab target/granite-vocab.gguf --out "target/$1.gguf"
}

# Vulkan's loader offers every driver it finds; the tests' bounds are those of one that every machine can have.
use_software_gpu() {
  if [ -z "${VK_ICD_FILENAMES:-}" ] && has_lavapipe; then
    VK_ICD_FILENAMES=$(compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' | head -n 1)
    export VK_ICD_FILENAMES
  fi
}

# A test that cannot run here says SKIPPED and why. For a visitor's machine that is good enough; for CI it is a failure.
check_nothing_skipped() {
  local skipped
  skipped=$(grep -E 'SKIPPED|skipped [1-9]|; [1-9][0-9]* ignored' "$log" || true)
  [ -n "$skipped" ] || return 0
  say 'Skipped'
  printf '%s\n' "$skipped"
  [ "${CI:-}" != true ] || die 'in CI no test may be skipped'
}

# ---------------------------------------------------------------------------------------------------------------------- bench

long_prompt=$(printf 'What is the capital of France, and which river runs through it? %.0s' {1..16})
long_answer='Count down from 60 to 21.'

bench() { # part, model or options
  case ${1:-} in
    plan) bench_plan "${@:2}"; return ;;
    gpu) bench_gpu "${@:2}"; return ;;
    cpu) bench_cpu tests/browser/bench-cpu.mjs "${@:2}"; return ;;
    wllama) bench_cpu bench/wllama.mjs "${@:2}"; return ;;
    load) bench_cpu bench/load.mjs "${@:2}"; return ;;
    soak) bench_soak "${@:2}"; return ;;
    llama) bench_llama "${@:2}"; return ;;
    ort) bench_ort "${@:2}"; return ;;
    full) bench_full "${@:2}"; return ;;
  esac
  local part=${1:-all} model=${2:-$demo}
  case $part in native | web | all) ;; *) die "no such benchmark: $part" ;; esac
  if [ "$part" != web ]; then bench_native "$model"; fi
  if [ "$part" != native ]; then
    build
    setup_test
    say "In Chromium: $model"
    node tests/browser/bench.mjs "$model" --prefill "$long_prompt" --decode "$long_answer"
  fi
}

bench_plan() { # options of examples/plan.rs
  setup_rust >&2
  cargo run --release --locked --quiet --example plan -- "$@"
}

# The machine's own GPU, or a software one, natively and in Chromium. --json FILE gets Chromium's report with the native one inside it.
bench_gpu() { # [--json FILE], options of examples/speed.rs and tests/browser/bench-gpu.mjs
  local json='' options=() work=target/bench
  while [ $# -gt 0 ]; do
    case $1 in
      --json) json=${2:?--json needs a file}; shift ;;
      *) options+=("$1") ;;
    esac
    shift
  done
  build
  setup_test
  mkdir -p "$work"
  say 'Native'
  cargo run --release --locked --quiet --example speed -- ${options[@]+"${options[@]}"} --json "$work/native.json"
  say 'In Chromium'
  node tests/browser/bench-gpu.mjs ${options[@]+"${options[@]}"} --json "$work/chromium.json"
  [ -z "$json" ] || node -e '
    const [chromium, native] = process.argv.slice(1).map((file) => JSON.parse(require("fs").readFileSync(file, "utf8")));
    console.log(JSON.stringify({ ...chromium, native }, null, 2));
  ' "$work/chromium.json" "$work/native.json" >"$json"
}

# Loads a file of a published model's size in Chromium on the GPU, cold and warm, asks it something and tells what memory that took.
bench_full() { # shape, options of tests/browser/full-size.mjs
  local shape=${1:-h-micro}
  build
  setup_test
  stand_in "$shape"
  node tests/browser/full-size.mjs "target/$shape.gguf" "${@:2}"
}

# A model on the CPU in Chromium: a stand-in of h-350m's shape, unless one is named.
bench_cpu() { # script, its options
  build
  setup_test
  [[ " $* " == *' --model '* ]] || stand_in h-350m
  node "$@"
}

# What takes too long for every change. A file of a published model's size is made if it is one of ours.
bench_soak() { # options of tests/browser/soak.mjs
  local stand_in='--full (target/(h-[a-z0-9]+)\.gguf)'
  build
  setup_test
  if [[ "$*" =~ $stand_in && ! -f ${BASH_REMATCH[1]} ]]; then stand_in "${BASH_REMATCH[2]}"; fi
  node tests/browser/soak.mjs "$@"
}

# llama.cpp, natively, in a Python of its own. Which instructions it uses is said outright: what it finds out by itself may be forbidden, as AMX
# is under some hypervisors.
bench_llama() { # options of bench/llama.py
  local llama=target/llama-cpp flags=''
  setup_rust
  [[ " $* " == *' --model '* ]] || { setup_node; stand_in h-350m; }
  if ! cmp -s bench/llama-requirements.txt $llama/.installed-from; then
    if is_debian; then
      local missing=()
      python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
      have g++ || missing+=(g++)
      apt_install ${missing[@]+"${missing[@]}"}
    fi
    case $(uname -m) in x86_64 | amd64) flags=$(printf ' -DGGML_%s=ON' AVX AVX2 FMA F16C BMI2) ;; esac
    say 'Building llama.cpp'
    rm -rf $llama
    python3 -m venv $llama
    CMAKE_ARGS="-DGGML_NATIVE=OFF$flags -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF" \
      $llama/bin/pip install --no-binary llama-cpp-python --requirement bench/llama-requirements.txt
    cp bench/llama-requirements.txt $llama/.installed-from
  fi
  cargo build --release --locked --quiet --example speed
  $llama/bin/python bench/llama.py --ours "${CARGO_TARGET_DIR:-target}/release/examples/speed" "$@"
}

bench_ort() { # options of bench/ort.mjs
  setup_rust
  setup_node
  cargo build --locked --quiet --example shaders
  node bench/ort.mjs "$@"
}

# Each backend reads a long prompt, then writes a long answer. The GPU is the machine's own, if it has one.
bench_native() { # model
  setup_rust
  cargo build --release --locked --quiet --example chat
  say "Native: $1"
  for backend in cpu gpu; do
    for prompt in "$long_prompt" "$long_answer"; do
      "${CARGO_TARGET_DIR:-target}/release/examples/chat" --model "$1" --backend $backend --max-tokens 128 --prompt "$prompt" 2>&1 >/dev/null | sed "s/^/$backend /"
    done
  done
}

# ----------------------------------------------------------------------------------------------------------------------- main

command=${1:-help}
[ $# = 0 ] || shift
case $command in
  setup) setup_build; setup_test ;;
  build) build ;;
  serve) build; exec node tests/browser/server.mjs ;;
  test) run_tests "$@" ;;
  size) build; node tests/size.mjs ;;
  bench) bench "$@" ;;
  help | -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
