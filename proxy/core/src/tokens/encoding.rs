//! Counts the tokens of a text by the model's vocabulary, in linear time and up to a budget.
//!
//! Refuses to guess for a model whose tokenizer is not public; the caller has the number of bytes.

use tiktoken::CoreBpe;

use super::reasoning::is_o_series;

#[cfg(test)]
mod tests;

/// The longest text passed to the tokenizer at once. Its time is n log n in one word: an endless word
/// costs 110 µs/KB in pieces of 4 KiB, and 190 µs/KB in one of 256 KiB. Counting also stops within
/// one piece after the budget. Shorter pieces would cut more words.
const PIECE: usize = 4 << 10;

/// A public vocabulary of `OpenAI`'s models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// GPT-4, GPT-3.5 and the embeddings.
    Cl100k,
    /// GPT-4o, GPT-4.1, GPT-4.5, GPT-5 and the o-series.
    O200k,
}

impl Encoding {
    /// The vocabulary of a model, after `tiktoken/model.py`. A deployment's name does not do: its owner
    /// chose it. `None` when the vocabulary or the chat format (gpt-oss) is unknown.
    #[must_use]
    pub fn of_model(model: &str) -> Option<Self> {
        const O200K: [&str; 7] = [
            "gpt-5",
            "gpt-4.1",
            "gpt-4.5",
            "gpt-4o",
            "gpt-chat-latest",
            "chatgpt-4o",
            "codex-mini",
        ];
        const CL100K: [&str; 4] = ["gpt-4", "gpt-3.5-turbo", "gpt-35-turbo", "text-embedding-"];
        let is_of = |families: &[&str]| families.iter().any(|family| model.starts_with(family));
        if is_of(&O200K) || is_o_series(model) {
            Some(Self::O200k)
        } else if is_of(&CL100K) {
            Some(Self::Cl100k)
        } else {
            None
        }
    }

    /// Loads the vocabulary unless a count has done so: 66 ms and 24 MB (`O200k`), 27 ms and 12 MB
    /// (`Cl100k`), once per process. The memory is never freed.
    pub fn load(self) {
        let _: &CoreBpe = self.vocabulary();
    }

    /// The tokens of `text`; special tokens count as text. Above `budget` the count stops within 4 KiB
    /// and returns some number above `budget`.
    ///
    /// Costs 3 to 20 µs/KB of prose and code, 150 µs/KB at worst (only blanks), and 1.2 MB per
    /// counting thread. Exact except for a token or two where 2 KiB have no blank.
    #[must_use]
    pub fn count(self, text: &str, budget: u64) -> u64 {
        let vocabulary = self.vocabulary();
        let mut rest = text;
        let mut counted: u64 = 0;
        while !rest.is_empty() && counted <= budget {
            let (piece, after) = cut(rest);
            let tokens = u64::try_from(vocabulary.count(piece)).unwrap_or(u64::MAX);
            counted = counted.saturating_add(tokens);
            rest = after;
        }
        counted
    }

    fn vocabulary(self) -> &'static CoreBpe {
        let name = match self {
            Self::Cl100k => "cl100k_base",
            Self::O200k => "o200k_base",
        };
        tiktoken::get_encoding(name).expect("the manifest compiles both vocabularies in")
    }
}

/// Cuts off a piece of at most [`PIECE`] bytes: before a blank that ends a word, where the patterns of
/// both vocabularies end a token too, else between any two characters.
fn cut(text: &str) -> (&str, &str) {
    if text.len() <= PIECE {
        return (text, "");
    }
    let end = text.floor_char_boundary(PIECE);
    let ends_word = |pair: &[u8]| matches!(pair, [b'!'..=b'~', b' ']);
    let near = text.as_bytes().get(PIECE / 2..end).unwrap_or_default();
    let at = near
        .windows(2)
        .rposition(ends_word)
        .map_or(end, |found| PIECE / 2 + found + 1);
    text.split_at_checked(at).unwrap_or((text, ""))
}
