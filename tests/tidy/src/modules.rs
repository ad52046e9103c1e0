//! Which file of a crate uses which, and the circles in that.
//!
//! A file uses the file in which an item is defined, wherever the item is re-exported. `mod child;` and
//! `pub use child::Item;` are not uses; a parent that needs the item in its own code is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::Source;

/// The files of a crate, by their path below `src`.
pub type Files = BTreeMap<String, String>;

/// The uses between files, each by its path.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// The names of a module and of its parents, without `crate`.
type Path = Vec<String>;

/// What one file says about names.
#[derive(Debug, Default)]
struct Module {
    children: BTreeSet<String>,
    defined: BTreeSet<String>,
    /// What `use` brings into scope, by its name here.
    imported: BTreeMap<String, Path>,
    globs: Vec<Path>,
    /// Of `imported`: what is only handed on.
    handed_on: BTreeSet<String>,
    /// Paths in code, and single words.
    paths: BTreeSet<Path>,
    words: BTreeSet<String>,
}

/// The home of a name: a module, and whether the name is an item of it (not the module itself).
#[derive(Debug)]
struct Home {
    module: Path,
    is_item: bool,
}

#[derive(Debug)]
struct Modules(BTreeMap<Path, Module>);

/// Circles of files that use each other, the shortest first, as `a.rs -> b.rs -> a.rs`. No two of them
/// share a use.
pub fn circles(files: &Files) -> Vec<String> {
    let mut uses = uses(files);
    let mut found = Vec::new();
    while let Some(circle) = shortest_circle(&uses) {
        for (from, to) in circle.iter().zip(circle.iter().skip(1)) {
            uses.entry(from.clone()).or_default().remove(to);
        }
        found.push(circle.join(" -> "));
    }
    found
}

fn uses(files: &Files) -> Uses {
    let modules = files
        .iter()
        .map(|(file, text)| (path_of(file), Module::read(text)));
    let modules = Modules(modules.collect());
    let names: BTreeMap<Path, &String> = files.keys().map(|file| (path_of(file), file)).collect();
    let mut uses = Uses::new();
    for (path, file) in &names {
        let used = modules
            .used_by(path)
            .into_iter()
            .filter(|used| used != path);
        let used = used.filter_map(|used| names.get(&used).map(|name| (*name).clone()));
        uses.insert((*file).clone(), used.collect());
    }
    uses
}

fn path_of(file: &str) -> Path {
    let name = file.trim_end_matches(".rs");
    if name == "lib" || name == "main" {
        return Path::new();
    }
    name.split('/').map(str::to_owned).collect()
}

fn shortest_circle(uses: &Uses) -> Option<Vec<String>> {
    let circles = uses.keys().filter_map(|start| circle_from(uses, start));
    circles.min_by_key(|circle| (circle.len(), circle.clone()))
}

/// The shortest way from `start` back to it.
fn circle_from(uses: &Uses, start: &str) -> Option<Vec<String>> {
    let mut open = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = open.pop_front() {
        for next in way
            .last()
            .and_then(|last| uses.get(last))
            .into_iter()
            .flatten()
        {
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                open.push_back(longer);
            }
        }
    }
    None
}

// === impl Module ===

impl Module {
    fn read(text: &str) -> Self {
        let source = Source::read(text);
        let tokens = source.product();
        let mut module = Self::default();
        let mut before = "";
        let mut rest = tokens.as_slice();
        let mut visible = false;
        while let Some((token, tail)) = rest.split_first() {
            let mut length = 1;
            match (*token, tail) {
                // Not the `use<'a>` of a type.
                ("use", [next, ..]) if *next != "<" => {
                    length += tail
                        .iter()
                        .position(|one| *one == ";")
                        .unwrap_or(tail.len());
                    let tree = tail.get(..length - 1).unwrap_or_default();
                    module.import(tree, &Path::new(), visible);
                }
                ("mod", [name, ";", ..]) => {
                    module.children.insert((*name).to_owned());
                    length += 2;
                }
                (
                    "struct" | "enum" | "trait" | "type" | "fn" | "const" | "static" | "union",
                    [name, ..],
                ) => {
                    module.defined.insert((*name).to_owned());
                }
                (word, _) if is_name(word) && before != "." && before != "::" => {
                    let path = path_at(rest);
                    length += 2 * (path.len() - 1);
                    if path.len() > 1 {
                        module.paths.insert(path);
                    } else {
                        module.words.insert(word.to_owned());
                    }
                }
                _ => {}
            }
            // `pub` or `pub(crate)` stands before the next token.
            visible =
                *token == "pub" || (visible && ["(", ")", "crate", "super", "in"].contains(token));
            before = token;
            rest = rest.get(length..).unwrap_or_default();
        }
        module
    }

