//! YAML with positions: a tree that knows the line of each value.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

#[cfg(test)]
mod tests;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// The line of the file on which the document begins, from 1.
    first_line: u64,
    root: Node,
}

/// A document that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The line of the file.
    pub(crate) line: u64,
    pub(crate) message: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    /// Within the document, from 1.
    line: u64,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// Reads all documents of a file. Invalid ones do not affect the others; empty ones are skipped.
pub(crate) fn documents(text: &str) -> Vec<Result<Document, Broken>> {
    let mut all = Vec::new();
    let (mut first_line, mut part) = (1, String::new());
    let mut line_number = 0;
    let mut finish = |first_line: u64, part: &str| {
        let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        if !part.lines().all(blank) {
            all.push(document(first_line, part));
        }
    };
    for line in text.lines() {
        line_number += 1;
        // A marker is at the very start of a line, also within block scalars (YAML 1.2, 9.1).
        if line == "---" || line.starts_with("--- ") {
            finish(first_line, &part);
            (first_line, part) = (line_number + 1, String::new());
            continue;
        }
        part.push_str(line);
        part.push('\n');
    }
    finish(first_line, &part);
    all
}

fn document(first_line: u64, text: &str) -> Result<Document, Broken> {
    match serde_saphyr::from_str::<Spanned<Kind>>(text) {
        Ok(root) => Ok(Document {
            first_line,
            root: root.into(),
        }),
        Err(error) => {
            let line = error.location().map_or(1, |location| location.line());
            let whole = error.to_string();
            let message = whole.lines().next().unwrap_or("not valid YAML").to_owned();
            Err(Broken {
                line: first_line + line.saturating_sub(1),
                message,
            })
        }
    }
}

impl Document {
    /// The items of a list as `kubectl get -o yaml` writes it, each a document of its own; the document
    /// itself if it is no list.
    pub(crate) fn items(self) -> Vec<Self> {
        let Kind::Object(members) = &self.root.kind else {
            return vec![self];
        };
        let member = |wanted: &str| members.iter().find(|(name, _)| name == wanted);
        let is_list = member("kind").is_some_and(|(_, node)| match &node.kind {
            Kind::Scalar(Value::String(kind)) => kind.ends_with("List"),
            Kind::Scalar(_) | Kind::List(_) | Kind::Object(_) => false,
        });
        match member("items") {
            Some((
                _,
                Node {
                    kind: Kind::List(items),
                    ..
                },
            )) if is_list => items
                .iter()
                .map(|root| Self {
                    first_line: self.first_line,
                    root: root.clone(),
                })
                .collect(),
            Some(_) | None => vec![self],
        }
    }

    /// The document as JSON.
    pub(crate) fn value(&self) -> Value {
        self.root.value()
    }

    /// The line of `field` (such as `spec.rules[0].name`) in the file, or of its nearest parent that
    /// exists.
    pub(crate) fn line(&self, field: &str) -> u64 {
        let mut node = &self.root;
        let mut line = node.line;
        for step in field.split(['.', '[']).filter(|step| !step.is_empty()) {
            let next = match (&node.kind, step.strip_suffix(']')) {
                (Kind::List(items), Some(index)) => {
                    index.parse().ok().and_then(|index: usize| items.get(index))
                }
                (Kind::Object(members), _) => members
                    .iter()
                    .find(|(name, _)| name == step)
                    .map(|(_, node)| node),
                (Kind::Scalar(_) | Kind::List(_), _) => None,
            };
            let Some(next) = next else { break };
            node = next;
            line = node.line;
        }
        self.first_line + line.saturating_sub(1)
    }
}

impl Node {
    fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Kind::Object(members) => {
                let members = members
                    .iter()
                    .map(|(name, node)| (name.clone(), node.value()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}

impl From<Spanned<Kind>> for Node {
    fn from(spanned: Spanned<Kind>) -> Self {
        Self {
            line: spanned.referenced.line(),
            kind: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Kind, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Kind::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Kind>>()? {
            list.push(item.into());
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Kind, A::Error> {
        let mut object = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, Spanned<Kind>>()? {
            object.push((name, value.into()));
        }
        Ok(Kind::Object(object))
    }
}
