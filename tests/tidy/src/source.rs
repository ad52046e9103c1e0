//! Rust source, split into its code and its prose.

/// A file that was read.
#[derive(Debug, Default)]
pub struct Source {
    /// Words, `::`, and any other character by itself; no comments, no text.
    pub tokens: Vec<String>,
    /// Comments and string literals, with the line of their first character.
    pub prose: Vec<(usize, String)>,
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl Source {
    /// Splits `text`.
    pub fn read(text: &str) -> Self {
        let mut reader = Reader {
            rest: text,
            line: 1,
        };
        let mut source = Self::default();
        while let Some(first) = reader.rest.chars().next() {
            let line = reader.line;
            if first.is_whitespace() {
                reader.take(char::is_whitespace);
            } else if reader.rest.starts_with("//") {
                let comment = reader.take(|c| c != '\n').to_owned();
                source.prose.push((line, comment));
            } else if reader.rest.starts_with("/*") {
                source.prose.push((line, reader.block_comment().to_owned()));
            } else if first == '"' {
                reader.cut(1);
                source.prose.push((line, reader.text().to_owned()));
            } else if first == '\'' {
                reader.quote();
            } else if is_word(first) {
                let word = reader.take(is_word).to_owned();
                match reader.raw(&word) {
                    Some(text) => source.prose.push((line, text.to_owned())),
                    None => source.tokens.push(word),
                }
            } else {
                let width = if reader.rest.starts_with("::") {
                    2
                } else {
                    first.len_utf8()
                };
                source.tokens.push(reader.cut(width).to_owned());
            }
        }
        source
    }

    /// The tokens without items under `#[cfg(test)]`.
    pub fn product(&self) -> Vec<&str> {
        const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let tokens: Vec<&str> = self.tokens.iter().map(String::as_str).collect();
        let mut kept = Vec::new();
        let mut rest = tokens.as_slice();
        while let Some((first, tail)) = rest.split_first() {
            if let Some(item) = rest.strip_prefix(&TEST) {
                rest = item.get(item_length(item)..).unwrap_or_default();
            } else {
                kept.push(*first);
                rest = tail;
            }
        }
        kept
    }
}

/// The tokens of the item at the beginning: to its semicolon or its closing brace.
fn item_length(tokens: &[&str]) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let next = tokens.get(index + 1);
        let closes = *token == "}" && next.is_none_or(|next| *next != ";");
        if depth == 0 && (*token == ";" || closes) {
            return index + 1;
        }
    }
    tokens.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

// === impl Reader ===

impl<'t> Reader<'t> {
    fn cut(&mut self, end: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += taken.matches('\n').count();
        taken
    }

    fn take(&mut self, good: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !good(c));
        self.cut(end.unwrap_or(self.rest.len()))
    }

    /// A comment in `/*` and `*/`, in which others may be nested.
    fn block_comment(&mut self) -> &'t str {
        let mut depth = 0_usize;
        let pairs = self.rest.char_indices().zip(self.rest.chars().skip(1));
        let mut closing = pairs.filter_map(|((at, one), two)| {
            match (one, two) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth = depth.saturating_sub(1),
                _ => return None,
            }
            (depth == 0).then_some(at + 2)
        });
        let end = closing.next().unwrap_or(self.rest.len());
        self.cut(end)
    }

    /// The rest of a string literal, up to its closing quote.
    fn text(&mut self) -> &'t str {
        let mut escaped = false;
        let end = self.rest.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let text = self.cut(end.unwrap_or(self.rest.len()));
        self.cut(1);
        text
    }

    /// The literal that `word` begins, if it is a raw string.
    fn raw(&mut self, word: &str) -> Option<&'t str> {
        let after = self.rest.trim_start_matches('#');
        if !["r", "br", "cr"].contains(&word) || !after.starts_with('"') {
            return None;
        }
        let hashes = self.rest.len() - after.len();
        let closing = format!("\"{}", "#".repeat(hashes));
        self.cut(hashes + 1);
        let text = self.cut(self.rest.find(&closing).unwrap_or(self.rest.len()));
        self.cut(closing.len());
        Some(text)
    }

    /// A character literal, or a lifetime.
    fn quote(&mut self) {
        self.cut(1);
        let mut chars = self.rest.chars();
        match (chars.next(), chars.next()) {
            (Some('\\'), Some(escaped)) => {
                self.cut(1 + escaped.len_utf8());
                self.take(|c| c != '\'');
                self.cut(1);
            }
            (Some(literal), Some('\'')) => {
                self.cut(literal.len_utf8() + 1);
            }
            _ => {
                self.take(is_word);
            }
        }
    }
}
