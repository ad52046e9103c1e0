//! Bodies in `multipart/form-data`, read as strictly as the APIs that take them do.

use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::{Map, Value};

use crate::{
    body::{Object, missing},
    errors::Failure,
};

/// A file of a form.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) data: Bytes,
}

/// A form, in the order of its parts.
#[derive(Debug, Default)]
pub(crate) struct Form {
    fields: Vec<(String, String)>,
    pub(crate) files: Vec<File>,
}

impl Form {
    pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, Failure> {
        let kind = headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let boundary = kind
            .strip_prefix("multipart/form-data")
            .and_then(|rest| rest.split_once("boundary="))
            .map(|(_, boundary)| {
                boundary
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .trim_matches('"')
            });
        let Some(boundary) = boundary.filter(|boundary| !boundary.is_empty()) else {
            let message = "Content-Type header must be 'multipart/form-data' with a boundary.";
            return Err(Failure::invalid(
                message,
                None,
                Some("invalid_content_type"),
            ));
        };
        let mut form = Self::default();
        form.parts(boundary, body).ok_or_else(|| {
            let message = "There was an error parsing the body: the form is not valid.";
            Failure::invalid(message, None, None)
        })?;
        Ok(form)
    }

    fn parts(&mut self, boundary: &str, body: &Bytes) -> Option<()> {
        let mark = format!("\r\n--{boundary}");
        let mut at = mark.len() - 2;
        if !body.starts_with(mark.get(2..)?.as_bytes()) {
            return None;
        }
        loop {
            let rest = body.get(at..)?;
            if rest.starts_with(b"--") {
                return Some(());
            }
            let head = rest.strip_prefix(b"\r\n")?;
            let end = find(head, b"\r\n\r\n")?;
            let start = at + 2 + end + 4;
            let size = find(body.get(start..)?, mark.as_bytes())?;
            let data = body.slice(start..start + size);
            self.part(str::from_utf8(head.get(..end)?).ok()?, data)?;
            at = start + size + mark.len();
        }
    }

    fn part(&mut self, head: &str, data: Bytes) -> Option<()> {
        let line = head.lines().find(|line| {
            line.to_ascii_lowercase()
                .starts_with("content-disposition:")
        })?;
        let parameter = |name: &str| {
            let (_, rest) = line.split_once(&format!("; {name}=\""))?;
            rest.split('"').next().map(str::to_owned)
        };
        let field = parameter("name")?;
        match parameter("filename") {
            Some(name) => self.files.push(File { field, name, data }),
            None => self
                .fields
                .push((field, str::from_utf8(&data).ok()?.to_owned())),
        }
        Some(())
    }

    /// The one file of that field.
    pub(crate) fn file(&self, field: &str) -> Result<&File, Failure> {
        let file = self.files.iter().find(|file| file.field == field);
        file.ok_or_else(|| missing(field))
    }

    /// Refuses what is not among these names; `x[]` may be a list.
    pub(crate) fn check(&self, names: &[&str]) -> Result<(), Failure> {
        let unknown = self
            .members()
            .into_iter()
            .find(|name| !names.contains(&name.trim_end_matches("[]")));
        match unknown {
            Some(name) => {
                let message = format!("Unknown parameter: '{name}'.");
                Err(Failure::invalid(
                    &message,
                    Some(&name),
                    Some("unknown_parameter"),
                ))
            }
            None => Ok(()),
        }
    }

    /// The fields as a JSON body would have them.
    pub(crate) fn object(&self) -> Object {
        let mut fields = Map::new();
        for (name, text) in &self.fields {
            let value = match text.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                text => text
                    .parse::<u64>()
                    .map_or_else(|_| Value::from(text), Value::from),
            };
            fields.insert(name.clone(), value);
        }
        Object::of(fields)
    }

    /// The names of all parts.
    pub(crate) fn members(&self) -> Vec<String> {
        let files = self.files.iter().map(|file| file.field.clone());
        self.fields
            .iter()
            .map(|(name, _)| name.clone())
            .chain(files)
            .collect()
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}
