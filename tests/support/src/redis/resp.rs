//! The part of the Redis protocol (RESP 2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>)
//! that one command and its answer need.

use std::io::BufRead;

use anyhow::{Context, Result, bail};

/// No test needs a deeper answer.
const DEPTH: usize = 16;

/// A command as an array of bulk strings.
pub(super) fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// The answer as text; elements of arrays on lines of their own, nil as nothing.
pub(super) fn answer(reader: &mut impl BufRead) -> Result<String> {
    value(reader, DEPTH)
}

fn value(reader: &mut impl BufRead, depth: usize) -> Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line).context("read an answer")?;
    let line = line
        .strip_suffix("\r\n")
        .context("the connection was closed")?;
    let kind = line.chars().next().context("read an empty line")?;
    let rest = line.get(1..).unwrap_or_default();
    match kind {
        '+' | ':' => Ok(rest.to_owned()),
        '-' => bail!("{rest}"),
        '$' => bulk(reader, rest),
        '*' => {
            // -1 is the null array.
            let count: i64 = rest.parse().context("read a count")?;
            let depth = depth.checked_sub(1).context("read nested arrays")?;
            let elements: Result<Vec<String>> =
                (0..count.max(0)).map(|_| value(reader, depth)).collect();
            Ok(elements?.join("\n"))
        }
        other => bail!("an answer of unknown kind {other:?}"),
    }
}

fn bulk(reader: &mut impl BufRead, length: &str) -> Result<String> {
    if length == "-1" {
        return Ok(String::new());
    }
    let length: usize = length.parse().context("read a length")?;
    let mut bytes = vec![0; length + 2];
    reader.read_exact(&mut bytes).context("read a value")?;
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &str, expected: &str) {
        assert_eq!(answer(&mut bytes.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_command_is_an_array_of_counted_words() {
        assert_eq!(
            request(&["SET", "key", "ä"]),
            "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$2\r\nä\r\n".as_bytes()
        );
    }

    #[test]
    fn every_kind_of_answer_becomes_text() {
        check("+PONG\r\n", "PONG");
        check(":42\r\n", "42");
        check("$-1\r\n", "");
        check("$4\r\na\r\nb\r\n", "a\r\nb");
        check("*3\r\n$1\r\na\r\n:2\r\n*1\r\n+c\r\n", "a\n2\nc");
        check("*-1\r\n", "");
    }

    #[test]
    fn an_error_keeps_the_servers_words() {
        let error = answer(&mut "-ERR unknown command\r\n".as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "ERR unknown command");
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        for cut in ["", "+PON", "$4\r\nab", "*2\r\n:1\r\n"] {
            assert!(answer(&mut cut.as_bytes()).is_err(), "{cut:?}");
        }
    }
}
