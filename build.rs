//! Puts together the browser client that the server carries along: `webrocket.js` in `OUT_DIR`, from
//! `clients/javascript/src`.
//!
//! `clients/javascript/build.mjs` makes the same file for the npm package; `tests/node` compares the two.
//! Here it is done in Rust, so that the server builds without Node.

use std::{env, fs, path::Path};

const SOURCES: &str = "clients/javascript/src";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCES}");
    let folder = env::var_os("OUT_DIR").expect("Cargo names the folder");
    let target = Path::new(&folder).join("webrocket.js");
    fs::write(&target, script())
        .unwrap_or_else(|error| panic!("could not write {}: {error}", target.display()));
}

/// All modules in one scope, which one global leaves.
fn script() -> String {
    let list = read("modules.txt");
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
    let source = read(&format!("{name}.js"));
    let mut code = source.as_str();
    while let Some(import) = code.strip_prefix("import {") {
        let (_, import) = import.split_once("} from './").expect("an import names a module beside it");
        let (imported, rest) = import.split_once(".js';\n").expect("an import ends its line");
        assert!(before.contains(&imported), "{name} imports {imported} before it is there");
        code = rest.trim_start_matches('\n');
    }
    format!("\n{code}").replace("\nexport ", "\n").trim().to_owned()
}

fn read(file: &str) -> String {
    let path = Path::new(SOURCES).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
}
