//! The output file of callgrind: instructions in all, and how often some functions were called.

use std::collections::HashMap;

use anyhow::{Context, Result};

/// What one dump counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) instructions: u64,
    /// Calls of `malloc`, `calloc` and `realloc`.
    pub(super) allocations: u64,
    /// Calls of `clock_gettime`.
    pub(super) clock_reads: u64,
}

impl Counts {
    /// Reads a dump. The format is in the manual of callgrind, "Callgrind Format Specification": a name
    /// stands once behind its number, and `calls=` counts calls of the `cfn=` above it.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut names: HashMap<&str, &str> = HashMap::new();
        let mut callee = "";
        let mut counts = Self::default();
        let mut total = None;
        for line in text.lines() {
            let Some((key, value)) = line.split_once(['=', ':']) else {
                continue;
            };
            match key {
                "fn" => {
                    name(&mut names, value);
                }
                "cfn" => callee = name(&mut names, value),
                "calls" => {
                    let calls = value.split_ascii_whitespace().next();
                    let calls: u64 = calls.context("calls without a count")?.parse()?;
                    match callee {
                        "malloc" | "calloc" | "realloc" => counts.allocations += calls,
                        "clock_gettime" => counts.clock_reads += calls,
                        _ => {}
                    }
                }
                "totals" => total = Some(value.trim().parse().context("read the total")?),
                _ => {}
            }
        }
        counts.instructions = total.context("a dump without its total")?;
        Ok(counts)
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            instructions: self.instructions.saturating_sub(before.instructions),
            allocations: self.allocations.saturating_sub(before.allocations),
            clock_reads: self.clock_reads.saturating_sub(before.clock_reads),
        }
    }
}

/// The name behind `(12) name` or an earlier `(12) name`, without a symbol's version (`@@GLIBC_2.17`) and
/// the mark of recursion (`'2`).
fn name<'a>(names: &mut HashMap<&'a str, &'a str>, value: &'a str) -> &'a str {
    let (number, name) = value.split_once(' ').unwrap_or((value, ""));
    let full = match name {
        "" => names.get(number).copied().unwrap_or_default(),
        name => {
            names.insert(number, name);
            name
        }
    };
    full.split(['@', '\'']).next().unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
version: 1
events: Ir
fl=(1) a.c
fn=(1) main
16 400
cfn=(2) malloc
calls=3 20
16 400
cob=(2) libc.so.6
cfn=(3) clock_gettime@@GLIBC_2.17
calls=2 0
17 10

fn=(4) realloc
20 5
cfn=(2)
calls=4 20
16 9
cfn=(4)
calls=1 20
16 9
cfn=(5) malloc'2
calls=1 20
16 9
cfn=(6) malloc_consolidate
calls=7 20
16 9
totals: 1234
";

    #[test]
    fn calls_are_counted_by_the_name_of_the_callee() {
        let counts = Counts::read(DUMP).unwrap();
        let expected = Counts {
            instructions: 1234,
            allocations: 9,
            clock_reads: 2,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.since(expected), Counts::default());
        assert!(Counts::read("events: Ir\n").is_err());
    }
}
