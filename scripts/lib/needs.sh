# What must be on a machine, and how to get it: everything that is missing is told at once. Sourced after common.sh.

missing=()

# What, then the install line for Debian and Ubuntu, Fedora, macOS.
lacks() {
    missing+=("$(printf '  %s\n    Debian, Ubuntu: %s\n    Fedora:         %s\n    macOS:          %s' "$@")")
}

# at_least 20.19 20.9.1: whether the second is no older than the first.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$1" ] || [ "$1" = "$2" ]
}

version_in() { grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1; }

need_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | version_in) || true
    if [ -z "$found" ] || ! at_least "$wanted" "$found"; then
        lacks "Rust $wanted or newer (${found:-no cargo} found)" \
            "sudo apt-get install rustup && rustup default stable, or https://rustup.rs" \
            "sudo dnf install rustup && rustup-init" \
            "brew install rustup && rustup default stable"
    fi
}

need_compiler() {
    has cc && has make && return
    lacks "a C compiler and make, for Kafka's client library" \
        "sudo apt-get install build-essential" \
        "sudo dnf install gcc gcc-c++ make" \
        "xcode-select --install"
}

need_libraries() {
    local absent=()
    if ! has pkg-config; then
        absent=(pkg-config openssl zlib)
    else
        pkg-config --exists openssl || absent+=(openssl)
        pkg-config --exists zlib || absent+=(zlib)
    fi
    [ ${#absent[@]} -eq 0 ] && return
    lacks "headers for Kafka's client library (missing: ${absent[*]})" \
        "sudo apt-get install pkg-config libssl-dev zlib1g-dev" \
        "sudo dnf install pkgconf-pkg-config openssl-devel zlib-devel" \
        "brew install pkg-config openssl@3 zlib"
}

need_java() {
    local java=java found
    [ -n "${JAVA_HOME:-}" ] && [ -x "$JAVA_HOME/bin/java" ] && java=$JAVA_HOME/bin/java
    # "17.0.15", or "1.8.0_292" for 8.
    found=$("$java" -version 2>&1 | sed -n 's/.*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1) || true
    [ -n "$found" ] && [ "$found" -ge 17 ] && return
    lacks "Java 17 or newer, for Kafka and the schema registry (${found:-none} found)" \
        "sudo apt-get install default-jre-headless" \
        "sudo dnf install java-latest-openjdk-headless" \
        "brew install openjdk && sudo ln -sfn \"\$(brew --prefix)/opt/openjdk/libexec/openjdk.jdk\" /Library/Java/JavaVirtualMachines/openjdk.jdk"
}

need_java_compiler() {
    if has javac || [ -x "${JAVA_HOME:-}/bin/javac" ]; then return; fi
    lacks "a Java compiler (JDK 17 or newer), for the tests of programs on Java" \
        "sudo apt-get install default-jdk-headless" \
        "sudo dnf install java-latest-openjdk-devel" \
        "brew install openjdk"
}

need_maven() {
    has mvn && return
    lacks "Maven, to fetch Kafka, the registry, PostgreSQL and Redis once" \
        "sudo apt-get install maven" \
        "sudo dnf install maven" \
        "brew install maven"
}

need_node() {
    local found
    found=$(node --version 2>/dev/null | version_in) || true
    [ -n "$found" ] && at_least 20.19 "$found" && has npm && return
    lacks "Node 20.19 or newer with npm, for the web client (${found:-no node} found)" \
        "sudo apt-get install nodejs npm (Debian 13, Ubuntu 25.10; older ones: https://nodejs.org/en/download)" \
        "sudo dnf install nodejs npm" \
        "brew install node"
}

need_python() {
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    lacks "Python 3.11 or newer with venv, for the tests of Python's programs" \
        "sudo apt-get install python3 python3-venv" \
        "sudo dnf install python3" \
        "brew install python"
}

need_haproxy() {
    if has haproxy || [ -x /usr/sbin/haproxy ]; then return; fi
    lacks "HAProxy 2.6 or newer, for the test of a rolling restart" \
        "sudo apt-get install haproxy" \
        "sudo dnf install haproxy" \
        "brew install haproxy"
}

need_openssl() {
    has openssl && return
    lacks "the command openssl, for the test of minted tokens" \
        "sudo apt-get install openssl" \
        "sudo dnf install openssl" \
        "brew install openssl@3"
}

need_go() {
    local found
    found=$(go version 2>/dev/null | version_in) || true
    [ -n "$found" ] && at_least 1.18 "$found" && return
    lacks "Go 1.18 or newer, for the test of minted tokens (${found:-no go} found)" \
        "sudo apt-get install golang-go" \
        "sudo dnf install golang" \
        "brew install go"
}

need_curl() {
    has curl && return
    lacks "curl, which talks to the schema registry and to Kafka Connect" \
        "sudo apt-get install curl" \
        "sudo dnf install curl" \
        "brew install curl"
}

need_ffmpeg() {
    has ffmpeg && has ffprobe && return
    lacks "ffmpeg, for the tests of previews of film and sound" \
        "sudo apt-get install ffmpeg" \
        "sudo dnf install ffmpeg (of RPM Fusion, for H.264)" \
        "brew install ffmpeg"
}

need_poppler() {
    has pdftoppm && return
    lacks "pdftoppm, for the test of previews of documents" \
        "sudo apt-get install poppler-utils" \
        "sudo dnf install poppler-utils" \
        "brew install poppler"
}

# The browser of the end-to-end test goes into CHROMIUM.
need_browser() {
    local candidate
    for candidate in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
        if [ -n "$candidate" ] && has "$candidate"; then
            CHROMIUM=$(command -v "$candidate")
            export CHROMIUM
            return
        fi
    done
    lacks "Chromium, for the test in a browser (or name one in CHROMIUM)" \
        "sudo apt-get install chromium" \
        "sudo dnf install chromium" \
        "brew install --cask google-chrome"
}

# Ends the script if something is missing.
nothing_missing() {
    [ ${#missing[@]} -eq 0 ] && return
    say "this machine lacks:"
    printf '%s\n' "${missing[@]}" >&2
    say "install what is listed, then start again"
    exit 1
}
