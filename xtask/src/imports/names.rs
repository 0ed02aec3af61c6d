//! Which names a file takes from other files of its crate.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, ItemUse, Macro, Meta, Path, Visibility};

use super::modules::{Modules, Named, is_for_tests, text_of, uses};

/// What each file takes from other files of its crate: the path that names it first, by file.
pub(super) type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, String>>;

/// What each file of a crate takes from the others.
pub(super) fn imports(modules: &Modules) -> Imports {
    let mut imports = Imports::new();
    for (module, it) in modules.iter() {
        let mut names = Names { modules, module, imports: &mut imports };
        it.code.iter().for_each(|item| names.visit_item(item));
    }
    imports
}

/// The names in the code of one module.
struct Names<'a> {
    modules: &'a Modules,
    module: usize,
    imports: &'a mut Imports,
}

impl Names<'_> {
    /// Takes what this path names. A module is nothing to take: what is named through it is.
    fn take(&mut self, path: &[String]) {
        if let Some(Named::Item(module)) = self.modules.resolve(self.module, path) {
            self.take_from(module, path);
        }
    }

    fn take_from(&mut self, module: usize, path: &[String]) {
        let (file, other) = (self.modules.file(self.module), self.modules.file(module));
        if file != other {
            let taken_from = self.imports.entry(file.to_owned()).or_default();
            taken_from.entry(other.to_owned()).or_insert_with(|| path.join("::"));
        }
    }

    /// Takes what is named in the text of a macro by a path of several parts: a single word may be anything there.
    fn take_from_tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.take_if_long(&mut path);
                    }
                    path.push(text_of(&ident));
                    colons = 0;
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.take_if_long(&mut path);
                    self.take_from_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.take_if_long(&mut path);
                    colons = 0;
                }
            }
        }
        self.take_if_long(&mut path);
    }

    fn take_if_long(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.take(path);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_use(&mut self, declared: &'ast ItemUse) {
        if declared.leading_colon.is_some() {
            return;
        }
        let is_private = matches!(declared.vis, Visibility::Inherited);
        for it in uses(&declared.tree) {
            if let Some(Named::Item(module)) = self.modules.resolve(self.module, &it.path)
                && (is_private || !self.modules.is_below(module, self.module))
            {
                self.take_from(module, &it.path);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none() {
            let names: Vec<String> = path.segments.iter().map(|segment| text_of(&segment.ident)).collect();
            self.take(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_impl_item_fn(&mut self, method: &'ast ImplItemFn) {
        if !is_for_tests(&method.attrs) {
            visit::visit_impl_item_fn(self, method);
        }
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.visit_path(&called.path);
        self.take_from_tokens(called.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) => self.take_from_tokens(list.tokens.clone()),
            Meta::NameValue(named) => self.visit_expr(&named.value),
            Meta::Path(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// A crate of these files, in a folder of its own.
    fn crate_of(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().expect("there is room");
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().expect("it is in the folder")).expect("there is room");
            fs::write(file, text).expect("there is room");
        }
        folder
    }

    /// What the files import: `a.rs > b.rs`.
    fn imports_of(files: &[(&str, &str)]) -> Vec<String> {
        let folder = crate_of(files);
        let root = folder.path().canonicalize().expect("it is there");
        let modules = Modules::read(&root.join("lib.rs")).expect("Rust");
        let shown = |file: &std::path::Path| {
            file.strip_prefix(&root).expect("a file of the crate").display().to_string()
        };
        let imports = imports(&modules);
        let pairs = imports.iter().flat_map(|(file, others)| others.keys().map(move |other| (file, other)));
        pairs.map(|(file, other)| format!("{} > {}", shown(file), shown(other))).collect()
    }

    /// What `a.rs` imports, beside a module `b` with a struct `B` and a module `c` with a function `c`.
    fn imports_of_a(a: &str) -> Vec<String> {
        imports_of(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", a),
            ("b.rs", "pub struct B; pub trait T {}"),
            ("c.rs", "pub fn c() {}"),
        ])
    }

    #[test]
    fn each_way_to_name_something_is_an_import() {
        for a in [
            "use crate::b::B;",
            "use super::b::B;",
            "use self::super::b::B as Other;",
            "use crate::{b::{self, B}};",
            "use crate::b::T as _;",
            "fn f() { use crate::b::B; }",
            "fn f(_: crate::b::B) {}",
            "fn f() { let _ = super::b::B::new::<u8>(); }",
            "fn f(_: Vec<super::b::B>) {}",
            "impl crate::b::T for u8 {}",
            "use crate::b; fn f(_: b::B) {}",
            "fn f() { use crate::b; b::B::new(); }",
            "use super::*; fn f(_: b::B) {}",
            "use crate::b::*; fn f(_: B) {}",
            "fn f() { assert!(true, [crate::b::B]); }",
            "#[arg(parser = crate::b::B)] struct A;",
            "mod inner { use super::super::b::B; }",
            "#[cfg(not(test))] use crate::b::B;",
        ] {
            assert_eq!(imports_of_a(a), ["a.rs > b.rs"], "{a}");
        }
        assert_eq!(imports_of_a("use super::{b::B, c::c};"), ["a.rs > b.rs", "a.rs > c.rs"]);
    }

    #[test]
    fn what_is_not_of_another_file_is_no_import() {
        for a in [
            "use std::b::B; use ::b::B as C; use zmq; fn f() { zmq::c(); }",
            "pub(super) struct A; fn f(_: self::A, _: A, _: crate::a::A) {}",
            "fn f(b: u8) -> u8 { b }",
            "pub(in crate::b) struct A;",
            "use crate::b;",
            "mod inner { struct B; fn f(_: B) {} }",
        ] {
            assert!(imports_of_a(a).is_empty(), "{a}");
        }
    }

    #[test]
    fn tests_may_import_everything() {
        for a in [
            "#[cfg(test)] mod tests { use crate::b::B; }",
            "#[cfg(test)] mod tests;",
            "#[cfg(any(test, fuzzing))] mod fuzz;",
            "#[cfg(test)] use crate::b::B;",
            "struct A; impl A { #[cfg(test)] fn f(_: crate::b::B) {} }",
        ] {
            assert!(imports_of_a(a).is_empty(), "{a}");
        }
    }

    #[test]
    fn a_name_is_imported_from_the_file_that_defines_it() {
        let files = [
            ("lib.rs", "mod a; mod b; mod d;"),
            ("a.rs", "use crate::b::Renamed; use crate::d::B;"),
            ("b/mod.rs", "mod c; pub use c::C as Renamed;"),
            ("b/c.rs", "pub struct C;"),
            ("d.rs", "pub use e::*; mod e { pub use crate::b::Renamed as B; }"),
        ];
        assert_eq!(imports_of(&files), ["a.rs > b/c.rs", "d.rs > b/c.rs"]);
    }

    #[test]
    fn a_name_that_a_macro_defines_belongs_to_the_file_of_the_path() {
        assert_eq!(imports_of_a("use crate::b::MadeByMacro;"), ["a.rs > b.rs"]);
        assert_eq!(imports_of_a("use crate::missing::Name;"), ["a.rs > lib.rs"]);
    }

    #[test]
    fn a_module_and_its_re_export_are_no_imports_until_they_are_used() {
        let child = ("a.rs", "use super::Shared; pub struct A; pub fn new() -> A { A }");
        let with =
            |code: &str| imports_of(&[("lib.rs", &format!("mod a; pub struct Shared; {code}")), child]);
        let circle = ["a.rs > lib.rs", "lib.rs > a.rs"];
        assert_eq!(with("pub use a::A; pub(crate) use self::a::new;"), ["a.rs > lib.rs"]);
        assert_eq!(with("pub use a::A; fn f(_: A) {}"), circle);
        assert_eq!(with("pub use a::A; fn f() { A::new(); }"), circle);
        assert_eq!(with("use a::A;"), circle);
        assert_eq!(with("fn f() { a::new(); }"), circle);
    }

    #[test]
    fn a_re_export_from_elsewhere_is_an_import() {
        assert_eq!(imports_of_a("pub use crate::b::B;"), ["a.rs > b.rs"]);
    }

    #[test]
    fn files_are_found_wherever_a_module_may_be() {
        let files = [
            ("lib.rs", "mod a; mod inner { mod b; } #[path = \"elsewhere/d.rs\"] mod d;"),
            ("a.rs", "mod deep; use deep::c::C;"),
            ("a/deep/mod.rs", "pub mod c;"),
            ("a/deep/c.rs", "pub struct C;"),
            ("inner/b.rs", "use crate::d::e::E;"),
            ("elsewhere/d.rs", "pub mod e;"),
            ("elsewhere/e.rs", "pub struct E;"),
        ];
        assert_eq!(imports_of(&files), ["a.rs > a/deep/c.rs", "inner/b.rs > elsewhere/e.rs"]);
    }

    #[test]
    fn a_file_that_is_missing_or_no_rust_is_named() {
        for (files, said) in [
            (&[("lib.rs", "mod a;")] as &[_], "a/mod.rs"),
            (&[("lib.rs", "mod a;"), ("a.rs", "fn")], "a.rs is no Rust"),
        ] {
            let folder = crate_of(files);
            let error = Modules::read(&folder.path().join("lib.rs")).err().expect("it cannot be read");
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
