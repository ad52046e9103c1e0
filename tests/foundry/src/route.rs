//! Which surface a request is for.

use http::{Method, request::Parts};

use crate::errors::Failure;

/// The two API generations of Azure OpenAI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect<'a> {
    /// `/openai/v1/...`: the model is in the body, the api-version optional.
    V1,
    /// `/openai/...?api-version=`: the deployment is in the path.
    Dated { version: &'a str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Chat { deployment: Option<&'a str> },
    Models,
    Model { name: &'a str },
}

/// Whether a path belongs to the v1 surface; known before the rest, since keys are judged by it.
pub(crate) fn is_v1(path: &str) -> bool {
    path.starts_with("/openai/v1/")
}

/// Finds the surface, or tells in Foundry's words that there is none.
pub(crate) fn route(parts: &Parts) -> Result<(Dialect<'_>, Target<'_>), Failure> {
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let version = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("api-version="));
    let rest = path
        .strip_prefix("/openai/")
        .ok_or_else(Failure::no_resource)?;
    if let Some(rest) = rest.strip_prefix("v1/") {
        if !matches!(version, None | Some("v1" | "preview")) {
            let status = http::StatusCode::BAD_REQUEST;
            return Err(Failure::coded(
                status,
                "BadRequest",
                "API version not supported",
            ));
        }
        let target = match (&parts.method, rest) {
            (&Method::POST, "chat/completions") => Target::Chat { deployment: None },
            (&Method::GET, "models") => Target::Models,
            (&Method::GET, rest) => {
                let name = rest
                    .strip_prefix("models/")
                    .ok_or_else(Failure::no_resource)?;
                Target::Model { name }
            }
            _ => return Err(Failure::no_resource()),
        };
        return Ok((Dialect::V1, target));
    }
    let version = version
        .filter(|v| is_dated(v))
        .ok_or_else(Failure::no_resource)?;
    let target = match (&parts.method, rest, rest.strip_prefix("deployments/")) {
        (&Method::GET, "models", _) => Target::Models,
        (&Method::POST, _, Some(rest)) => match rest.split_once('/') {
            Some((name, "chat/completions")) => Target::Chat {
                deployment: Some(name),
            },
            _ => return Err(Failure::no_resource()),
        },
        _ => return Err(Failure::no_resource()),
    };
    Ok((Dialect::Dated { version }, target))
}

impl Dialect<'_> {
    /// The first version with `stream_options` is 2024-09-01-preview; older ones answer 400.
    pub(crate) fn has_stream_options(self) -> bool {
        match self {
            Self::V1 => true,
            Self::Dated { version } => version >= "2024-09-01",
        }
    }

    /// The version's name, as error messages have it.
    pub(crate) fn version(&self) -> &str {
        match self {
            Self::V1 => "v1",
            Self::Dated { version } => version,
        }
    }
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

#[cfg(test)]
mod tests;
