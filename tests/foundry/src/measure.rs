//! The size of content, so that tests can calculate: one token per whitespace-separated word of text, 85
//! per image. Tools and schemas cost nothing here. The estimate that limits are charged is Azure's kind
//! instead: characters of text, by four, rounded up.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;

/// Tokens of a chat message beside its content.
pub(crate) const TOKENS_PER_MESSAGE: u64 = 3;
/// Tokens that prime the reply of a chat model.
pub(crate) const TOKENS_FOR_REPLY: u64 = 3;
/// What a low-detail image costs on gpt-4o.
const TOKENS_PER_IMAGE: u64 = 85;
const CHARACTERS_PER_TOKEN: u64 = 4;

/// Content of messages, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    words: u64,
    characters: u64,
    images: u64,
}

/// A part of a message's content. What it has beside these is not content.
#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: PartKind,
    #[serde(default)]
    text: Measure,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum PartKind {
    #[serde(alias = "input_image", alias = "image")]
    ImageUrl,
    #[serde(other)]
    Other,
}

impl Measure {
    pub(crate) fn text(text: &str) -> Self {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Self {
            words: count(text.split_whitespace().count()),
            characters: count(text.chars().count()),
            images: 0,
        }
    }

    /// Content as a body has it; what is no content is empty.
    pub(crate) fn of(content: &Value) -> Self {
        Self::deserialize(content).unwrap_or_default()
    }

    /// An item of the Responses API: what it says, whatever its type calls that.
    pub(crate) fn item(item: &Value) -> Self {
        let mut sum = Self::default();
        for field in ["content", "arguments", "output"] {
            item.get(field)
                .map(Self::of)
                .into_iter()
                .for_each(|size| sum.add(size));
        }
        sum
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.words += other.words;
        self.characters += other.characters;
        self.images += other.images;
    }

    pub(crate) fn characters(self) -> u64 {
        self.characters
    }

    /// Tokens that the model reads.
    pub(crate) fn tokens(self) -> u64 {
        self.words + self.images.saturating_mul(TOKENS_PER_IMAGE)
    }

    /// Tokens as the limits see them.
    pub(crate) fn estimate(self) -> u64 {
        let images = self.images.saturating_mul(TOKENS_PER_IMAGE);
        self.characters.div_ceil(CHARACTERS_PER_TOKEN) + images
    }
}

impl<'de> Deserialize<'de> for Measure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Measure;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an array of parts, or null")
    }

    fn visit_unit<E>(self) -> Result<Measure, E> {
        Ok(Measure::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<Measure, E> {
        Ok(Measure::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Measure, A::Error> {
        let mut sum = Measure::default();
        while let Some(part) = seq.next_element::<Part>()? {
            sum.images += u64::from(part.kind == PartKind::ImageUrl);
            sum.add(part.text);
        }
        Ok(sum)
    }
}
