#!/bin/sh
# preflight.sh: print a Python that can build the environment, or what is missing and how to get it.
# stdout: the interpreter's path, alone. stderr: remarks. Exit 78 if something is missing.
set -u
missing=
packages=

lacks() { # what, Debian package
  missing="$missing
  - $1"
  packages="$packages $2"
}

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

python=
for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
  if suits "$candidate"; then python=$(command -v "$candidate"); break; fi
done

if [ -z "$python" ]; then
  lacks "Python 3.11, 3.12 or 3.13 (name one with PYTHON=/path/to/python)" "python3 python3-venv python3-dev"
else
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    lacks "the venv module of $python" python3-venv
  header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
  [ -r "$header" ] || lacks "the headers of $python (Python.h)" python3-dev
fi

command -v make >/dev/null || lacks "make" make
compiler=${CC:-cc}
if command -v "$compiler" >/dev/null; then
  echo '#include <gmp.h>' | "$compiler" -E -x c - >/dev/null 2>&1 ||
    lacks "the headers of GMP (gmp.h)" libgmp-dev
else
  lacks "a C compiler" "gcc libc6-dev libgmp-dev"
fi

if [ -n "$missing" ]; then
  echo "Before p2pnode can be built here, it lacks:$missing" >&2
  echo "On Debian or Ubuntu:" >&2
  echo "  sudo apt-get install$packages" >&2
  echo "On Fedora:" >&2
  echo "  sudo dnf install python3.11 python3.11-devel gcc make gmp-devel" >&2
  exit 78
fi
echo "$python"
