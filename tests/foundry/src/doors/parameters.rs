//! Parameters of a query or a form.

use std::collections::HashMap;

/// The parameters of a query or form; the first that stands there twice is the error.
pub(super) fn parse(text: &str) -> Result<HashMap<String, String>, String> {
    let mut all = HashMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name);
        if all.insert(name.clone(), decoded(value)).is_some() {
            return Err(name);
        }
    }
    Ok(all)
}

/// Text of a form (URL Standard, application/x-www-form-urlencoded).
fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair: Vec<u8> = bytes.by_ref().take(2).collect();
                let number = std::str::from_utf8(&pair)
                    .ok()
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok());
                number.unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&plain).into_owned()
}
