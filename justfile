# The few commands. `just` lists them.

_default:
    @just --list

# Start everything on this machine and talk
up *args:
    scripts/up {{args}}

# The web client and the executable
build:
    scripts/build

# Every test, against real servers (`just test full` for the long runs)
test *args:
    scripts/test {{args}}

# Formatting, lints and documentation, without warnings
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo doc --workspace --no-deps
    cd web && npm run check

# Follow the history
tail *args:
    cargo run --quiet --bin waltalkie -- tail {{args}}

# What is wrong, and how to mend it
doctor:
    cargo run --quiet --bin waltalkie -- doctor
