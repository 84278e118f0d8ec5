//! Makes sure that there is a web client to embed.

use std::path::Path;

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/dist");
    println!("cargo:rerun-if-changed=../web/dist");
    if !dist.join("index.html").is_file() {
        // The program is whole without its page, and a compiler alone can build it; the page says how to get it.
        println!("cargo:warning=web/dist is missing: run scripts/build to build the web client and embed it");
        let page = "<!doctype html><meta charset=utf-8><title>Waltalkie</title><p>The web client was not built into this \
                    program. Run <code>scripts/build</code>, then start it again.</p>\n";
        std::fs::create_dir_all(&dist).and_then(|()| std::fs::write(dist.join("index.html"), page)).expect("web/dist");
    }
}
