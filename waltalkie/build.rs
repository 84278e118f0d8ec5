//! Makes sure that there are pages to embed.

use std::path::Path;

const PAGES: [(&str, &str); 2] = [("../web/dist", "web client"), ("../web/ops/dist", "pipeline page")];

fn main() {
    for (folder, what) in PAGES {
        let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        println!("cargo:rerun-if-changed={folder}");
        if !dist.join("index.html").is_file() {
            // The program is whole without its pages, and a compiler alone can build it; the page says how to get it.
            println!("cargo:warning=the {what} is missing: run scripts/build to build it and embed it");
            let page = format!(
                "<!doctype html><meta charset=utf-8><title>Waltalkie</title><p>The {what} was not built into this program. \
                 Run <code>scripts/build</code>, then start it again.</p>\n"
            );
            std::fs::create_dir_all(&dist).and_then(|()| std::fs::write(dist.join("index.html"), page)).expect(folder);
        }
    }
}
