//! A folder of manifests: reads, decodes and compiles it, and places each mistake in its file and line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use operator_compile::{Compiled, Index, ObjectRef, Settings, Severity, compile, decode};

use crate::yaml::{Document, documents};

#[cfg(test)]
mod tests;

/// One mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, within the folder.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in which field, and the fix.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}: {}",
            self.file.display(),
            self.line,
            self.severity,
            self.message
        )
    }
}

/// A folder and its content when it was last read.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    settings: Settings,
    /// The last valid content of each file: a file that is invalid for a moment, as during a write,
    /// keeps its content from before.
    files: BTreeMap<PathBuf, File>,
}

#[derive(Debug)]
struct File {
    stamp: Stamp,
    documents: Vec<Document>,
    broken: Vec<Finding>,
}

/// The sign that a file may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
}

/// A compiled folder.
#[derive(Debug)]
pub struct Outcome {
    /// The table's contents, and a verdict for each object.
    pub compiled: Compiled,
    /// All mistakes, in order of file and line.
    pub findings: Vec<Finding>,
}

impl Folder {
    /// A folder that has not been read yet.
    #[must_use]
    pub fn new(path: &Path, namespace: &str) -> Self {
        let settings = Settings {
            own_namespace: namespace.to_owned(),
            grants_served: true,
        };
        Self {
            path: path.to_owned(),
            settings,
            files: BTreeMap::new(),
        }
    }

    /// Reads what changed since the last time. Returns whether anything did.
    ///
    /// # Errors
    /// The folder cannot be listed. A file that cannot be read is a finding.
    pub fn refresh(&mut self) -> Result<bool> {
        let listed = self.list()?;
        let mut changed = self.files.keys().any(|file| !listed.contains_key(file));
        self.files.retain(|file, _| listed.contains_key(file));
        for (name, stamp) in listed {
            if self
                .files
                .get(&name)
                .is_some_and(|file| file.stamp == stamp)
            {
                continue;
            }
            changed = true;
            self.read(&name, stamp);
        }
        Ok(changed)
    }

    fn list(&self) -> Result<BTreeMap<PathBuf, Stamp>> {
        let context = || format!("cannot read the folder {}", self.path.display());
        let mut listed = BTreeMap::new();
        for entry in std::fs::read_dir(&self.path).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let is_yaml = path
                .extension()
                .is_some_and(|kind| kind == "yaml" || kind == "yml");
            // Follows links, as a mounted ConfigMap needs; a dangling link is no file.
            let Ok(file) = std::fs::metadata(&path) else {
                continue;
            };
            if let (true, true, Some(name)) = (is_yaml, file.is_file(), path.file_name()) {
                let stamp = Stamp {
                    modified: file.modified().ok(),
                    size: file.len(),
                };
                listed.insert(PathBuf::from(name), stamp);
            }
        }
        Ok(listed)
    }

    fn read(&mut self, name: &Path, stamp: Stamp) {
        let broken = |line, message| Finding {
            file: name.to_owned(),
            line,
            severity: Severity::Error,
            message,
        };
        let mut file = File {
            stamp,
            documents: Vec::new(),
            broken: Vec::new(),
        };
        match std::fs::read_to_string(self.path.join(name)) {
            Ok(text) => {
                for document in documents(&text) {
                    match document {
                        Ok(document) => file.documents.push(document),
                        Err(error) => file.broken.push(broken(error.line, error.message)),
                    }
                }
            }
            Err(error) => file
                .broken
                .push(broken(1, format!("the file cannot be read: {error}"))),
        }
        if let Some(before) = self.files.get_mut(name)
            && !file.broken.is_empty()
        {
            before.stamp = stamp;
            before.broken = file.broken;
            return;
        }
        self.files.insert(name.to_owned(), file);
    }

    /// Compiles the content that was read.
    #[must_use]
    pub fn compile(&self) -> Outcome {
        let mut index = Index::default();
        let mut findings = Vec::new();
        let mut places: BTreeMap<ObjectRef, (&Path, &Document)> = BTreeMap::new();
        for (name, file) in &self.files {
            findings.extend(file.broken.iter().cloned());
            for document in &file.documents {
                let finding = |field: &str, severity, message: String| Finding {
                    file: name.clone(),
                    line: document.line(field),
                    severity,
                    message,
                };
                let value = document.value();
                let text = |field: &str| value.get(field).and_then(serde_json::Value::as_str);
                let (Some(kind), Some(version)) = (text("kind"), text("apiVersion")) else {
                    let message = "apiVersion and kind are required".to_owned();
                    findings.push(finding("kind", Severity::Error, message));
                    continue;
                };
                match decode(kind, version, value.clone()) {
                    Ok(Some(object)) => {
                        let object_ref = object.object_ref();
                        if let Some((other, at)) = places.get(&object_ref) {
                            let (other, line) = (other.display(), at.line("kind"));
                            let message =
                                format!("{object_ref} is already in {other}:{line}; keep one");
                            findings.push(finding("metadata.name", Severity::Error, message));
                            continue;
                        }
                        places.insert(object_ref, (name, document));
                        index.apply(object);
                    }
                    Ok(None) => {
                        let message = format!("{kind} ({version}) is not ours and was skipped");
                        findings.push(finding("kind", Severity::Warning, message));
                    }
                    Err(problem) => {
                        let message = problem.to_string();
                        findings.push(finding(&problem.field, Severity::Error, message));
                        if let Some(object) = problem.into_object() {
                            index.apply(object);
                        }
                    }
                }
            }
        }
        let compiled = compile(&index, &self.settings);
        for diagnostic in compiled
            .verdicts
            .values()
            .flat_map(|verdict| &verdict.diagnostics)
        {
            let Some((file, document)) = places.get(&diagnostic.object) else {
                continue;
            };
            let place = if diagnostic.field.is_empty() {
                "kind"
            } else {
                &diagnostic.field
            };
            let field = if diagnostic.field.is_empty() {
                String::new()
            } else {
                format!("{}: ", diagnostic.field)
            };
            findings.push(Finding {
                file: file.to_path_buf(),
                line: document.line(place),
                severity: diagnostic.severity,
                message: format!("{}: {field}{}", diagnostic.object, diagnostic.message),
            });
        }
        findings.sort();
        findings.dedup();
        Outcome { compiled, findings }
    }
}
