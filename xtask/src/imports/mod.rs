//! No files of one crate import each other in a circle.
//!
//! [`modules`] reads the files of a crate and knows what a path in them names, [`names`] which names a file takes from
//! others. An import belongs to the file that defines the name, through whatever it is re-exported. A `mod` and the
//! re-export of a name from a module below import nothing, but code that uses such a name does. Tests may import
//! everything.

mod modules;
mod names;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::shell::{cargo, printed, root};
use modules::Modules;
use names::Imports;

/// Which packages to check.
#[derive(Args, Default)]
pub(crate) struct Selection {
    /// Only these packages [default: all]
    packages: Vec<String>,
}

/// Looks for circles.
///
/// # Errors
/// There is no such package, a file is no Rust, or there are circles: each is told as a chain of files.
pub(crate) fn imports(selection: &Selection) -> Result<()> {
    let mut told = BTreeSet::new();
    for crate_root in crate_roots(selection)? {
        let imports = names::imports(&Modules::read(&crate_root)?);
        told.extend(circles(&imports).iter().map(|circle| text(circle, &imports)));
    }
    for circle in &told {
        eprintln!("{circle}");
    }
    if !told.is_empty() {
        bail!("{} circles of files that import each other", told.len());
    }
    Ok(())
}

/// The first file of each crate in the selected packages, but for crates of tests.
fn crate_roots(selection: &Selection) -> Result<Vec<PathBuf>> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata = printed(&mut command).context("`cargo metadata` fails")?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo names no packages")?;
    let name = |package: &Value| package["name"].as_str().unwrap_or_default().to_owned();
    for selected in &selection.packages {
        ensure!(packages.iter().any(|package| name(package) == *selected), "there is no package {selected}");
    }
    let selected = &selection.packages;
    let is_selected = |package: &&Value| selected.is_empty() || selected.contains(&name(package));
    let mut roots = Vec::new();
    for package in packages.iter().filter(is_selected) {
        for target in package["targets"].as_array().context("a package has targets")? {
            let path = target["src_path"].as_str().context("a target has a path")?;
            if target["kind"] != serde_json::json!(["test"]) {
                roots.push(PathBuf::from(path));
            }
        }
    }
    Ok(roots)
}

/// What a file imports, without what for.
type Graph<'a> = BTreeMap<&'a Path, BTreeSet<&'a Path>>;

/// Circles that have no import in common, the shortest first.
///
/// Each has to be broken. Where circles do share imports, another one may show up then.
fn circles(imports: &Imports) -> Vec<Vec<&Path>> {
    let mut graph = Graph::new();
    for (file, others) in imports {
        graph.insert(file, others.keys().map(PathBuf::as_path).collect());
    }
    let mut circles = Vec::new();
    while let Some(circle) = shortest_circle(&graph) {
        for pair in circle.windows(2) {
            graph.entry(pair[0]).or_default().remove(pair[1]);
        }
        circles.push(circle);
    }
    circles
}

/// The shortest circle: it ends with the file that it begins with.
fn shortest_circle<'a>(graph: &Graph<'a>) -> Option<Vec<&'a Path>> {
    let circles = graph.iter().flat_map(|(file, others)| {
        let ways = others.iter().filter_map(|other| shortest_way(graph, other, file));
        ways.map(|way| [&[*file], way.as_slice()].concat())
    });
    circles.min_by_key(Vec::len)
}

/// The files from one to another along imports, both included.
fn shortest_way<'a>(graph: &Graph<'a>, from: &'a Path, to: &'a Path) -> Option<Vec<&'a Path>> {
    let mut came_from = BTreeMap::from([(from, from)]);
    let mut waiting = VecDeque::from([from]);
    while let Some(file) = waiting.pop_front() {
        for next in graph.get(file).into_iter().flatten() {
            if !came_from.contains_key(next) {
                came_from.insert(next, file);
                waiting.push_back(next);
            }
        }
    }
    let mut way = vec![to];
    while way[way.len() - 1] != from {
        way.push(came_from.get(way[way.len() - 1])?);
    }
    way.reverse();
    Some(way)
}

/// A circle as a chain of files, each with the path that names the next one.
fn text(circle: &[&Path], imports: &Imports) -> String {
    let repository = root();
    let shown = |file: &Path| file.strip_prefix(&repository).unwrap_or(file).display().to_string();
    let mut text = shown(circle[0]);
    for pair in circle.windows(2) {
        text += &format!("\n  → {}, for {}", shown(pair[1]), imports[pair[0]][pair[1]]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports_of(pairs: &[(&str, &str)]) -> Imports {
        let mut imports = Imports::new();
        for (file, other) in pairs {
            let taken_from = imports.entry(PathBuf::from(file)).or_default();
            taken_from.insert(PathBuf::from(other), format!("crate::{other}"));
        }
        imports
    }

    fn texts(pairs: &[(&str, &str)]) -> Vec<String> {
        let imports = imports_of(pairs);
        let circles = circles(&imports);
        circles
            .iter()
            .map(|files| files.iter().map(|file| file.to_string_lossy()).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn a_chain_and_a_diamond_are_no_circles() {
        assert!(texts(&[("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"), ("d", "c")]).is_empty());
    }

    #[test]
    fn circles_are_told_the_shortest_first() {
        assert_eq!(texts(&[("a", "b"), ("b", "a")]), ["a b a"]);
        assert_eq!(texts(&[("x", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "y")]), ["a b c a"]);
        assert_eq!(
            texts(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "c")]),
            ["c d c", "a b c a"]
        );
    }

    #[test]
    fn circles_that_share_an_import_are_told_one_after_the_other_is_broken() {
        assert_eq!(texts(&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")]), ["a b a"]);
        assert_eq!(texts(&[("a", "b"), ("b", "c"), ("c", "a")]), ["a b c a"]);
    }

    #[test]
    fn a_circle_is_told_with_what_makes_it() {
        let imports = imports_of(&[("a", "b"), ("b", "a")]);
        assert_eq!(text(&circles(&imports)[0], &imports), "a\n  → b, for crate::b\n  → a, for crate::a");
    }
}
