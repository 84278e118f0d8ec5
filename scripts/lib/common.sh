# Shared by the scripts: where things are, how steps are shown. Sourced, from the repository's root on.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root" || exit 1
target=${CARGO_TARGET_DIR:-$root/target}
case $target in /*) ;; *) target=$root/$target ;; esac

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# The pages and the package are there, and no source of either is newer.
web_is_built() {
    [ -f web/dist/index.html ] && [ -f web/ops/dist/index.html ] && [ -f web/client/dist/index.js ] || return 1
    [ -z "$(find web/app web/ops web/client/src web/client/*.json web/client/vite.config.ts web/package.json web/package-lock.json web/tsconfig.base.json \
        -type f -newer web/dist/index.html -not -path '*/node_modules/*' -not -path '*/dist/*' -print -quit)" ]
}

# Installs the web client's packages if the lock file changed since, or there are none.
web_packages() {
    local stamp=web/node_modules/.installed
    if [ ! -f "$stamp" ] || ! cmp -s web/package-lock.json "$stamp"; then
        (cd web && npm ci --no-audit --no-fund --loglevel=error) || return 1
        cp web/package-lock.json "$stamp"
    fi
}

web_build() {
    web_packages && (cd web && npm run --silent build)
}
