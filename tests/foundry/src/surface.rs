//! Which of Foundry's surfaces a request is for: it decides the credentials and versions that are taken,
//! and what is left of the path.

use crate::{auth::Form, errors::Failure};

/// A surface, with what its path and query name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface<'a> {
    /// `/openai/v1/...`: the model is in the body, the api-version optional.
    V1,
    /// `/openai/...?api-version=`: the same for what has no deployment in its path.
    Dated { version: &'a str },
    /// `/openai/deployments/{name}/...?api-version=`
    Deployment { name: &'a str, version: &'a str },
    /// `/anthropic/...`: Claude, in the shapes of Anthropic.
    Anthropic,
}

/// The kinds of [`Surface`], as the table of routes names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    V1,
    Dated,
    Deployment,
    Anthropic,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) surface: Surface<'a>,
    /// The project in whose name it comes, if any; objects of one are unknown elsewhere.
    pub(crate) project: Option<&'a str>,
    /// The path below the surface.
    pub(crate) rest: &'a str,
}

/// The forms of credentials that a path takes; known before the rest, since the key is judged first.
/// Foundry's dated surface takes only Entra tokens as bearer.
pub(crate) fn credentials(path: &str) -> &'static [Form] {
    if is_anthropic(path) {
        &[Form::XApiKey, Form::ApiKey, Form::Bearer]
    } else if path.starts_with("/openai/v1/") || path.starts_with(PROJECTS) {
        &[Form::ApiKey, Form::Bearer]
    } else {
        &[Form::ApiKey]
    }
}

/// Whether a path belongs to Anthropic's surface, which reports failures in a shape of its own.
pub(crate) fn is_anthropic(path: &str) -> bool {
    path.starts_with(ANTHROPIC)
}

const ANTHROPIC: &str = "/anthropic/";
const PROJECTS: &str = "/api/projects/";

impl<'a> Place<'a> {
    /// Finds the surface, or tells in Foundry's words that there is none.
    pub(crate) fn of(path: &'a str, query: &'a str) -> Result<Self, Failure> {
        if let Some(rest) = path.strip_prefix(ANTHROPIC) {
            return Ok(Self {
                surface: Surface::Anthropic,
                project: None,
                rest,
            });
        }
        let (project, path) = match path.strip_prefix(PROJECTS) {
            Some(rest) => {
                let (name, _) = rest.split_once('/').ok_or_else(Failure::no_resource)?;
                (Some(name), rest.get(name.len()..).unwrap_or_default())
            }
            None => (None, path),
        };
        let version = parameter(query, "api-version");
        let rest = path
            .strip_prefix("/openai/")
            .ok_or_else(Failure::no_resource)?;
        let (surface, rest) = if let Some(rest) = rest.strip_prefix("v1/") {
            if !matches!(version, None | Some("v1" | "preview")) {
                let status = http::StatusCode::BAD_REQUEST;
                let message = "API version not supported";
                return Err(Failure::coded(status, "BadRequest", message));
            }
            (Surface::V1, rest)
        } else {
            // A project's own routes name the version `v1`.
            let known = |v: &&str| is_dated(v) || (project.is_some() && *v == "v1");
            let version = version.filter(known).ok_or_else(Failure::no_resource)?;
            match rest
                .strip_prefix("deployments/")
                .and_then(|rest| rest.split_once('/'))
            {
                Some((name, rest)) => (Surface::Deployment { name, version }, rest),
                None => (Surface::Dated { version }, rest),
            }
        };
        Ok(Self {
            surface,
            project,
            rest,
        })
    }
}

impl Surface<'_> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::V1 => Kind::V1,
            Self::Dated { .. } => Kind::Dated,
            Self::Deployment { .. } => Kind::Deployment,
            Self::Anthropic => Kind::Anthropic,
        }
    }

    /// The first version with `stream_options` is 2024-09-01-preview; older ones answer 400.
    pub(crate) fn has_stream_options(&self) -> bool {
        match self {
            Self::V1 | Self::Anthropic => true,
            Self::Dated { version } | Self::Deployment { version, .. } => *version >= "2024-09-01",
        }
    }

    /// Whether its version is older than this date.
    pub(crate) fn is_before(&self, date: &str) -> bool {
        match self {
            Self::V1 | Self::Anthropic => false,
            Self::Dated { version } | Self::Deployment { version, .. } => *version < date,
        }
    }

    /// The version's name, as error messages have it.
    pub(crate) fn version(&self) -> &str {
        match self {
            Self::V1 | Self::Anthropic => "v1",
            Self::Dated { version } | Self::Deployment { version, .. } => version,
        }
    }
}

/// The value of a query parameter, as it stands there.
pub(crate) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(is, value)| (is == name).then_some(value))
}

/// `YYYY-MM-DD`, with or without `-preview`.
fn is_dated(version: &str) -> bool {
    let date = version
        .strip_suffix("-preview")
        .unwrap_or(version)
        .as_bytes();
    date.len() == 10
        && date.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}
