//! The query of `/explain`.

use std::num::ParseIntError;

use proxy_core::names::Operation;
use proxy_core::whatif::Question;
use url::form_urlencoded;

/// Why a query asks nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuestion {
    /// No model is named.
    #[error("model is missing")]
    NoModel,
    /// A value is not a number.
    #[error("{field}={value:?} is not a number")]
    NotANumber {
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        source: ParseIntError,
    },
    /// An attribute has no value.
    #[error("attribute={value:?} is not written NAME=VALUE")]
    NoAttribute {
        /// The value.
        value: String,
    },
    /// The operation does not exist.
    #[error("operation {word:?} does not exist; there are {}", Operation::ALL.map(Operation::as_str).join(", "))]
    UnknownOperation {
        /// The word in its place.
        word: String,
    },
    /// The field does not exist.
    #[error(
        "{field:?} is not known; there are host, operation, model, consumer, attribute, input_tokens \
         and max_tokens"
    )]
    UnknownField {
        /// The field.
        field: String,
    },
}

/// Reads `host=&operation=&model=&consumer=&attribute=&input_tokens=&max_tokens=`; only `model` is required,
/// and `attribute` may come several times.
///
/// # Errors
/// A field is missing, unknown or malformed.
pub fn parse(query: &str) -> Result<Question, InvalidQuestion> {
    let mut question = Question {
        host: "localhost".to_owned(),
        operation: Operation::ChatCompletions,
        model: String::new(),
        consumer: None,
        attributes: Vec::new(),
        input_tokens: 1,
        max_tokens: None,
    };
    for (field, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|source| InvalidQuestion::NotANumber {
                field: field.to_string(),
                value: value.to_string(),
                source,
            })
        };
        match &*field {
            _ if value.is_empty() => {}
            "host" => question.host = value.to_ascii_lowercase(),
            "model" => question.model = value.into_owned(),
            "consumer" => question.consumer = Some(value.into_owned()),
            "attribute" => {
                let pair = value.split_once('=');
                let (name, value) = pair.ok_or_else(|| InvalidQuestion::NoAttribute {
                    value: value.to_string(),
                })?;
                question.attributes.push((name.into(), value.into()));
            }
            "operation" => {
                question.operation =
                    Operation::parse(&value).ok_or_else(|| InvalidQuestion::UnknownOperation {
                        word: value.to_string(),
                    })?;
            }
            "input_tokens" => question.input_tokens = number()?,
            "max_tokens" => question.max_tokens = Some(number()?),
            other => {
                return Err(InvalidQuestion::UnknownField {
                    field: other.to_owned(),
                });
            }
        }
    }
    if question.model.is_empty() {
        return Err(InvalidQuestion::NoModel);
    }
    question.attributes.sort();
    Ok(question)
}

/// Writes a query that [`parse`] reads.
#[must_use]
pub fn query(question: &Question) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("host", &question.host)
        .append_pair("operation", question.operation.as_str())
        .append_pair("model", &question.model)
        .append_pair("input_tokens", &question.input_tokens.to_string());
    if let Some(consumer) = &question.consumer {
        query.append_pair("consumer", consumer);
    }
    for (name, value) in &question.attributes {
        query.append_pair("attribute", &format!("{name}={value}"));
    }
    if let Some(max_tokens) = question.max_tokens {
        query.append_pair("max_tokens", &max_tokens.to_string());
    }
    query.finish()
}
