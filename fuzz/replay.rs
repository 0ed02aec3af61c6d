//! Runs fuzz targets on their corpora. The crates that have targets include this in their tests.

use std::{fs, path::Path};

/// What is run on an input.
pub(crate) type Target = fn(&[u8]);

/// Runs each target of `of_crate` on every input of its corpus.
///
/// # Panics
/// If an input breaks what holds of it, if a target has no corpus, and if the targets are not exactly those of
/// `fuzz/fuzz_targets` that call `of_crate`.
pub(crate) fn replay(of_crate: &str, targets: &[(&str, Target)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("fuzz"));
    let folder =
        folder.filter(|folder| folder.join("fuzz_targets").is_dir()).last().expect("the folder fuzz");
    for entry in fs::read_dir(folder.join("fuzz_targets")).expect("the fuzz targets") {
        let path = entry.expect("a fuzz target").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a target's name");
        let calls =
            fs::read_to_string(&path).expect("a target").contains(&format!("| {of_crate}::fuzz::{name}("));
        assert!(!calls || targets.iter().any(|target| target.0 == name), "{name} is not replayed");
    }
    for (name, target) in targets {
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name} is no fuzz target");
        let corpus = fs::read_dir(folder.join("corpus").join(name)).expect("a corpus");
        let inputs: Vec<_> = corpus.map(|input| input.expect("an input").path()).collect();
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for input in inputs {
            println!("{}", input.display());
            target(&fs::read(input).expect("an input"));
        }
    }
}
