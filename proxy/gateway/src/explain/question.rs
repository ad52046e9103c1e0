//! What is asked about: read from the query of the admin port, and written as one.

use proxy_core::names::Operation;
use url::form_urlencoded;

/// How many edits away a name may be to be told as a near one.
const NEAR: usize = 3;
/// Names told at most.
const NAMES: usize = 5;

/// A request that nobody has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The host, lower case, without a port.
    pub host: String,
    /// The operation.
    pub operation: Operation,
    /// The model that the client would name.
    pub model: String,
    /// `name` or `namespace/name` of a consumer, or the fingerprint `key-xxxxxxxx` of a credential
    /// that no Secret names; none for a caller without a credential.
    pub consumer: Option<String>,
    /// Tokens of the input.
    pub input_tokens: u64,
    /// The bound on output tokens; none for the gateway's default.
    pub max_tokens: Option<u64>,
}

impl Question {
    /// Reads `host=&operation=&model=&consumer=&input_tokens=&max_tokens=`; only `model` is needed.
    ///
    /// # Errors
    /// Says what cannot be read, or is missing.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut question = Self {
            host: "localhost".to_owned(),
            operation: Operation::ChatCompletions,
            model: String::new(),
            consumer: None,
            input_tokens: 1,
            max_tokens: None,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let number = || {
                let number = value.parse::<u64>();
                number.map_err(|_error| format!("{name}={value:?} is not a number"))
            };
            match &*name {
                _ if value.is_empty() => {}
                "host" => question.host = value.to_ascii_lowercase(),
                "model" => question.model = value.into_owned(),
                "consumer" => question.consumer = Some(value.into_owned()),
                "operation" => question.operation = operation(&value)?,
                "input_tokens" => question.input_tokens = number()?,
                "max_tokens" => question.max_tokens = Some(number()?),
                other => {
                    return Err(format!(
                        "{other:?} is not known; there are host, operation, model, consumer, \
                         input_tokens and max_tokens"
                    ));
                }
            }
        }
        if question.model.is_empty() {
            return Err("model is missing".to_owned());
        }
        Ok(question)
    }

    /// Writes what [`Question::parse`] reads.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("host", &self.host)
            .append_pair("operation", self.operation.as_str())
            .append_pair("model", &self.model)
            .append_pair("input_tokens", &self.input_tokens.to_string());
        if let Some(consumer) = &self.consumer {
            query.append_pair("consumer", consumer);
        }
        if let Some(max_tokens) = self.max_tokens {
            query.append_pair("max_tokens", &max_tokens.to_string());
        }
        query.finish()
    }
}

fn operation(word: &str) -> Result<Operation, String> {
    Operation::parse(word).ok_or_else(|| {
        let known: Vec<&str> = Operation::ALL.map(Operation::as_str).into();
        format!("operation {word:?} is none of {}", known.join(", "))
    })
}

/// Says that a consumer is not known, and who may have been meant.
pub(super) fn unknown_consumer<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> String {
    let name = wanted.rsplit_once('/').map_or(wanted, |(_, name)| name);
    let mut known: Vec<(usize, &str)> = known.map(|other| (distance(name, other), other)).collect();
    known.sort_unstable();
    known.dedup();
    let near: Vec<&str> = known
        .iter()
        .filter(|(far, other)| *far <= NEAR || other.contains(name))
        .map(|(_, other)| *other)
        .take(NAMES)
        .collect();
    let some: Vec<&str> = known.iter().map(|(_, other)| *other).take(NAMES).collect();
    match (near.is_empty(), some.is_empty()) {
        (false, _) => format!(
            "no Secret names the consumer {wanted:?}; near it: {}",
            near.join(", ")
        ),
        (true, false) => format!(
            "no Secret names the consumer {wanted:?}; there are {} such as {}",
            known.len(),
            some.join(", ")
        ),
        (true, true) => format!("no Secret names the consumer {wanted:?}, nor any other"),
    }
}

/// Levenshtein's distance by one row.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut corner = index;
        let mut left = index + 1;
        for (b, cell) in to.iter().zip(row.iter_mut().skip(1)) {
            let change = corner + usize::from(a != *b);
            corner = *cell;
            left = change.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
