//! What one row of the table of APIs says: the only place that knows an operation.
//!
//! A request carries its row; nothing else in the data plane knows an operation by name. A row that is
//! sent to a backend has a usage reader: an operation without a meter cannot be written down.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use proxy_core::names::Operation;
use proxy_core::table::BackendKind;

use crate::body::{Body, BoundName, Kept, Layout, Malformed, Members, model_name};
use crate::end_user::UserMember;
use crate::error::Dialect;
use crate::files::FileKind;
use crate::multipart::FormScan;
use crate::path::{Segments, decode, encode, is_ambiguous, matched};
use crate::prompt::Prompt;
use crate::stream::Grammar;
use crate::text::Text;
use crate::unserved::{self, Other};
use crate::usage::Reader;
use crate::{multipart, scan};

#[cfg(test)]
mod tests;

/// One operation in one dialect, by the shapes of its path.
#[derive(Debug)]
pub struct Api {
    /// What rules match on.
    pub operation: Operation,
    /// The shape of errors.
    pub dialect: Dialect,
    /// The method that is served; with `GET`, `HEAD` too.
    pub method: Method,
    /// The paths, with one segment for each name in braces: `{model}`, `{project}`, `{id}` of what a backend
    /// keeps, and `{item}` in it.
    pub paths: &'static [&'static str],
    /// Who answers.
    pub answer: Answer,
}

/// Who answers an operation.
#[derive(Debug)]
pub enum Answer {
    /// The gateway, by its table: costs nothing.
    Models,
    /// The gateway: the one model of the path.
    Model,
    /// The gateway: its models, as Azure's resource manager lists deployments.
    Deployments,
    /// The gateway: the one deployment of the path.
    Deployment,
    /// A backend.
    Backend(Call),
}

/// How an operation is put to a backend, and how its answer is measured.
#[derive(Debug)]
pub struct Call {
    /// How the body is written.
    pub form: Form,
    /// The members of the body that decide. The model is read from there if the path names none.
    pub members: &'static Members,
    /// The model that is asked where neither the path nor the body names one.
    pub default_model: Option<&'static str>,
    /// Where it goes.
    pub upstream: Upstream,
    /// The names that a bound on output tokens may have, the usual one first; empty if there is none.
    pub output_bounds: &'static [BoundName],
    /// Whether its answers have output tokens.
    pub has_output: bool,
    /// What a backend bills for it.
    pub billing: Billing,
    /// The members in which it takes the name of an end user.
    pub users: &'static [UserMember],
    /// How usage is asked for in a stream.
    pub usage_request: UsageRequest,
    /// How an answer is read, and a stream of events.
    pub events: &'static Grammar,
    /// How usage is read, from an answer and from an event.
    pub read_usage: Reader,
    /// How the prompt is counted; `None` for an operation whose prompt has no rule.
    pub prompt: Option<Prompt>,
    /// What the files of its form are; `None` for one without.
    pub files: Option<FileKind>,
    /// What the backend keeps of it; `None`: nothing.
    pub state: Option<State>,
}

/// What an operation has to do with what a backend keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What is kept.
    pub kept: Kept,
    /// What else the path names in it, if that is an id with an owner.
    pub item: Option<Kept>,
    /// It asks for it by its id, or makes a new one: no model is named.
    pub without_model: bool,
    /// Which ids its answer has.
    pub answers: Answers,
    /// The answer lists all that the backend keeps, whoever made it.
    pub lists: bool,
}

/// What the answer is to a call about what a backend keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// What is kept, with its id.
    Itself,
    /// Parts of it, in which others are named.
    Items,
    /// A page of a list, each element of which is kept by its own id.
    List,
    /// Nothing with ids, or what a client has put there.
    Bytes,
}

/// What a backend bills for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    /// What its usage tells.
    Metered,
    /// What its usage tells, if the answer is a stream of events; something that is not told, if it is none.
    MeteredInEvents,
    /// Something that its answer does not tell.
    Unmetered,
    /// What the lines of its file come to, which are answered later.
    Batch,
    /// Nothing, and it makes or moves something all the same: a request, for limits of these.
    Request,
    /// No tokens: what it makes costs by its size or its time, which no answer tells. A request, where no limit
    /// counts money.
    Priced,
    /// Nothing: it holds and drains no quota.
    Free,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object.
    Json,
    /// `multipart/form-data`.
    Multipart,
    /// Either of them, by the type that the client states.
    Either,
    /// Nothing, or something that decides nothing.
    Any,
}

