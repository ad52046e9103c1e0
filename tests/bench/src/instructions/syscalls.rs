//! The table of `strace -c`: system calls by name.

use std::collections::BTreeMap;

/// Calls by name. Failed ones count, since they cost as much.
pub(super) fn read(text: &str) -> BTreeMap<String, u64> {
    let calls = |line: &str| -> Option<(String, u64)> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let name = words.last().filter(|name| **name != "total")?;
        // The share, seconds and microseconds come first; the column of errors is mostly blank.
        words.first()?.parse::<f64>().ok()?;
        Some(((*name).to_owned(), words.get(3)?.parse().ok()?))
    };
    text.lines().filter_map(calls).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_with_and_without_errors() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.54    0.000016           8      2000           writev
 38.46    0.000010           5      2010        10 recvfrom
  0.00    0.000000           0         1           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.000026           6      4011        10 total
";
        let read = read(table);
        let expected = [("epoll_wait", 1), ("recvfrom", 2010), ("writev", 2000)];
        let expected = expected.map(|(name, calls)| (name.to_owned(), calls));
        assert_eq!(read, BTreeMap::from(expected));
    }
}
