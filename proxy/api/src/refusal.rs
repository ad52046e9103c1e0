//! Finds the member of a request that a backend refuses, by the error that it answers: the gateway puts
//! members in that the client never sent, and has to take out again what a backend does not know.
//!
//! Backends have no common shape for this. Where an error names its member apart (`param`, `loc`), only
//! that counts. Else its sentences are read: a member in a sentence that complains is refused, unless it
//! is named as the remedy. A doubtful one is not refused: to leave out a member for good costs more than
//! to hand on one error.

use serde_json::Value;

#[cfg(test)]
mod tests;

/// Errors of this kind are short; larger ones repeat the request.
const MAX_READ: usize = 64 << 10;
/// How deep an error is searched: some have another one in them, as text.
const MAX_NESTED: usize = 6;

/// Words that make a sentence a complaint, and a member behind them a refused one.
const COMPLAINTS: &[&str] = &[
    "not",
    "no",
    "cannot",
    "can't",
    "don't",
    "doesn't",
    "isn't",
    "aren't",
    "unsupported",
    "unknown",
    "unrecognized",
    "unrecognised",
    "unexpected",
    "unpermitted",
    "invalid",
    "extra",
    "forbidden",
    "disallowed",
    "prohibited",
    "illegal",
    "incompatible",
    "deprecated",
    "removed",
    "only",
    "must",
    "exceeds",
    "exceed",
    "exceeded",
    "large",
    "high",
    "greater",
    "less",
    "without",
    "rejected",
    "refused",
    "error",
];
/// Words that make a member behind them the remedy.
const REMEDIES: &[&str] = &[
    "use",
    "using",
    "try",
    "specify",
    "provide",
    "set",
    "pass",
    "send",
    "with",
    "renamed",
    "switch",
    "prefer",
    "favor",
    "favour",
    "by",
    "mean",
    "supported",
    "allowed",
    "permitted",
    "accepted",
    "valid",
    "available",
    "expected",
    "recommended",
    "supports",
    "accepts",
    "including",
];

/// What stands in a path for the request as a whole.
const WHOLE: [&str; 3] = ["body", "request", "query"];

/// Which of the members that were `sent` a backend's error complains of, if any.
///
/// Reads errors that judge the request: 400 and 422.
#[must_use]
pub fn refused_member<'a>(status: u16, body: &[u8], sent: &[&'a str]) -> Option<&'a str> {
    if !matches!(status, 400 | 422) || body.len() > MAX_READ {
        return None;
    }
    let mut error = Complaint::default();
    match serde_json::from_slice(body) {
        Ok(value) => error.read(&value, MAX_NESTED),
        Err(_) => error.sentences(&String::from_utf8_lossy(body)),
    }
    let is_refused = |member: &&&str| {
        if error.members.is_empty() {
            error.texts.iter().any(|text| complains_of(text, member))
        } else {
            error.members.iter().any(|named| named == *member)
        }
    };
    sent.iter().find(is_refused).copied()
}

/// What an error says.
#[derive(Default)]
struct Complaint {
    /// Members that it names apart.
    members: Vec<String>,
    /// Its messages.
    texts: Vec<String>,
}

impl Complaint {
    fn read(&mut self, value: &Value, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else {
            return;
        };
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    self.member(name, value, depth);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.read(item, depth)),
            Value::String(text) => self.sentences(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn member(&mut self, name: &str, value: &Value, depth: usize) {
        match (name, value) {
            ("param" | "parameter", Value::String(path)) if !path.is_empty() => {
                let member = first_of(path);
                if !WHOLE.contains(&member) {
                    self.members.push(member.to_owned());
                }
            }
            ("loc", Value::Array(path)) => {
                let mut names = path.iter().map_while(Value::as_str);
                let member = names.find(|name| !WHOLE.contains(name));
                self.members.extend(member.map(str::to_owned));
            }
            (
                "message" | "msg" | "detail" | "details" | "error" | "errors" | "title" | "reason"
                | "description" | "error_message" | "innererror" | "inner_error",
                _,
            ) => match value {
                // Another error as text: its own members count, not its braces.
                Value::String(text) => match serde_json::from_str::<Value>(text) {
                    Ok(inner @ (Value::Object(_) | Value::Array(_))) => self.read(&inner, depth),
                    Ok(_) | Err(_) => self.sentences(text),
                },
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_) => self.read(value, depth),
            },
            // The rest repeats the request, or is a code.
            _ => {}
        }
    }

    fn sentences(&mut self, text: &str) {
        self.texts.push(text.to_ascii_lowercase());
    }
}

/// The member of the request at the beginning of a path: `stream_options.include_usage`,
/// `#/stream_options`, `$.stream_options`, `body.stream_options`.
fn first_of(path: &str) -> &str {
    let mut names = path
        .split(|letter: char| !is_of_name(letter))
        .filter(|name| !name.is_empty());
    let first = names.next().unwrap_or_default();
    if WHOLE.contains(&first) {
        return names.next().unwrap_or(first);
    }
    first
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Whether a sentence of a lower-case text says that the member is wrong.
fn complains_of(text: &str, member: &str) -> bool {
    let lines = text.split(['\n', ';']);
    lines
        .flat_map(|line| line.split(". "))
        .any(|sentence| is_refused_in(sentence, member))
}

/// Stands for a mark between words.
const MARK: &str = ",";

fn is_refused_in(sentence: &str, member: &str) -> bool {
    // A clause ends with a mark: "X is not supported, use Y".
    let marked = sentence.replace([',', ':', '(', ')'], &format!(" {MARK} "));
    let is_of_word = |letter: char| is_of_name(letter) || letter == '\'' || MARK.contains(letter);
    let words = marked.split(|letter| !is_of_word(letter));
    let words: Vec<&str> = words
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
        .collect();
    let mut before = Vec::new();
    for word in &words {
        if *word == member && !is_remedy(&before) {
            return words.iter().any(|word| COMPLAINTS.contains(word));
        }
        before.push(*word);
    }
    false
}

/// Whether what is named after these words is what to do instead: the nearest word that decides is not
/// a complaint.
fn is_remedy(before: &[&str]) -> bool {
    for (at, word) in before.iter().enumerate().rev() {
        if COMPLAINTS.contains(word) {
            return false;
        }
        let last = at.checked_sub(1).and_then(|at| before.get(at));
        let next = before.get(at + 1);
        let is_of = next == Some(&"of");
        if *word == "rather" || (*word == "instead" && is_of) {
            return false;
        }
        if !REMEDIES.contains(word) || (*word == "use" && is_of) {
            continue;
        }
        // "do not use", "not supported", "cannot be used with".
        let two_back = at.checked_sub(2).and_then(|at| before.get(at));
        let denied = |word: Option<&&str>| word.is_some_and(|word| COMPLAINTS.contains(word));
        return !denied(last) && !denied(two_back);
    }
    false
}
