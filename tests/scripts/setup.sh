#!/usr/bin/env bash
# Makes a fresh Debian machine able to build, test and show Verdict: what the compiler needs, Python, and the ONNX
# Runtime library. As root it installs what is missing; otherwise it says what to install. Does nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev) # SQLite is compiled from its source
# librdkafka is compiled from its source, against the system's OpenSSL.
command -v c++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
command -v pkg-config >/dev/null || missing+=(pkg-config)
pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
command -v python3 >/dev/null || missing+=(python3 python3-pip)
if command -v python3 >/dev/null && ! python3 -m pip --version >/dev/null 2>&1 \
    && ! python3 tests/scripts/onnxruntime.py --check; then
    missing+=(python3-pip)
fi

if ((${#missing[@]})); then
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "missing: ${missing[*]}; install with: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# rustup takes the version from rust-toolchain.toml by itself; a distribution's own Rust is as it is, and mostly too old.
wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
advice="install Rust with rustup (https://rustup.rs), which takes $wanted from rust-toolchain.toml"
if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    echo "missing: cargo and rustc; $advice" >&2
    exit 1
fi
if ! found=$(rustc --version 2>&1); then
    echo "rustc does not run: $found; $advice" >&2
    exit 1
fi
found=$(awk '{print $2}' <<<"$found")
if [[ $(printf '%s\n' "$wanted" "${found%%-*}" | sort --version-sort | head -n 1) != "$wanted" ]]; then
    echo "expected Rust $wanted or newer, found $found at $(command -v rustc); $advice, and have its cargo come first in PATH" >&2
    exit 1
fi

python3 tests/scripts/onnxruntime.py
