//! The form of the keys that `tundish key new` makes: `tdh_NAMESPACE_` and 39 characters, of which the
//! last seven are a checksum.
//!
//! Such a key is good in the namespace that it names only. Words: a key is `ours` if it begins as those
//! do, `bound` if it has their length too.

/// How our keys begin.
pub const PREFIX: &str = "tdh_";

/// Characters of the random part: 20 bytes, five bits to a character.
const RANDOM: usize = 32;

/// Characters of the checksum: the 32 bits of a CRC, five to a character.
const CHECKSUM: usize = 7;

/// Longest name of a namespace: a DNS label.
const LONGEST_NAMESPACE: usize = 63;

/// Crockford's base 32 in lower case, without the letters that are taken for digits:
/// <https://www.crockford.com/base32.html>
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What a credential looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// Not like a key of ours.
    Foreign,
    /// Like a key of ours in this namespace; its checksum is not judged.
    Bound(&'a str),
    /// It begins like a key of ours, and is too short or too long for one.
    Damaged,
}

/// No namespace can have this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a namespace has 1 to 63 lower-case letters, digits and inner '-'")]
pub struct InvalidNamespace;

impl<'a> Form<'a> {
    /// Looks at the length and the parts only, so that it costs a request nothing.
    #[must_use]
    pub fn of(credential: &'a str) -> Self {
        let Some(rest) = credential.strip_prefix(PREFIX) else {
            return Self::Foreign;
        };
        match rest.split_once('_') {
            Some((namespace, tail))
                if tail.len() == RANDOM + CHECKSUM
                    && (1..=LONGEST_NAMESPACE).contains(&namespace.len()) =>
            {
                Self::Bound(namespace)
            }
            Some(_) | None => Self::Damaged,
        }
    }

    /// The namespace in which alone the key is good.
    #[must_use]
    pub const fn namespace(self) -> Option<&'a str> {
        match self {
            Self::Bound(namespace) => Some(namespace),
            Self::Foreign | Self::Damaged => None,
        }
    }
}

/// The key of `namespace` with this randomness, which must be that of a secret.
///
/// # Errors
/// No namespace can have this name.
pub fn make(namespace: &str, random: [u8; 20]) -> Result<String, InvalidNamespace> {
    if !is_namespace(namespace) {
        return Err(InvalidNamespace);
    }
    let mut key = format!("{PREFIX}{namespace}_");
    for part in random.chunks(5) {
        let bits = part
            .iter()
            .fold(0, |bits, &byte| (bits << 8) | u64::from(byte));
        push(&mut key, bits, 8);
    }
    let checksum = crc32(key.as_bytes());
    push(&mut key, u64::from(checksum), CHECKSUM);
    Ok(key)
}

/// Whether `key` is one that [`make`] could have made. A wrong character is always found.
#[must_use]
pub fn is_whole(key: &str) -> bool {
    let Form::Bound(namespace) = Form::of(key) else {
        return false;
    };
    let Some((body, checksum)) = key.split_at_checked(key.len() - CHECKSUM) else {
        return false;
    };
    let mut expected = String::new();
    push(&mut expected, u64::from(crc32(body.as_bytes())), CHECKSUM);
    let mut random = body.bytes().rev().take(RANDOM);
    is_namespace(namespace)
        && checksum == expected
        && random.all(|character| ALPHABET.contains(&character))
}

fn is_namespace(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=LONGEST_NAMESPACE).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Appends the low bits of `bits` in this many characters, the highest first.
fn push(text: &mut String, bits: u64, characters: usize) {
    for place in (0..characters).rev() {
        let five = (bits >> (5 * place)) & 31;
        let character = usize::try_from(five)
            .ok()
            .and_then(|five| ALPHABET.get(five));
        text.extend(character.copied().map(char::from));
    }
}

/// The CRC-32 of zip and Ethernet, which scanners of secrets know; bit by bit, since only a refusal
/// and the making of a key ask for it.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests;
