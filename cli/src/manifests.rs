//! A folder of manifests: reads, decodes and compiles it, and places each mistake in its file and line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use operator_compile::{
    Compiled, Day, HostGrant, IdentityGrants, Index, Kind, ObjectRef, Secrets, Settings, Severity,
    Tenants, compile, decode,
};
use proxy_admin::clock;
use proxy_core::reach::Reach;
use proxy_core::route::HostPattern;

use self::parents::Parents;
use crate::yaml::{Document, documents};

mod external;
mod parents;
mod pinned;
mod unserved;

#[cfg(test)]
mod tests;

/// A file that is gone counts as removed once nothing in the folder has changed for this time: a checkout
/// takes files away before it brings others.
const QUIET: Duration = Duration::from_secs(2);
/// And at the latest after this time, in a folder that never is quiet.
const AT_LATEST: Duration = Duration::from_secs(30);

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
    /// Whether `parentRefs` are judged by the Gateways of the folder. Otherwise they are refused: there are no others.
    has_gateways: bool,
    /// The last change that a follower saw.
    changed_at: Option<Instant>,
    /// The last valid content of each file: a file that is invalid for a moment, as during a write,
    /// keeps its content from before.
    files: BTreeMap<PathBuf, File>,
}

#[derive(Debug)]
struct File {
    stamp: Stamp,
    documents: Vec<Document>,
    broken: Vec<Finding>,
    /// Since when a follower misses it. What it said holds until it counts as removed, except for objects
    /// that are in another file now.
    gone_since: Option<Instant>,
}

