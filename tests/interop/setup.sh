#!/bin/sh
# Installs the clients that the interop suite drives, from npm and PyPI, into target/interop. Safe to run again.
#
#   tests/interop/setup.sh && cargo test --test e2e interop::
#
# Versions are pinned in node/package.json, python/*.txt and ../e2e/python/requirements.txt.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
target=$here/../../target/interop
node_version=24.21.0

"$here/../e2e/python/setup.sh" >/dev/null

# Frameworks that want different versions of the same SDK get an environment each.
for name in langchain litellm; do
    venv=$target/$name
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    cmp -s "$here/python/$name.txt" "$venv/installed.txt" && continue
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/python/$name.txt"
    cp "$here/python/$name.txt" "$venv/installed.txt"
done

# Node 24 honours the proxy variables; the systems' own is often older.
runtime=$target/runtime
if ! cmp -s "$here/node/package-lock.json" "$target/node/installed.json"; then
    mkdir -p "$target/node" "$runtime"
    cp "$here/node/package.json" "$here/node/package-lock.json" "$target/node/"
    (cd "$target/node" && npm ci --no-audit --no-fund --loglevel=error)
    platform=$(node -p 'process.platform + "-" + process.arch')
    (cd "$runtime" && echo '{"private":true}' >package.json &&
        npm install --no-audit --no-fund --loglevel=error "node-$platform@$node_version")
    cp "$here/node/package-lock.json" "$target/node/installed.json"
fi
echo "$target"
