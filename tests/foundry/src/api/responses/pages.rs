//! Lists of items, page by page (Responses API reference, list input items).

use serde_json::{Value, json};

use crate::{body::unsupported, call::Call, errors::Failure};

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// The page of `items`, oldest first, that the query asks for: the newest first, unless it says otherwise.
pub(crate) fn page(call: &Call<'_>, mut items: Vec<Value>) -> Result<Value, Failure> {
    match call.parameter("order") {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(other) => return Err(unsupported("order", other, "'asc' and 'desc'")),
    }
    let limit = match call.parameter("limit").map(str::parse) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
        Some(_) => {
            let message = "Invalid 'limit': expected an integer from 1 to 100.";
            return Err(Failure::invalid(
                message,
                Some("limit"),
                Some("invalid_value"),
            ));
        }
    };
    let id = |item: &Value| item.get("id").and_then(Value::as_str).map(str::to_owned);
    if let Some(after) = call.parameter("after") {
        let place = items
            .iter()
            .position(|item| id(item).as_deref() == Some(after));
        items.drain(..place.map_or(0, |place| place + 1));
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    Ok(json!({
        "object": "list",
        "first_id": items.first().and_then(id).unwrap_or_default(),
        "last_id": items.last().and_then(id).unwrap_or_default(),
        "has_more": has_more,
        "data": items,
    }))
}
