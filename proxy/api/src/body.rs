//! What a request's body says about itself: the members that the gateway decides on, with their byte
//! ranges, however the body is written.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use crate::end_user::{Metadata, UserMember, Users};

/// The most tokens of an image by its quality: one that is not square, and three that show how it comes to be
/// (`OpenAI`, "Image generation", cost).
const IMAGES: [(&str, u64); 2] = [("low", 408 + 300), ("medium", 1_584 + 300)];
/// In the best quality, which a model may choose by itself.
pub(crate) const DEAREST_IMAGE: u64 = 6_240 + 300;

/// A member that the gateway reads, whatever a row calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The model asked for.
    Model,
    /// Whether the answer is a stream of events.
    Stream,
    /// `stream_options`, in which usage is asked for.
    StreamOptions,
    /// `stream_format`: whether sound comes as events or as itself.
    StreamFormat,
    /// A bound on the output tokens of one choice.
    OutputBound(BoundName),
    /// How many choices the answer has, or how many are made of which one is the best.
    Choices,
    /// A text, or several: each is answered by all the choices.
    Prompts,
    /// A text, or several: the model reads each by itself.
    Inputs,
    /// How fine an image is made: by it follows what it costs at most.
    Quality,
    /// Whether the answer is made in the background, and asked for later.
    Background,
    /// The earlier response that the backend keeps and continues.
    PreviousResponse,
    /// The conversation that the backend keeps and continues.
    Conversation,
    /// A source that the backend itself asks. Azure takes no `stream_options` beside it.
    DataSources,
    /// Tools that the model may call, which an API describes to it at some length.
    Tools,
    /// The end user of the client.
    User(UserMember),
    /// `prompt_cache_key`: what requests share whose prompts begin alike.
    CacheKey,
    /// What the model reads before the messages.
    Instructions,
    /// The messages of the prompt, or its items.
    Messages,
    /// `part_ids`: the parts of which an upload becomes a file.
    Parts,
    /// An agent of a project, which has a model of its own.
    Agent,
}

/// What a bound on output tokens is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundName {
    /// `max_tokens`.
    Tokens,
    /// `max_completion_tokens`: all that models with reasoning take.
    CompletionTokens,
    /// `max_output_tokens`.
    OutputTokens,
}

/// A bound on output tokens as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// `None` for `null`.
    pub tokens: Option<u64>,
    /// Where its value stands.
    pub at: Range<usize>,
}

/// What a backend keeps for its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// An answer of the Responses API.
    Response,
    /// A conversation of the same API.
    Conversation,
    /// A file.
    File,
    /// A file that comes in parts.
    Upload,
    /// One of them.
    Part,
    /// A file of requests that run one after the other.
    Batch,
    /// Files that are searched.
    VectorStore,
    /// Files that are put into such a store at once.
    FileBatch,
    /// Where code runs, with its files.
    Container,
    /// One of these files.
    ContainerFile,
    /// What a model has spoken.
    Audio,
    /// An item that only its resource can open. Its id is the tag in front of what is sealed.
    Item,
}

/// A reference to what a backend keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What it is.
    pub kept: Kept,
    /// The id, as the client knows it.
    pub id: Box<str>,
    /// Where the id stands, with its quotes. Of an item, where its tag does, with what ends it.
    pub at: Range<usize>,
    /// The members that lead there, for a message.
    pub place: Box<str>,
}

/// An MCP server that a body names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its host, in lower case; `None` if the provider alone knows it, or where it is no address.
    pub host: Option<Box<str>>,
    /// The members that lead there, for a message.
    pub place: Box<str>,
}

/// Where the values begin by which the requests of one conversation are known. Of a body that is too small for a
/// prompt cache only the key counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// That of `prompt_cache_key`, if it is a string.
    pub cache_key: Option<NonZeroUsize>,
    /// What the model reads before the messages.
    pub instructions: Option<NonZeroUsize>,
    /// The messages of the prompt, or its items.
    pub messages: Option<NonZeroUsize>,
}

/// The members that the operations of one row may carry, by name.
pub type Members = [(&'static str, Member)];

/// What a body says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// How it is written.
    pub layout: Layout,
    /// The model. Not read where the path names it.
    pub model: Option<Arc<str>>,
    /// Where the value of the model stands, whatever it is: in JSON with its quotes.
    pub model_at: Option<Range<usize>>,
    /// Whether the answer is a stream of events.
    pub stream: bool,
    /// `stream_options`.
    pub stream_options: StreamOptions,
    /// The bounds on output tokens, in the order of [`BoundName`].
    pub bounds: [Option<Bound>; 3],
    /// How many choices the answer has.
    pub choices: u64,
    /// How many texts are answered by the number of choices each.
    pub prompts: u64,
    /// How many texts the model reads, each by itself.
    pub texts: u64,
    /// The most output tokens of each image that is made.
    pub image_tokens: Option<u64>,
    /// Where it names its end user.
    pub users: Users,
    /// It names data sources.
    pub has_data_sources: bool,
    /// The answer is made in the background.
    pub background: bool,
    /// What it continues.
    pub references: Vec<Reference>,
    /// An item of it may stand for one that the backend keeps.
    pub has_item_references: bool,
    /// Some item of it is sealed, and nothing says by which resource.
    pub has_bare_seals: bool,
    /// The MCP servers that it makes the provider call.
    pub servers: Vec<Server>,
    /// Its answer may be spoken.
    pub speaks: bool,
    /// It offers tools, where that is looked for.
    pub has_tools: bool,
    /// Some part of it may be an image, sound or a file.
    pub has_media: bool,
    /// Where its conversation begins.
    pub beginning: Beginning,
    /// The files of a form.
    pub files: Files,
}

/// The parts of a form that are files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// How many there are.
    pub count: u64,
    /// The size of all of them.
    pub bytes: u64,
    /// The size of what the other fields say.
    pub text: u64,
}

