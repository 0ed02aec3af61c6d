//! Puts together what the server carries along for browsers, in `OUT_DIR`: the client `webrocket.js`, from
//! `clients/javascript/src`, and the page `demo.html`, from `src/control/demo`.
//!
//! `clients/javascript/build.mjs` makes the same client for the npm package; `tests/node` compares the two.
//! Here it is done in Rust, so that the server builds without Node.

use std::{env, fs, path::Path};

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

/// Where the client's modules are.
const SOURCES: &str = "clients/javascript/src";

/// Where the demo's page, style and script are.
const DEMO: &str = "src/control/demo";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-changed={DEMO}");
    write("webrocket.js", &script());
    write("demo.html", &demo());
}

fn write(name: &str, content: &str) {
    let folder = env::var_os("OUT_DIR").expect("Cargo names the folder");
    let target = Path::new(&folder).join(name);
    fs::write(&target, content)
        .unwrap_or_else(|error| panic!("could not write {}: {error}", target.display()));
}

/// The demo's page with its style, its script, and the hashes by which its policy allows them.
fn demo() -> String {
    let read = |name: &str| read(DEMO, name);
    let style = format!("\n{}", read("style.css"));
    let parts: Vec<_> =
        read("script/parts.txt").lines().map(|part| read(&format!("script/{part}.js"))).collect();
    let script = format!("\n(() => {{\n'use strict';\n\n{}}})();\n", parts.join("\n"));
    let mut page = read("page.html");
    for (name, value) in [
        ("{{style-hash}}", hash(&style)),
        ("{{script-hash}}", hash(&script)),
        ("{{style}}", style),
        ("{{script}}", script),
    ] {
        assert!(page.contains(name), "{DEMO}/page.html has a place for {name}");
        page = page.replace(name, &value);
    }
    page
}

/// As a Content-Security-Policy names what it allows.
fn hash(content: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(content)))
}

/// All modules in one scope, which one global leaves.
fn script() -> String {
    let list = read(SOURCES, "modules.txt");
    let names: Vec<_> = list.lines().collect();
    let modules: Vec<_> =
        (0..names.len()).map(|position| module(names[position], &names[..position])).collect();
    format!(
        "/*! webrocket {} | {} | built from {SOURCES} */\n\
         (function () {{\n'use strict';\n\n{}\n\nglobalThis.WebRocket = WebRocket;\n}})();\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_LICENSE"),
        modules.join("\n\n"),
    )
}

/// A module's code without its imports, which are all at its beginning, and without the word `export`.
fn module(name: &str, before: &[&str]) -> String {
    let source = read(SOURCES, &format!("{name}.js"));
    let mut code = source.as_str();
    while let Some(import) = code.strip_prefix("import {") {
        let (_, import) = import.split_once("} from './").expect("an import names a module beside it");
        let (imported, rest) = import.split_once(".js';\n").expect("an import ends its line");
        assert!(before.contains(&imported), "{name} imports {imported} before it is there");
        code = rest.trim_start_matches('\n');
    }
    format!("\n{code}").replace("\nexport ", "\n").trim().to_owned()
}

fn read(folder: &str, file: &str) -> String {
    let path = Path::new(folder).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
}
