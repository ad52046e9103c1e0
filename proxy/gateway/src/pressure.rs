//! How full an endpoint says that it is, in the headers of its answers: load is steered off it before it
//! says 429.

use http::HeaderMap;

#[cfg(test)]
mod tests;

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
/// The whole of anything here: parts are in thousandths.
pub(crate) const WHOLE: u32 = 1_000;
/// The room below which an endpoint takes less.
const TIGHT: u32 = 100;
/// The share of an endpoint without room: its answers tell when it has some again.
const LEAST: u32 = 50;

/// The thousandths of its share that an endpoint should take, by the headers of an answer; `None` if they do
/// not tell.
pub(crate) fn share(headers: &HeaderMap) -> Option<u32> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let provisioned = text(UTILIZATION).and_then(thousandths);
    let provisioned = provisioned.map(|used| WHOLE.saturating_sub(used));
    let limits = LIMITS.iter().filter_map(|(left, limit)| {
        // -1 means that it is not known, and so does a limit of 0.
        let left: u64 = text(left)?.parse().ok()?;
        let limit: u64 = text(limit)?.parse().ok()?;
        let part = left.saturating_mul(WHOLE.into()).checked_div(limit)?;
        Some(u32::try_from(part).unwrap_or(WHOLE))
    });
    let room = provisioned.into_iter().chain(limits).min()?;
    let share = room.saturating_mul(WHOLE / TIGHT);
    Some(share.clamp(LEAST, WHOLE))
}

/// `87.5%` as 875.
fn thousandths(percent: &str) -> Option<u32> {
    let number = percent.strip_suffix('%').unwrap_or(percent);
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let tenths = rest.get(..1)?.parse::<u32>().ok()?;
    let whole = whole.parse::<u32>().ok()?;
    Some(whole.saturating_mul(10).saturating_add(tenths))
}