/// Where an operation goes, by the kind of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// `OpenAI`'s paths: `/openai/deployments/{deployment}/SUFFIX` with a date, else
    /// `/openai/v1/SUFFIX`; `/v1/SUFFIX` at a compatible server.
    OpenAi(&'static str),
    /// Those that name no deployment: `/openai/SUFFIX` with a date, and the model in the body.
    Resource(&'static str),
    /// Those that no dated API has.
    Undated(&'static str),
    /// Anthropic's paths: `/anthropic/v1/SUFFIX`; `/v1/SUFFIX` at a compatible server.
    Anthropic(&'static str),
}

/// The first versions of the dated API by how suffixes begin, as Microsoft's "Azure OpenAI API version lifecycle" has
/// them. Foundry's refusals name that of Responses.
const FIRST_VERSIONS: [(&str, &str); 9] = [
    ("responses", "2025-03-01-preview"),
    ("images/edits", "2025-04-01-preview"),
    ("uploads", "2024-08-01-preview"),
    ("batches", "2024-07-01-preview"),
    ("vector_stores", "2024-05-01-preview"),
    ("audio/speech", "2024-02-15-preview"),
    ("images/generations", "2023-12-01-preview"),
    ("audio/tran", "2023-09-01-preview"),
    ("", "2022-12-01"),
];

/// How the usage of a stream is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageRequest {
    /// The stream carries it unasked, or the API has no streams.
    None,
    /// By `stream_options.include_usage`. The dated API knows it since this version; older ones
    /// answer 400.
    StreamOptions {
        /// `YYYY-MM-DD`.
        since: &'static str,
    },
}

/// A request's row, and the model if its path names one.
#[derive(Clone, Debug)]
pub struct Found {
    /// The row.
    pub api: &'static Api,
    /// The model, percent-decoded.
    pub model: Option<Arc<str>>,
    /// What else the path names.
    pub named: Option<Box<Named>>,
}

/// What a path names besides the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The project of a Foundry resource.
    pub project: Option<Box<str>>,
    /// The id of what a backend keeps.
    pub id: Option<Box<str>>,
    /// The id of an item in it.
    pub item: Option<Box<str>>,
}

/// Why no row serves a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// The path is ambiguous: proxies and servers read such paths differently.
    Ambiguous,
    /// An empty segment, where nothing else is wrong: most often of a base URL with a slash at its end.
    DoubleSlash,
    /// The path names a model as no client may.
    Model(Malformed),
    /// The path is of no row.
    Unknown,
    /// Servers of these APIs have the path, and the gateway does not.
    Operation(Other),
    /// The path is served by these methods.
    Method(Vec<Method>),
}

/// Finds the row of a request. A closed list: what has no row is not served, so nothing reaches a
/// backend unjudged. `HEAD` is served where `GET` is, by the same row.
///
/// # Errors
/// [`Unserved`].
pub fn find(rows: &'static [Api], method: &Method, path: &str) -> Result<Found, Unserved> {
    // Most paths are written in a row as they are, and no path of a row is ambiguous.
    let plain = |api: &&Api| api.serves(method) && api.paths.contains(&path);
    if let Some(api) = rows.iter().find(plain)
        && !path.contains('{')
    {
        return Ok(Found {
            api,
            model: None,
            named: None,
        });
    }
    if is_ambiguous(path) {
        return Err(Unserved::Ambiguous);
    }
    if path.contains("//") {
        return Err(Unserved::DoubleSlash);
    }
    let mut allowed = Vec::new();
    for api in rows {
        let Some(segments) = api.paths.iter().find_map(|shape| matched(shape, path)) else {
            continue;
        };
        if !api.serves(method) {
            allowed.extend(api.methods());
            continue;
        }
        let model = match segments.model.map(decode) {
            Some(None) => return Err(Unserved::Ambiguous),
            Some(Some(model)) => Some(model_name(&model).map_err(Unserved::Model)?),
            None => None,
        };
        return Ok(Found {
            api,
            model,
            named: Named::of(&segments).ok_or(Unserved::Ambiguous)?,
        });
    }
    if !allowed.is_empty() {
        return Err(Unserved::Method(allowed));
    }
    Err(unserved::named(path).map_or(Unserved::Unknown, Unserved::Operation))
}

/// The operations of these rows, each once and in their order.
#[must_use]
pub fn served(rows: &[Api]) -> Vec<Operation> {
    let mut served: Vec<Operation> = rows.iter().map(|row| row.operation).collect();
    served.dedup();
    served
}

