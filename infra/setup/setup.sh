#!/bin/sh
# Finds a Python that can run Arriero and hands over to install.py, which makes .venv. Arguments go through (--dev).
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

runs() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The environment's own Python first: then a second run does nothing but look. 3.14 last: wheels for it are the newest.
for python in "$here/../../.venv/bin/python" python3 python3.13 python3.12 python3.11 python3.14; do
    if runs "$python"; then
        exec "$python" "$here/install.py" "$@"
    fi
done

found=$(python3 --version 2>/dev/null || echo "no python3")
cat >&2 <<END
setup: Arriero needs Python 3.11 or later; here is $found. Install one, then run the same command again:
  Debian 12, Ubuntu 24.04   apt install python3 python3-venv
  Ubuntu 22.04              apt install python3.11 python3.11-venv
  macOS                     brew install python@3.13
END
exit 1