/// What a follower finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that matters.
    None,
    /// Compile it again.
    Content,
    /// No manifest is left. What the folder said before still holds.
    Emptied,
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
    pub fn new(path: &Path, namespace: &str, host_grants: Vec<HostGrant>) -> Self {
        let settings = Settings {
            own_namespace: namespace.to_owned(),
            grants_served: true,
            tenants: Tenants::OfRoutes,
            host_grants,
            identity_grants: IdentityGrants::All,
            secrets: Secrets::All,
            reach: Reach::local(),
            backend_hosts: Vec::new(),
            gateways: None,
            today: Day::at(0),
        };
        Self {
            path: path.to_owned(),
            settings,
            has_gateways: false,
            changed_at: None,
            files: BTreeMap::new(),
        }
    }

    /// Lets backends have these hosts alone, unless there is none.
    #[must_use]
    pub fn with_backend_hosts(mut self, hosts: &[HostPattern]) -> Self {
        self.settings.backend_hosts = hosts.to_vec();
        self
    }

    /// Lets backends be where the gateway connects to.
    #[must_use]
    pub fn with_reach(mut self, reach: Reach) -> Self {
        self.settings.reach = reach;
        self
    }

    /// Judges `parentRefs` for a cluster, by the Gateways of the folder. For others that are named it warns.
    #[must_use]
    pub const fn with_gateways_of_the_folder(mut self) -> Self {
        self.has_gateways = true;
        self
    }

    /// Expects Secrets that the folder lacks somewhere else, as with External Secrets or Sealed Secrets.
    #[must_use]
    pub fn with_external_secrets(mut self, external: bool) -> Self {
        self.settings.secrets = if external {
            Secrets::Some
        } else {
            Secrets::All
        };
        self
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

    /// Reads what changed, as [`Folder::refresh`] does, but takes files away late: one that is gone for a
    /// moment changes nothing, and without any file the folder keeps what it said.
    ///
    /// # Errors
    /// The folder cannot be listed. What it said holds.
    pub fn follow(&mut self, now: Instant) -> Result<Change> {
        let listed = self.list()?;
        let (mut content, mut seen) = (false, false);
        for (name, file) in &mut self.files {
            let is_gone = !listed.contains_key(name);
            if is_gone != file.gone_since.is_some() {
                file.gone_since = is_gone.then_some(now);
                // Back: it comes before the other files again.
                content |= !is_gone;
                seen = true;
            }
        }
        let is_empty = listed.is_empty();
        for (name, stamp) in listed {
            let known = self.files.get(&name);
            if known.is_none_or(|file| file.stamp != stamp) {
                self.read(&name, stamp);
                (content, seen) = (true, true);
            }
        }
        if seen {
            self.changed_at = Some(now);
        }
        if is_empty {
            return Ok(Change::Emptied);
        }
        let passed = |since: Option<Instant>, span| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= span)
        };
        let is_quiet = passed(self.changed_at, QUIET);
        let before = self.files.len();
        self.files.retain(|_, file| {
            file.gone_since.is_none() || !(is_quiet || passed(file.gone_since, AT_LATEST))
        });
        content |= self.files.len() != before;
        Ok(if content {
            Change::Content
        } else {
            Change::None
        })
    }

    fn list(&self) -> Result<BTreeMap<PathBuf, Stamp>> {
        let context = || format!("cannot read the folder {}", self.path.display());
        let mut listed = BTreeMap::new();
        for entry in std::fs::read_dir(&self.path).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let is_manifest = path
                .extension()
                .is_some_and(|kind| ["yaml", "yml", "json"].iter().any(|one| kind == *one));
            // Follows links, as a mounted ConfigMap needs; a dangling link is no file.
            let Ok(file) = std::fs::metadata(&path) else {
                continue;
            };
            // An empty file may be one that is about to be written.
            let counts = is_manifest && file.is_file() && file.len() > 0;
            if let (true, Some(name)) = (counts, path.file_name()) {
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
            gone_since: None,
        };
        match std::fs::read_to_string(self.path.join(name)) {
            Ok(text) => {
                for document in documents(&text) {
                    match document {
                        Ok(document) => file.documents.extend(document.items()),
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
            before.gone_since = None;
            return;
        }
        self.files.insert(name.to_owned(), file);
    }

    /// Compiles the content that was read.
    #[must_use]
    pub fn compile(&self) -> Outcome {
        let mut reading = Reading {
            parents: self.has_gateways.then(Parents::default),
            ..Reading::default()
        };
        let (there, gone): (Vec<_>, Vec<_>) = self
            .files
            .iter()
            .partition(|(_, file)| file.gone_since.is_none());
        for (name, file) in there {
            reading.findings.extend(file.broken.iter().cloned());
            for document in &file.documents {
                reading.add(name, document);
            }
        }
        for (name, file) in gone {
            for document in &file.documents {
                reading.add_what_was(name, document);
            }
        }
        let Reading {
            mut index,
            mut findings,
            places,
            parents,
        } = reading;
        let mut settings = Settings {
            today: Day::at(clock::now().unix_ms),
            ..self.settings.clone()
        };
        let objects = places.iter();
        let routes = objects.map(|(object, (_, document))| (object, document.value()));
        if let Some((gateways, unjudged)) = parents.and_then(|parents| parents.of(routes)) {
            settings.gateways = Some(gateways);
            let warnings = unjudged.into_iter();
            findings.extend(
                warnings.filter_map(|one| warning(&places, &one.route, &one.field, &one.message)),
            );
        }
        let mut compiled = compile(&index, &settings);
        if self.settings.secrets == Secrets::Some {
            let source = |object: &ObjectRef| Some(places.get(object)?.1.value());
            let missing = external::assume(&compiled, source, &mut index);
            if !missing.is_empty() {
                compiled = compile(&index, &settings);
            }
            for one in missing {
                findings.extend(warning(&places, &one.object, &one.field, &one.message));
            }
        }
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
        let lacking = |version: &str| proxy_api::lacking(proxy_api::ROWS, version);
        let pinned = pinned::rules(&compiled.contents, lacking).into_iter();
        findings.extend(pinned.filter_map(|one| pinned_finding(&places, &one)));
        findings.sort();
        findings.dedup();
        Outcome { compiled, findings }
    }
}

/// A warning of a rule whose backends lack what it is for.
fn pinned_finding(places: &Places<'_>, one: &pinned::Pinned<'_>) -> Option<Finding> {
    let object = ObjectRef::new(Kind::AiRoute, one.route.clone());
    let (_, document) = places.get(&object)?;
    let field = rule_field(&document.value(), one.rule);
    warning(places, &object, &field, &one.message)
}

/// A warning of a field; `None` if the object is in no file.
fn warning(places: &Places<'_>, object: &ObjectRef, field: &str, message: &str) -> Option<Finding> {
    let (file, document) = places.get(object)?;
    Some(Finding {
        file: file.to_path_buf(),
        line: document.line(field),
        severity: Severity::Warning,
        message: format!("{object}: {field}: {message}"),
    })
}

/// The field of a rule in an AIRoute.
fn rule_field(route: &serde_json::Value, name: &str) -> String {
    let rules = route.pointer("/spec/rules");
    let mut rules = rules
        .and_then(|rules| rules.as_array())
        .into_iter()
        .flatten();
    let is_named = |rule: &serde_json::Value| rule.get("name").is_some_and(|is| is == name);
    let index = rules.position(is_named);
    index.map_or_else(
        || "spec.rules".to_owned(),
        |index| format!("spec.rules[{index}]"),
    )
}

/// Where each object is.
type Places<'a> = BTreeMap<ObjectRef, (&'a Path, &'a Document)>;

/// Documents on their way into the index.
#[derive(Default)]
struct Reading<'a> {
    index: Index,
    findings: Vec<Finding>,
    places: Places<'a>,
    /// What is said of Gateways, if they are judged.
    parents: Option<Parents>,
}

// === impl Reading ===

impl<'a> Reading<'a> {
    fn add(&mut self, name: &'a Path, document: &'a Document) {
        let finding = |field: &str, severity, message: String| Finding {
            file: name.to_owned(),
            line: document.line(field),
            severity,
            message,
        };
        let value = document.value();
        let text = |field: &str| value.get(field).and_then(serde_json::Value::as_str);
        let (Some(kind), Some(version)) = (text("kind"), text("apiVersion")) else {
            let message = "apiVersion and kind are required".to_owned();
            self.findings
                .push(finding("kind", Severity::Error, message));
            return;
        };
        match decode(kind, version, value.clone()) {
            Ok(Some(object)) => {
                let object_ref = object.object_ref();
                if let Some((other, at)) = self.places.get(&object_ref) {
                    let (other, line) = (other.display(), at.line("kind"));
                    let message = format!("{object_ref} is already in {other}:{line}; keep one");
                    self.findings
                        .push(finding("metadata.name", Severity::Error, message));
                    return;
                }
                for (field, message) in unserved::operations(kind, &value) {
                    let message = format!("{object_ref}: {field}: {message}");
                    self.findings
                        .push(finding(&field, Severity::Warning, message));
                }
                self.places.insert(object_ref, (name, document));
                self.index.apply(object);
            }
            Ok(None)
                if self
                    .parents
                    .as_mut()
                    .is_some_and(|parents| parents.take(&value)) => {}
            Ok(None) => {
                let message = format!("{kind} ({version}) is not ours and was skipped");
                self.findings
                    .push(finding("kind", Severity::Warning, message));
            }
            Err(problem) => {
                let message = problem.to_string();
                self.findings
                    .push(finding(&problem.field, Severity::Error, message));
                if let Some(object) = problem.into_object() {
                    self.index.apply(object);
                }
            }
        }
    }

    /// Adds a document of a file that is gone, unless its object is somewhere else now. Its mistakes are
    /// known.
    fn add_what_was(&mut self, name: &'a Path, document: &'a Document) {
        let value = document.value();
        let text = |field: &str| value.get(field).and_then(serde_json::Value::as_str);
        let (Some(kind), Some(version)) = (text("kind"), text("apiVersion")) else {
            return;
        };
        let object = match decode(kind, version, value.clone()) {
            Ok(object) => object,
            Err(problem) => problem.into_object(),
        };
        if let Some(object) = object
            && !self.places.contains_key(&object.object_ref())
        {
            self.places.insert(object.object_ref(), (name, document));
            self.index.apply(object);
        }
    }
}