/// The operations of these rows that this version of the dated API has in no form.
#[must_use]
pub fn lacking(rows: &[Api], version: &str) -> Vec<Operation> {
    let has = |api: &Api| {
        api.answer
            .call()
            .is_none_or(|call| call.upstream.is_in(version))
    };
    let mut all = served(rows);
    all.retain(|operation| {
        let mut rows = rows.iter().filter(|row| row.operation == *operation);
        !rows.any(has)
    });
    all
}

/// Whether an `api-version` is one of the dated API: a date, perhaps with `-preview`.
#[must_use]
pub fn is_dated(version: &str) -> bool {
    version.starts_with(|first: char| first.is_ascii_digit())
}

// === impl Api ===

impl Api {
    fn serves(&self, method: &Method) -> bool {
        self.method == *method || self.serves_head() && *method == Method::HEAD
    }

    /// Backends have no `HEAD`.
    fn serves_head(&self) -> bool {
        self.method == Method::GET && !matches!(self.answer, Answer::Backend(_))
    }

    fn methods(&self) -> impl Iterator<Item = Method> {
        let head = self.serves_head().then_some(Method::HEAD);
        std::iter::once(self.method.clone()).chain(head)
    }
}

// === impl Named ===

impl Named {
    /// `None` if one of the names has characters that no backend puts there.
    fn of(segments: &Segments<'_>) -> Option<Option<Box<Self>>> {
        let Segments {
            model: _,
            project,
            id,
            item,
        } = *segments;
        if project.is_none() && id.is_none() && item.is_none() {
            return Some(None);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let mut all = [project, id, item].into_iter().flatten();
        all.all(|name| name.bytes().all(is_plain)).then(|| {
            Some(Box::new(Self {
                project: project.map(Box::from),
                id: id.map(Box::from),
                item: item.map(Box::from),
            }))
        })
    }

    /// The end of a path with its ids in it.
    fn written(&self, suffix: &'static str) -> Cow<'static, str> {
        if !suffix.contains('{') {
            return Cow::Borrowed(suffix);
        }
        let id = |id: &Option<Box<str>>| encode(id.as_deref().unwrap_or_default());
        let written = suffix.replace("{id}", &id(&self.id));
        Cow::Owned(written.replace("{item}", &id(&self.item)))
    }
}

// === impl Answer ===

impl Answer {
    /// How it is put to a backend, if one answers.
    #[must_use]
    pub const fn call(&self) -> Option<&Call> {
        match self {
            Self::Backend(call) => Some(call),
            Self::Models | Self::Model | Self::Deployments | Self::Deployment => None,
        }
    }
}

// === impl Call ===

impl Call {
    /// Reads what the body says about itself; `in_path` if the path names the model.
    ///
    /// # Errors
    /// [`Malformed`] with a message for the client.
    pub fn scan(
        &self,
        content_type: Option<&str>,
        bytes: &Bytes,
        in_path: bool,
    ) -> Result<Body, Malformed> {
        match self.form_of(content_type) {
            Form::Json | Form::Either => scan::body(bytes, self.members, in_path),
            Form::Any => Ok(Body::new(Layout::Any)),
            Form::Multipart => {
                let boundary = multipart::boundary(content_type.unwrap_or(""))?;
                multipart::body(bytes, boundary, self.members, in_path)
            }
        }
    }

    /// A scan of a form that comes piece by piece; `None` for other bodies.
    ///
    /// # Errors
    /// [`Malformed`] with a message for the client.
    pub fn form_scan(
        &self,
        content_type: Option<&str>,
        in_path: bool,
    ) -> Result<Option<FormScan>, Malformed> {
        if self.form_of(content_type) != Form::Multipart {
            return Ok(None);
        }
        let boundary = multipart::boundary(content_type.unwrap_or(""))?;
        Ok(Some(FormScan::new(boundary, self.members, in_path)))
    }

    /// Whether a body of this type may have files, which are of any size.
    #[must_use]
    pub fn may_have_files(&self, content_type: impl FnOnce() -> Option<String>) -> bool {
        self.files.is_some()
            && (self.form != Form::Either
                || content_type().is_some_and(|kind| multipart::is_form(&kind)))
    }

    /// How a body of this type is written.
    fn form_of(&self, content_type: Option<&str>) -> Form {
        match self.form {
            Form::Either if content_type.is_some_and(multipart::is_form) => Form::Multipart,
            Form::Either => Form::Json,
            Form::Json | Form::Multipart | Form::Any => self.form,
        }
    }

    /// Whether the client names a model.
    #[must_use]
    pub const fn has_model(&self) -> bool {
        match &self.state {
            Some(state) => !state.without_model,
            None => true,
        }
    }

    /// What a backend bills for the answer to a request for a stream, or for none.
    #[must_use]
    pub const fn billing_of(&self, streams: bool) -> Billing {
        match self.billing {
            Billing::MeteredInEvents if streams => Billing::Metered,
            Billing::MeteredInEvents => Billing::Unmetered,
            Billing::Metered
            | Billing::Unmetered
            | Billing::Batch
            | Billing::Request
            | Billing::Priced
            | Billing::Free => self.billing,
        }
    }

    /// Output tokens by what a JSON answer shows, for one without usage; see [`Text::tokens`].
    pub fn counted_output(&self, answer: &[u8], count: impl FnOnce(&str) -> Option<u64>) -> u64 {
        let mut text = Text::default();
        if let Some(read) = self.events.answer {
            read(answer, &mut text);
        }
        text.tokens(count)
    }

    /// Whether a backend that is spoken to in this version of the dated API (`None`: in the undated
    /// one) takes the wish for usage.
    #[must_use]
    pub fn asks_usage(&self, dated: Option<&str>) -> bool {
        match self.usage_request {
            UsageRequest::None => false,
            UsageRequest::StreamOptions { since } => dated.is_none_or(|version| version >= since),
        }
    }
}

// === impl Upstream ===

impl Upstream {
    /// The dialect whose servers have it.
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::OpenAi(_) | Self::Resource(_) | Self::Undated(_) => Dialect::OpenAi,
            Self::Anthropic(_) => Dialect::Anthropic,
        }
    }

