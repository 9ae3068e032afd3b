//! Text in, text out: what is asked of an engine that writes, and what it says.

use std::ops::ControlFlow;
use std::time::Instant;

/// Where a text is taken up, and how it is to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The text so far, with whatever marks the model was trained to see around it.
    pub text: String,
    /// Tokens to write at most; none: as many as the model's settings say.
    pub tokens_max: Option<usize>,
    /// How far from the likeliest token to stray; 0 always takes the likeliest.
    pub temperature: f64,
    /// Draw only from the likeliest tokens that have this share of the probability together;
    /// none: from all. Means nothing at temperature 0.
    pub top_p: Option<f64>,
    /// Where the draws begin: the same seed draws the same text.
    pub seed: u64,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// When to give up.
    pub deadline: Option<Instant>,
}

impl Prompt {
    /// The likeliest continuation of `text`, as long as the model's settings allow.
    pub fn greedy(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tokens_max: None,
            temperature: 0.0,
            top_p: None,
            seed: 0,
            stop: Vec::new(),
            deadline: None,
        }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The model said so.
    EndOfText,
    /// One of the prompt's stop strings would have come.
    StopString,
    /// As many tokens as were allowed, or as fit into the model's context.
    Length,
    /// The prompt's deadline has passed.
    Deadline,
    /// Nobody reads it any more.
    Unread,
}

impl Ending {
    /// The word for it in answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::EndOfText | Self::StopString => "stop",
            Self::Length => "length",
            Self::Deadline => "deadline",
            Self::Unread => "unread",
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// All pieces together, without the prompt.
    pub text: String,
    /// Why it ended.
    pub ending: Ending,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens written.
    pub tokens: usize,
}

/// Takes a text piece by piece. It is also called with nothing, at least once a token, and says
/// whether anybody still reads.
pub type Reader<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;
