#!/bin/sh
# Sets rowmill up in .venv; make calls it: `sh bootstrap.sh run`, or `dev` for the tests and tools too.
# By uv where there is one, else by the uv that pip brings into .venv, else by pip alone.
set -eu
cd "$(dirname "$0")"
log=.rowmill/setup.log
turn=.rowmill/setup.turn
needs="rowmill needs CPython 3.11, 3.12 or 3.13"

fail() {
  echo "$1" >&2
  exit 1
}

fail_by_log() {
  tail -n 5 "$log" >&2
  fail "The set-up failed and $log says why: mend that, then repeat the command."
}

has_uv() {
  uv --version >/dev/null 2>&1
}

# Prints such as "CPython 3.12.4", or nothing for a Python that does not run.
version_of() {
  "$1" -c 'import platform; print(platform.python_implementation(), platform.python_version())' 2>/dev/null || true
}

is_supported() {
  case $(version_of "$1") in
    "CPython 3.11."* | "CPython 3.12."* | "CPython 3.13."*) ;;
    *) return 1 ;;
  esac
}

check_platform() {
  platform="$(uname -s) $(uname -m)"
  if ldd --version 2>&1 | grep -qi musl; then platform="$platform with musl"; fi
  case $platform in
    "Linux x86_64" | "Linux aarch64" | "Darwin arm64") return ;;
  esac
  mend='docker run -it -v "$PWD:/rowmill" -w /rowmill python:3.13 make run'
  fail "TensorFlow is built for Linux x86_64 or aarch64 with glibc and for macOS arm64, not for $platform: try \`$mend\`."
}

# Sets python to the first supported Python, or to nothing; then found tells of the others.
find_python() {
  python=${ROWMILL_PYTHON:-} found=''
  if [ -n "$python" ]; then
    is_supported "$python" && return
    found=$(version_of "$python")
    fail "$needs, but ROWMILL_PYTHON=$python is ${found:-no Python that runs}: name another one or \`unset ROWMILL_PYTHON\`."
  fi
  for python in python3.13 python3.12 python3.11 python3 python; do
    is_supported "$python" && return
    version=$(version_of "$python")
    found="$found${version:+, $python ($version)}"
  done
  python=''
}

fail_without_python() {
  mend='curl -LsSf https://astral.sh/uv/install.sh | sh'
  if has_uv; then mend='uv python install 3.13'; fi
  found=${found#, }
  fail "$needs, but found ${found:-no Python at all}: bring one by \`$mend\`, then repeat the command in a new terminal."
}

make_venv() {
  find_python
  rm -rf .venv
  if has_uv && uv venv --python "${python:-cpython>=3.11,<3.14}" .venv >>"$log" 2>&1; then return; fi
  if [ -z "$python" ]; then fail_without_python; fi
  "$python" -m venv .venv >>"$log" 2>&1 && return
  rm -rf .venv
  if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then fail_by_log; fi
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  fail "$python cannot make a virtual environment: bring its venv by \`sudo apt install python$version-venv\`, then repeat the command."
}

is_whole() {
  [ ! -e .venv/half-made ] && is_supported .venv/bin/python || return 1
  has_uv || .venv/bin/python -m pip --version >/dev/null 2>&1
}

find_installer() {
  if has_uv; then
    uv=uv
  elif .venv/bin/python -m pip install uv >>"$log" 2>&1; then
    uv=.venv/bin/uv
  else
    uv=''
  fi
}

install() {
  if [ -n "$uv" ]; then
    "$uv" pip install --python .venv/bin/python --compile-bytecode "$@" >>"$log" 2>&1 || fail_by_log
  else
    .venv/bin/python -m pip install "$@" >>"$log" 2>&1 || fail_by_log
  fi
}

# One set-up at a time: a second one would remove what the first one makes. A turn whose holder is gone is free.
take_turn() {
  if ! mkdir "$turn" 2>/dev/null; then
    holder=$(cat "$turn/pid" 2>/dev/null || true)
    if kill -0 "${holder:-0}" 2>/dev/null && [ -n "$holder" ]; then
      fail "Another set-up is going on here, process $holder: wait until it ends, then repeat the command."
    fi
  fi
  echo $$ >"$turn/pid"
  trap 'rm -rf "$turn"' EXIT
}

case ${1:-} in
  run) lock=requirements.lock ;;
  dev) lock=requirements-dev.lock ;;
  *) fail "Say which set-up: \`sh bootstrap.sh run\` or \`sh bootstrap.sh dev\`." ;;
esac
check_platform
mkdir -p .rowmill
take_turn
: >"$log"
is_whole || make_venv
touch .venv/half-made
echo "Setting up rowmill in .venv with $(version_of .venv/bin/python) (about 2 GB, a few minutes the first time) ..."
find_installer
install -r "$lock"
install --no-deps -e .
rm .venv/half-made
touch .venv/run.stamp ".venv/$1.stamp"
echo "rowmill is set up."