    /// Whether this version of the dated API has it, or its servers know no versions.
    #[must_use]
    pub fn is_in(self, version: &str) -> bool {
        matches!(self, Self::Anthropic(_))
            || self.first_version().is_some_and(|first| version >= first)
    }

    /// The first version of the dated API that has it.
    #[must_use]
    pub fn first_version(self) -> Option<&'static str> {
        match self {
            Self::Undated(_) | Self::Anthropic(_) => None,
            Self::OpenAi(suffix) | Self::Resource(suffix) => {
                let mut known = FIRST_VERSIONS.iter();
                let known = known.find(|(beginning, _)| suffix.starts_with(beginning));
                known.map(|(_, version)| *version)
            }
        }
    }

    /// The end of its path, in which `{id}` stands for what a request names.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        let (Self::OpenAi(suffix)
        | Self::Resource(suffix)
        | Self::Undated(suffix)
        | Self::Anthropic(suffix)) = self;
        suffix
    }

    /// Whether its path is the same for each request.
    #[must_use]
    pub fn is_fixed(self) -> bool {
        !self.suffix().contains('{')
    }

    /// The path in the undated API of a backend whose base URL has this path, for what the client's path
    /// names.
    #[must_use]
    pub fn undated(self, kind: BackendKind, prefix: &str, named: &Named) -> String {
        let (root, suffix) = match (self, kind) {
            (
                Self::OpenAi(suffix) | Self::Resource(suffix) | Self::Undated(suffix),
                BackendKind::Foundry,
            ) => ("/openai/v1", suffix),
            (Self::Anthropic(suffix), BackendKind::Foundry) => ("/anthropic/v1", suffix),
            (
                Self::OpenAi(suffix)
                | Self::Resource(suffix)
                | Self::Undated(suffix)
                | Self::Anthropic(suffix),
                BackendKind::OpenAiCompatible,
            ) => {
                let has_root = prefix.ends_with("/v1");
                (if has_root { "" } else { "/v1" }, suffix)
            }
        };
        let suffix = named.written(suffix);
        match &named.project {
            Some(project) if kind == BackendKind::Foundry => {
                let project = encode(project);
                format!("{prefix}/api/projects/{project}{root}/{suffix}")
            }
            Some(_) | None => format!("{prefix}{root}/{suffix}"),
        }
    }

    /// The path and query in this version of the dated API, and whether the model stands in the body there;
    /// `None` if that lacks it.
    #[must_use]
    pub fn dated(
        self,
        prefix: &str,
        deployment: &str,
        version: &str,
        named: &Named,
    ) -> Option<(String, bool)> {
        let query = encode(version);
        match self {
            // Projects came with the undated API.
            _ if named.project.is_some() => None,
            _ if !self.is_in(version) => None,
            Self::OpenAi(suffix) => {
                let deployment = encode(deployment);
                let path = format!(
                    "{prefix}/openai/deployments/{deployment}/{suffix}?api-version={query}"
                );
                Some((path, false))
            }
            Self::Resource(suffix) => {
                let suffix = named.written(suffix);
                let path = format!("{prefix}/openai/{suffix}?api-version={query}");
                Some((path, true))
            }
            Self::Undated(_) | Self::Anthropic(_) => None,
        }
    }
}