    /// Reads what follows `use`, below `prefix`.
    fn import(&mut self, tree: &[&str], prefix: &Path, visible: bool) {
        let mut path = prefix.clone();
        let mut rest = tree;
        loop {
            match rest {
                ["{", inner @ .., "}"] => {
                    for branch in branches(inner) {
                        self.import(branch, &path, visible);
                    }
                    return;
                }
                ["*"] => {
                    self.globs.push(path);
                    return;
                }
                ["self"] if !path.is_empty() => break,
                ["self", "as", alias] if !path.is_empty() => {
                    return self.name(alias, path, visible);
                }
                [last, "as", alias] => {
                    path.push((*last).to_owned());
                    return self.name(alias, path, visible);
                }
                [segment, "::", more @ ..] => {
                    path.push((*segment).to_owned());
                    rest = more;
                }
                [last] => {
                    path.push((*last).to_owned());
                    break;
                }
                // `use ::http` names another crate.
                _ => return,
            }
        }
        if let Some(name) = path.last().cloned() {
            self.name(&name, path, visible);
        }
    }

    fn name(&mut self, name: &str, path: Path, visible: bool) {
        if visible {
            self.handed_on.insert(name.to_owned());
        }
        self.imported.insert(name.to_owned(), path);
    }
}

/// The parts between commas that are not in inner braces.
fn branches<'b, 't>(tokens: &'b [&'t str]) -> Vec<&'b [&'t str]> {
    let mut depth = 0_i32;
    let parts = tokens.split(|token| {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && *token == ","
    });
    parts.filter(|part| !part.is_empty()).collect()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The path that begins here, such as `crate::a::B`.
fn path_at(tokens: &[&str]) -> Path {
    let mut path = Path::new();
    let mut rest = tokens;
    while let [name, more @ ..] = rest
        && is_name(name)
    {
        path.push((*name).to_owned());
        let ["::", next @ ..] = more else { break };
        rest = next;
    }
    path
}

// === impl Modules ===

impl Modules {
    /// The modules whose items the code of `path` uses.
    fn used_by(&self, path: &Path) -> BTreeSet<Path> {
        let Some(module) = self.0.get(path) else {
            return BTreeSet::new();
        };
        let imports = module.imported.iter().filter(|(name, target)| {
            let below = self.home(path, target, FUEL).is_some_and(|home| {
                home.module.len() > path.len() && home.module.starts_with(path)
            });
            let only_handed_on = module.handed_on.contains(*name) && below;
            !only_handed_on || module.words.contains(*name)
        });
        let mut paths: Vec<&Path> = imports.map(|(_, target)| target).collect();
        paths.extend(&module.globs);
        paths.extend(&module.paths);
        let homes = paths
            .into_iter()
            .filter_map(|target| self.home(path, target, FUEL));
        homes
            .filter(|home| home.is_item)
            .map(|home| home.module)
            .collect()
    }

    /// Where the item that `path` names in the module `from` is defined; `None` for another crate.
    fn home(&self, from: &Path, path: &[String], fuel: usize) -> Option<Home> {
        let fuel = fuel.checked_sub(1)?;
        let (first, tail) = path.split_first()?;
        let module = self.0.get(from)?;
        let (mut at, mut rest) = match first.as_str() {
            "crate" => (Path::new(), tail),
            "self" => (from.clone(), tail),
            "super" => (from.split_last()?.1.to_vec(), tail),
            name if module.children.contains(name) || module.imported.contains_key(name) => {
                (from.clone(), path)
            }
            _ => return None,
        };
        while let Some((name, tail)) = rest.split_first() {
            let module = self.0.get(&at)?;
            if name == "super" {
                at.pop();
            } else if module.children.contains(name) {
                at.push(name.clone());
            } else if let Some(target) = module.imported.get(name) {
                return self.home(&at, &[target, tail].concat(), fuel);
            } else {
                let globs = module
                    .globs
                    .iter()
                    .filter(|_| !module.defined.contains(name));
                let mut through =
                    globs.filter_map(|glob| self.home(&at, &[glob, rest].concat(), fuel));
                return through.next().or(Some(Home {
                    module: at,
                    is_item: true,
                }));
            }
            rest = tail;
        }
        Some(Home {
            module: at,
            is_item: false,
        })
    }
}

/// Longest chain of re-exports; a name that leads back to itself belongs to another crate.
const FUEL: usize = 32;
