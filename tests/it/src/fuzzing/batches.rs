//! The lines of batches: what the gateway finds in one is what any reader of JSON finds.

use bytes::Bytes;
use proxy_api::ROWS;
use proxy_api::batches::{self, Lines};
use serde_json::Value;

use super::rows::chunks;

/// Longer lines are refused.
const LONGEST: usize = 4 << 10;

/// The lines of a file, in any cut.
pub fn batch_lines(data: &[u8]) {
    let whole = lines([data]);
    let seed = data.first().copied().unwrap_or(0);
    assert_eq!(lines(chunks(data, seed)), whole, "another cut");
    let rows = ROWS.iter().filter_map(|row| row.answer.call());
    let calls: Vec<_> = rows.filter(|call| call.has_model()).collect();
    for line in &whole {
        for call in &calls {
            let _outcome = batches::outcome(call, line, |_text| None);
        }
        drop(batches::batch(line));
        if let Ok(asked) = batches::asked(line)
            && let Ok(Value::Object(members)) = serde_json::from_slice(line)
        {
            let endpoint = members.get("endpoint").and_then(Value::as_str);
            assert_eq!(asked.endpoint.as_deref(), endpoint);
            let has = |name: &str| members.get(name).is_some_and(|value| !value.is_null());
            let is_elsewhere = has("input_blob") || has("output_folder");
            assert!(asked.elsewhere.is_some() || !is_elsewhere);
        }
        let Ok(found) = batches::line(line) else {
            continue;
        };
        let read: Value = serde_json::from_slice(line).unwrap_or_default();
        if read.is_null() {
            // Deeper, or a number that is larger, than that reader takes.
            continue;
        }
        let body = line.get(found.body).unwrap_or_default();
        assert_eq!(read.get("body"), serde_json::from_slice(body).ok().as_ref());
        assert_eq!(read.get("url").and_then(Value::as_str), Some(&*found.url));
        let row = batches::row(ROWS, &found.url);
        assert!(row.is_none_or(|row| row.method == http::Method::POST));
    }
}

/// The lines up to one that is too long.
fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let (mut lines, mut found) = (Lines::new(LONGEST), Vec::new());
    for piece in pieces {
        lines.push(Bytes::copy_from_slice(piece));
        loop {
            match lines.line() {
                Ok(Some((_, line))) => found.push(line),
                Ok(None) => break,
                Err(_too_long) => return found,
            }
        }
    }
    found.extend(lines.last().map(|(_, line)| line));
    found
}
