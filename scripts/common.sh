# Sourced by scripts/demo and scripts/test: one virtual environment, made and filled only when needed.
#   FREESWIM_VENV  where it lives (default: .venv in the repository)
#   PYTHON         the interpreter to make it with (default: the first of 3.12, 3.11 that runs)
# shellcheck shell=bash
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${FREESWIM_VENV:-$root/.venv}
cd "$root"

say() { printf '%s\n' "$*" >&2; }

# Runs, is new enough, and can make a virtual environment. A version manager's shim may exist and still not run.
usable() { "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.11 /usr/bin/python3.12 /usr/bin/python3.11 python3; do
        if usable "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "No usable Python found. FreeSwim needs Python 3.11 or 3.12 with venv and ensurepip"
    say "(on Debian and Ubuntu: apt-get install python3.11-venv), or set PYTHON=/path/to/python3.12."
    return 1
}

# prepare_venv FILE: installs requirements FILE and this package, unless the same files were installed before.
prepare_venv() {
    local requirements=$1 stamp="$venv/.installed-$1" python want
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        python=$(find_python)
        say "Making a virtual environment in $venv with $("$python" --version)"
        "$python" -m venv --clear "$venv"
    fi
    want=$(cat requirements.txt "$requirements" pyproject.toml | cksum; printf '%s' "$root")
    if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
        say "Installing $requirements (the first time this takes a few minutes)"
        # One line per large file, so that minutes of downloading do not look like a hang.
        "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off -r "$requirements" -e . |
            { grep --line-buffered -E '^ *(Downloading|Processing) .*[0-9.]+ MB|^Installing collected' | cut -c1-100 >&2 || true; } ||
            { say "pip could not install $requirements"; return 1; }
        printf '%s' "$want" >"$stamp"
    fi
}
