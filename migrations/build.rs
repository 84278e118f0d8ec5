//! The migrations' files are read by a macro, which doesn't tell cargo of new ones.

fn main() {
    println!("cargo:rerun-if-changed=truth");
    println!("cargo:rerun-if-changed=read");
}