/// How a body is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One JSON object.
    Json {
        /// Just after the opening brace: where a member can be inserted.
        start: usize,
        /// The object has no members.
        empty: bool,
    },
    /// In no way that matters.
    Any,
    /// `multipart/form-data`.
    Multipart {
        /// What parts are separated by, without the leading dashes.
        boundary: Arc<str>,
        /// Where a part can be inserted: at the first boundary.
        start: usize,
    },
}

/// `stream_options` as the client sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StreamOptions {
    /// The member is missing.
    #[default]
    Absent,
    /// `null`, at this range.
    Null(Range<usize>),
    /// An object without `include_usage`.
    WithoutUsage {
        /// Just after its brace.
        start: usize,
        /// The object has no members.
        empty: bool,
    },
    /// `include_usage` is false or null, at this range.
    UsageOff(Range<usize>),
    /// `include_usage` is true.
    UsageOn,
}

/// Why a body is refused: a message for the client that names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

pub(crate) fn malformed<T>(message: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(message.into()))
}

// === impl Body ===

impl Body {
    /// A body of which only the layout is known.
    pub(crate) const fn new(layout: Layout) -> Self {
        Self {
            layout,
            model: None,
            model_at: None,
            stream: false,
            stream_options: StreamOptions::Absent,
            bounds: [const { None }; 3],
            choices: 1,
            prompts: 1,
            texts: 1,
            image_tokens: None,
            users: Users {
                user: None,
                safety_identifier: None,
                metadata: Metadata::Absent,
            },
            has_data_sources: false,
            background: false,
            references: Vec::new(),
            has_item_references: false,
            has_bare_seals: false,
            servers: Vec::new(),
            speaks: false,
            has_tools: false,
            has_media: false,
            beginning: Beginning {
                cache_key: None,
                instructions: None,
                messages: None,
            },
            files: Files {
                count: 0,
                bytes: 0,
                text: 0,
            },
        }
    }

    /// Whether the client itself asked for the usage of its stream.
    #[must_use]
    pub fn asks_usage(&self) -> bool {
        self.stream_options == StreamOptions::UsageOn
    }

    /// The largest of the bounds on output tokens: backends disagree on which of two holds.
    #[must_use]
    pub fn max_output_tokens(&self) -> Option<u64> {
        let bounds = self.bounds.iter().flatten();
        bounds.filter_map(|bound| bound.tokens).max()
    }

    /// The bound of this name.
    #[must_use]
    pub fn bound(&self, name: BoundName) -> Option<&Bound> {
        self.bounds.get(name.place())?.as_ref()
    }

    /// Takes note of a bound on output tokens.
    pub(crate) fn bounded(&mut self, name: BoundName, bound: Bound) {
        if let Some(place) = self.bounds.get_mut(name.place()) {
            *place = Some(bound);
        }
    }
}

// === impl Beginning ===

impl Beginning {
    /// Whether a body has none of them.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        self.cache_key.is_none() && self.messages.is_none()
    }
}

// === impl Kept ===

impl Kept {
    /// What an error calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Response => "Response",
            Self::Conversation => "Conversation",
            Self::File => "File",
            Self::Upload => "Upload",
            Self::Part => "Part",
            Self::Batch => "Batch",
            Self::VectorStore => "Vector store",
            Self::FileBatch => "Vector store file batch",
            Self::Container => "Container",
            Self::ContainerFile => "Container file",
            Self::Audio => "Audio",
            Self::Item => "Item",
        }
    }

    /// Whether a response that refers to it goes on from a prompt that the backend keeps.
    #[must_use]
    pub const fn is_continued(self) -> bool {
        match self {
            Self::Response | Self::Conversation | Self::Audio => true,
            Self::File
            | Self::Upload
            | Self::Part
            | Self::Batch
            | Self::VectorStore
            | Self::FileBatch
            | Self::Container
            | Self::ContainerFile
            | Self::Item => false,
        }
    }
}

// === impl BoundName ===

impl BoundName {
    /// The name in a body.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "max_tokens",
            Self::CompletionTokens => "max_completion_tokens",
            Self::OutputTokens => "max_output_tokens",
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Tokens => 0,
            Self::CompletionTokens => 1,
            Self::OutputTokens => 2,
        }
    }
}

/// Checks the name of a model as a client may write it.
pub(crate) fn model_name(text: &str) -> Result<Arc<str>, Malformed> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return malformed("\"model\" must be 1 to 256 printable characters");
    }
    Ok(text.into())
}

/// The most output tokens of an image of this quality.
pub(crate) fn image_tokens(quality: &str) -> u64 {
    let known = IMAGES.iter().find(|(known, _)| *known == quality);
    known.map_or(DEAREST_IMAGE, |(_, tokens)| *tokens)
}

/// Refuses a name that is another one's in other letters: `Model`, or `max_to\u212aens` with the sign of
/// Kelvin. Servers that ignore the case would take it for the member that the gateway decides on.
pub(crate) fn refuse_folded(
    name: &[u8],
    known: impl IntoIterator<Item = &'static str>,
) -> Result<(), Malformed> {
    let is_plain = |byte: &u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    if name.iter().all(is_plain) {
        return Ok(());
    }
    let name = String::from_utf8_lossy(name);
    // Of the letters that fold to those of ASCII, `\u017f` has only an upper case and `\u212a` only a lower.
    let folded = name.to_uppercase().to_lowercase();
    match known.into_iter().find(|known| *known == folded) {
        Some(known) => malformed(format!("write \"{known}\" instead of {name:?}")),
        None => Ok(()),
    }
}
