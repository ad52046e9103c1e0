//! How much of an endpoint is free by what it says in the headers of its answers: load is steered off it before
//! it says 429.

use http::HeaderMap;

#[cfg(test)]
mod tests;

/// Parts are in thousandths.
const WHOLE: i32 = 1_000;
/// The use of a provisioned deployment, as in `87.5%`.
const UTILIZATION: &str = "azure-openai-deployment-utilization";
/// The limits of a minute: what is left, and of how much.
const LIMITS: [(&str, &str); 2] = [
    (
        "x-ratelimit-remaining-requests",
        "x-ratelimit-limit-requests",
    ),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens"),
];
/// The thousandths of an endpoint that are free, by the headers of an answer; `None` if they do not tell. Below 0 if
/// more is used than there is.
pub(crate) fn free(headers: &HeaderMap) -> Option<i32> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let used = text(UTILIZATION).and_then(thousandths);
    let used = used.and_then(|used| i32::try_from(used).ok());
    let provisioned = used.map(|used| WHOLE.saturating_sub(used));
    let limits = LIMITS.iter().filter_map(|(left, limit)| {
        // -1 means that it is not known, and so does a limit of 0.
        let left: u64 = text(left)?.parse().ok()?;
        let limit: u64 = text(limit)?.parse().ok()?;
        let part = left.saturating_mul(1_000).checked_div(limit)?;
        Some(i32::try_from(part).unwrap_or(WHOLE))
    });
    provisioned.into_iter().chain(limits).min()
}

/// `87.5%` as 875.
fn thousandths(percent: &str) -> Option<u32> {
    let number = percent.strip_suffix('%').unwrap_or(percent);
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let tenths = rest.get(..1)?.parse::<u32>().ok()?;
    let whole = whole.parse::<u32>().ok()?;
    Some(whole.saturating_mul(10).saturating_add(tenths))
}
