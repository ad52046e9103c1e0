//! The token of the admin port.

use std::io;
use std::path::PathBuf;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A token in a file, which is read again for every request: a mounted Secret changes in place.
#[derive(Clone, Debug)]
pub struct Token(PathBuf);

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the admin token in {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It holds nothing, or white space within its text.
    #[error("{} must hold the admin token, one word", .0.display())]
    NoWord(PathBuf),
}

impl Token {
    /// The token in this file, which must hold one now.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn in_file(file: PathBuf) -> Result<Self, TokenError> {
        let token = Self(file);
        token.read()?;
        Ok(token)
    }

    /// Its text, without the line break at its end.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(&self) -> Result<Zeroizing<String>, TokenError> {
        let text = std::fs::read_to_string(&self.0);
        let text = text.map_err(|source| TokenError::Unreadable {
            file: self.0.clone(),
            source,
        })?;
        let text = Zeroizing::new(text);
        let word = text.trim();
        if word.is_empty() || !word.chars().all(|c| c.is_ascii_graphic()) {
            return Err(TokenError::NoWord(self.0.clone()));
        }
        Ok(Zeroizing::new(word.to_owned()))
    }

    /// Whether `shown` is the token; never if the file holds none any more.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        let read = self.read();
        read.is_ok_and(|token| bool::from(token.as_bytes().ct_eq(shown)))
    }
}
