//! The page of metrics in the two forms that scrapers read.
//!
//! The text format of Prometheus is what tools and older agents expect; OpenMetrics is for whoever asks for
//! it. Both have the same samples. They name counters otherwise: the family of `x_total` is `x` in
//! OpenMetrics, and without this a reader of the text format sees a counter without type and help.

use std::fmt::{self, Write as _};

use http::HeaderValue;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

#[cfg(test)]
mod tests;

/// The form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// The text format, 0.0.4.
    Text,
    OpenMetrics,
}

impl Exposition {
    /// The form for a scraper that accepts this: OpenMetrics only if it is named.
    pub(crate) fn asked(accept: Option<&HeaderValue>) -> Self {
        let accept = accept.and_then(|accept| accept.to_str().ok());
        let mut ranges = accept.unwrap_or_default().split(',');
        let names = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next() == Some("application/openmetrics-text");
            // RFC 9110, 12.4.2: a weight of 0 means "not acceptable".
            named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        };
        if ranges.any(names) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The page of all that these registries hold.
    pub(crate) fn page(self, registries: [&Registry; 2]) -> Result<String, fmt::Error> {
        let mut page = String::new();
        for registry in registries {
            encode_registry(&mut page, registry)?;
        }
        match self {
            Self::Text => text(&page),
            Self::OpenMetrics => {
                encode_eof(&mut page)?;
                Ok(page)
            }
        }
    }
}

/// The same in the text format.
fn text(open: &str) -> Result<String, fmt::Error> {
    let mut page = String::with_capacity(open.len());
    let mut help = "";
    for line in open.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // Its family's name depends on the type, which is on the next line.
            help = described.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((family, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|typed| typed.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            writeln!(page, "# HELP {family}{suffix} {help}")?;
            writeln!(page, "# TYPE {family}{suffix} {kind}")?;
        } else if !line.starts_with("# UNIT ") {
            writeln!(page, "{line}")?;
        }
    }
    Ok(page)
}
