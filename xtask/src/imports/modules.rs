//! The modules of a crate, and what a path in one of them names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::ext::IdentExt;
use syn::visit::Visit;
use syn::{Attribute, Expr, ExprLit, Ident, Item, ItemMod, ItemUse, Lit, Meta, UseTree};

/// How many re-exports a name may pass through. More are a name that stands for itself.
const RE_EXPORTS_MAX: u32 = 8;

/// All modules of a crate that are not for tests alone. The first is the crate's own.
pub(super) struct Modules(Vec<Module>);

/// A module, with a file of its own or inside of one.
pub(super) struct Module {
    pub(super) file: PathBuf,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// What is defined here, but for modules.
    items: BTreeSet<String>,
    /// What its `use` declarations name.
    uses: Vec<Use>,
    /// The code, without its modules.
    pub(super) code: Vec<Item>,
}

/// A name that a `use` declaration brings.
pub(super) struct Use {
    /// As it is called here; `None` for all names of a module.
    name: Option<String>,
    pub(super) path: Vec<String>,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

impl Modules {
    /// Reads the crate that begins with this file.
    ///
    /// # Errors
    /// A file cannot be read, or is no Rust.
    pub(super) fn read(crate_root: &Path) -> Result<Self> {
        let mut modules = Self(Vec::new());
        let folder = crate_root.parent().context("a file stands in a folder")?;
        modules.add_file(crate_root, folder, None)?;
        Ok(modules)
    }

    /// All of them, each with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Module)> {
        self.0.iter().enumerate()
    }

    pub(super) fn file(&self, module: usize) -> &Path {
        &self.0[module].file
    }

    /// Whether `module` stands below `above`.
    pub(super) fn is_below(&self, module: usize, above: usize) -> bool {
        std::iter::successors(self.0[module].parent, |module| self.0[*module].parent).any(|it| it == above)
    }

    /// What a path names that stands in `module`; `None` if it is no name of this crate.
    ///
    /// A name that cannot be found, because a macro defines it, say, belongs to the last module of the path.
    pub(super) fn resolve(&self, module: usize, path: &[String]) -> Option<Named> {
        self.resolve_within(module, path, RE_EXPORTS_MAX)
    }

    fn resolve_within(&self, module: usize, path: &[String], re_exports: u32) -> Option<Named> {
        let (first, rest) = path.split_first()?;
        let mut named = match first.as_str() {
            "crate" => Named::Module(0),
            "self" => Named::Module(module),
            "super" => Named::Module(self.0[module].parent?),
            name => self.find(module, name, rest.is_empty(), re_exports)?,
        };
        for (index, name) in rest.iter().enumerate() {
            // What follows an item is a part of it: a variant, a function of a type.
            let Named::Module(module) = named else { break };
            let found = match name.as_str() {
                "super" => self.0[module].parent.map(Named::Module),
                name => self.find(module, name, index + 1 == rest.len(), re_exports),
            };
            named = found.unwrap_or(Named::Item(module));
        }
        Some(named)
    }

    /// What `name` is in `module`. Before `::` a module goes first, at the end of a path (`is_last`) an item.
    fn find(&self, module: usize, name: &str, is_last: bool, re_exports: u32) -> Option<Named> {
        let re_exports = re_exports.checked_sub(1)?;
        let Module { children, items, uses, .. } = &self.0[module];
        let child = || children.get(name).map(|child| Named::Module(*child));
        let item = || items.contains(name).then_some(Named::Item(module));
        let used = || {
            let mut named = uses.iter().filter(|it| it.name.as_deref() == Some(name));
            named.find_map(|it| self.resolve_within(module, &it.path, re_exports))
        };
        let from_all = || {
            uses.iter().filter(|it| it.name.is_none()).find_map(|all| {
                match self.resolve_within(module, &all.path, re_exports)? {
                    Named::Module(other) => self.find(other, name, is_last, re_exports),
                    Named::Item(_) => None,
                }
            })
        };
        let own =
            if is_last { item().or_else(used).or_else(child) } else { child().or_else(used).or_else(item) };
        own.or_else(from_all)
    }

