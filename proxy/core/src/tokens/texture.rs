//! The tokens of a text whose vocabulary is not public, by the kinds of its bytes.
//!
//! Refuses to be more than a start: once answers have told how many tokens they had, these count. Words take few
//! tokens for their bytes, numbers and punctuation many. So code and data count more than prose of that size.

#[cfg(test)]
mod tests;

/// Tokens per thousand bytes where the bytes are not looked at: English and code have about four characters per
/// token, and Azure's own admission counts characters too (Foundry documentation, "quota").
pub(super) const USUAL: u64 = 250;

/// Tokens per thousand letters and blanks, characters that JSON is made of, others of ASCII, and bytes of other
/// characters. Fitted to
/// texts in 20 languages and formats, for the vocabularies of `DeepSeek`, Kimi, Llama and Mistral, so that few
/// come out too low; what they come to is in docs/quotas.md.
const WORDS: u64 = 200;
const JSON: u64 = 250;
const MARKS: u64 = 600;
const OTHERS: u64 = 250;
/// Tokens per thousand escapes such as `\u4e00`, of six bytes: as many as their character has, which takes three
/// bytes at most.
const ESCAPES: u64 = 3 * OTHERS;
const ESCAPE: usize = 6;

/// The longest part that is looked at: 40 µs. The rest counts as it does.
const LOOKED_AT: usize = 32 << 10;

/// How a family of models splits text, in per cent of the tokens of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family(u64);

impl Default for Family {
    fn default() -> Self {
        Self(100)
    }
}

impl Family {
    /// The family of a model. A deployment's name does not do: its owner chose it.
    ///
    /// Claude takes about 30 % more tokens from Opus 4.7 and Sonnet 5 on (Anthropic, "Token counting"). Nothing is
    /// published of Grok and MAI.
    #[must_use]
    pub fn of_model(model: &str) -> Self {
        const EARLIER: [&str; 6] = [
            "claude-3",
            "claude-haiku-3",
            "claude-haiku-4",
            "claude-sonnet-4",
            "claude-opus-4",
            "claude-instant",
        ];
        const LATER: [&str; 3] = ["claude-opus-4-7", "claude-opus-4-8", "claude-opus-4-9"];
        let model = model.to_ascii_lowercase();
        let is_of = |families: &[&str]| families.iter().any(|family| model.starts_with(family));
        let is_later = is_of(&LATER) || !is_of(&EARLIER);
        Self(if model.starts_with("claude") && is_later {
            130
        } else {
            100
        })
    }

    /// Tokens per thousand bytes of a prompt, as long as no answer has told. Without its text, as text usually
    /// has.
    #[must_use]
    pub fn per_mille(self, text: Option<&[u8]>) -> u64 {
        let of_others = text.and_then(density).unwrap_or(USUAL);
        of_others.saturating_mul(self.0).div_ceil(100)
    }
}

/// Tokens per thousand bytes of a text, by the kinds of its bytes; `None` for an empty one.
fn density(text: &[u8]) -> Option<u64> {
    let mut rest = text.get(..LOOKED_AT).unwrap_or(text);
    let size = u64::try_from(rest.len()).ok().filter(|size| *size > 0)?;
    let mut sum: u64 = 0;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        sum += match byte {
            b'\\' if after.first() == Some(&b'u') => {
                rest = after.get(ESCAPE - 1..).unwrap_or_default();
                ESCAPES
            }
            b' ' | b'a'..=b'z' | b'A'..=b'Z' => WORDS,
            b'"' | b'{' | b'}' | b'[' | b']' | b':' | b',' | b'\\' => JSON,
            0..=0x7f => MARKS,
            0x80.. => OTHERS,
        };
    }
    Some(sum.div_ceil(size))
}
