//! Bounds of texts. The API server checks them too, by schema and CEL; a folder of files has none.

/// The largest integer that JSON readers keep exact: 2^53 - 1.
pub(crate) const MAX_SAFE_INTEGER: i64 = 9_007_199_254_740_991;

/// A DNS-1123 label of at most 63 characters: namespaces, rules, limits.
#[must_use]
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_segment(text)
}

/// A DNS-1123 subdomain of at most 253 characters: names of objects and hosts.
#[must_use]
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_segment)
}

fn is_segment(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A host name, or `*.` and a host name.
pub(crate) fn is_hostname(text: &str) -> bool {
    text.len() <= 253 && is_subdomain(text.strip_prefix("*.").unwrap_or(text))
}

/// A UUID, as Entra writes the ids of applications.
pub(crate) fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// An Entra tenant: a UUID or a domain, so one segment of a path.
pub(crate) fn is_tenant(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 253
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

/// A deployment or model name. No segment begins with a dot, so that a name never walks a path.
pub(crate) fn is_model(text: &str) -> bool {
    text.len() <= 128
        && text.split('/').all(|segment| {
            segment.starts_with(|c: char| c.is_ascii_alphanumeric())
                && segment.chars().all(is_model_char)
        })
}

/// A model, or the beginning of one with a `*` at the end.
pub(crate) fn is_model_pattern(text: &str) -> bool {
    let prefix = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty() && text.len() <= 128 && prefix.chars().all(|c| is_model_char(c) || c == '/')
}

fn is_model_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._:@+-".contains(c)
}

/// The origin of a web page as browsers write it: `https://host` or `https://host:port`, and
/// `http://` for this machine only.
pub(crate) fn is_origin(text: &str) -> bool {
    let is_port =
        |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    let is_host = |host: &str, port: Option<&str>| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        !host.is_empty()
            && host.chars().all(inner)
            && !host.starts_with(['-', '.'])
            && !host.ends_with(['-', '.'])
            && port.is_none_or(is_port)
    };
    let authority = |rest: &str| match rest.split_once(':') {
        Some((host, port)) => is_host(host, Some(port)),
        None => is_host(rest, None),
    };
    if let Some(rest) = text.strip_prefix("https://") {
        return authority(rest);
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return false;
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
        rest.strip_prefix(host)
            .is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
    })
}

/// An Azure API version, which becomes part of a URL: a word, or a date that there is, perhaps with `-preview`.
pub(crate) fn is_api_version(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    let is_date = || {
        let (date, rest) = text.split_at_checked(10)?;
        let mut parts = date.split('-');
        let [year, month, day] = [parts.next()?, parts.next()?, parts.next()?];
        let number = |text: &str| text.parse::<u32>().ok();
        let is_good = (year.len(), month.len(), day.len()) == (4, 2, 2)
            && (2020..=2099).contains(&number(year)?)
            && (1..=12).contains(&number(month)?)
            && (1..=31).contains(&number(day)?);
        Some(is_good && (rest.is_empty() || rest.starts_with('-')))
    };
    let is_word = !text.starts_with(|first: char| first.is_ascii_digit());
    text.len() <= 32 && text.chars().all(inner) && (is_word || is_date().unwrap_or(false))
}

/// The name of an attribute, as labels have it after their prefix.
pub(crate) fn is_attribute(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(inner)
}

/// Printable ASCII without spaces.
pub(crate) fn is_graphic(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The first name that occurs a second time, with the index of that second time.
pub(crate) fn duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    let mut seen = std::collections::BTreeSet::new();
    names.enumerate().find(|(_, name)| !seen.insert(*name))
}

#[cfg(test)]
mod tests;