    /// Adds the module of a file; `folder` is where its modules are.
    fn add_file(&mut self, file: &Path, folder: &Path, parent: Option<usize>) -> Result<usize> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("{} is no Rust", file.display()))?;
        self.add(file, folder, parent, parsed.items)
    }

    fn add(&mut self, file: &Path, folder: &Path, parent: Option<usize>, items: Vec<Item>) -> Result<usize> {
        let module = self.0.len();
        self.0.push(Module {
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            uses: Vec::new(),
            code: Vec::new(),
        });
        for item in items {
            if is_for_tests(attributes(&item)) {
                continue;
            }
            if let Item::Mod(declared) = item {
                let name = text_of(&declared.ident);
                let child = self.add_child(module, declared, folder)?;
                self.0[module].children.insert(name, child);
                continue;
            }
            Uses(&mut self.0[module].uses).visit_item(&item);
            self.0[module].items.extend(defined(&item).map(text_of));
            self.0[module].code.push(item);
        }
        Ok(module)
    }

    fn add_child(&mut self, parent: usize, declared: ItemMod, folder: &Path) -> Result<usize> {
        let name = text_of(&declared.ident);
        let below = folder.join(&name);
        let file = self.0[parent].file.clone();
        if let Some((_, items)) = declared.content {
            return self.add(&file, &below, Some(parent), items);
        }
        if let Some(path) = path_attribute(&declared.attrs) {
            let file = file.with_file_name(path).canonicalize()?;
            let folder = file.parent().context("a file stands in a folder")?;
            return self.add_file(&file, folder, Some(parent));
        }
        let beside = folder.join(format!("{name}.rs"));
        let file = if beside.is_file() { beside } else { below.join("mod.rs") };
        self.add_file(&file, &below, Some(parent))
    }
}

/// The `use` declarations of a module, and of its functions: as if those stood beside them.
struct Uses<'a>(&'a mut Vec<Use>);

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_item_use(&mut self, declared: &'ast ItemUse) {
        if declared.leading_colon.is_none() {
            self.0.extend(uses(&declared.tree));
        }
    }
}

/// The names that a `use` declaration brings.
pub(super) fn uses(tree: &UseTree) -> Vec<Use> {
    let below = |ident: &Ident, tree| {
        let uses = uses(tree).into_iter();
        uses.map(|Use { name, path }| Use { name, path: [vec![text_of(ident)], path].concat() }).collect()
    };
    match tree {
        UseTree::Path(path) => {
            let mut uses: Vec<Use> = below(&path.ident, &path.tree);
            for it in &mut uses {
                // `a::{self}` is `a`.
                if it.path.last().is_some_and(|last| last == "self") {
                    it.path.pop();
                    let is_renamed = it.name.as_deref() != Some("self");
                    it.name = if is_renamed { it.name.take() } else { it.path.last().cloned() };
                }
            }
            uses
        }
        UseTree::Name(name) => {
            vec![Use { name: Some(text_of(&name.ident)), path: vec![text_of(&name.ident)] }]
        }
        UseTree::Rename(name) => {
            vec![Use { name: Some(text_of(&name.rename)), path: vec![text_of(&name.ident)] }]
        }
        UseTree::Glob(_) => vec![Use { name: None, path: Vec::new() }],
        UseTree::Group(group) => group.items.iter().flat_map(uses).collect(),
    }
}

/// Whether what has these attributes exists in tests only, or in tests and fuzz targets.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        let mut words = condition.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        words.clone().any(|word| word == "test") && words.all(|word| word != "not")
    })
}

pub(super) fn text_of(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// The file that a `#[path]` names.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(it) if it.path.is_ident("path") => match &it.value {
            Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        Meta::NameValue(_) | Meta::List(_) | Meta::Path(_) => None,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::ExternCrate(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::ForeignMod(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::TraitAlias(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Union(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        // What the parser does not know, and what it may know one day: the enum is not exhaustive.
        _ => &[],
    }
}

/// The name that an item defines, if it has one and is no module.
fn defined(item: &Item) -> Option<&Ident> {
    match item {
        Item::Const(it) => Some(&it.ident),
        Item::Enum(it) => Some(&it.ident),
        Item::Fn(it) => Some(&it.sig.ident),
        Item::Macro(it) => it.ident.as_ref(),
        Item::Static(it) => Some(&it.ident),
        Item::Struct(it) => Some(&it.ident),
        Item::Trait(it) => Some(&it.ident),
        Item::TraitAlias(it) => Some(&it.ident),
        Item::Type(it) => Some(&it.ident),
        Item::Union(it) => Some(&it.ident),
        _ => None,
    }
}
