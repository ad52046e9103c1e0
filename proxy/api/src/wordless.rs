//! Answers without a word that a model wrote: vectors and images. Only their usage says what they cost.

use crate::error::ErrorEvent;
use crate::json::member;
use crate::stream::{Grammar, Said};

/// Every event may be the last one: a stream that is cut has told no usage.
pub(crate) static GRAMMAR: Grammar = Grammar {
    event: |data, _text| Said {
        text: false,
        finish: true,
        failed: member(data, "type") == Some(b"\"error\""),
    },
    answer: None,
    only_usage: |_data| false,
    end: None,
    read_input: None,
    thought: None,
    error: ErrorEvent::Unnamed,
};
