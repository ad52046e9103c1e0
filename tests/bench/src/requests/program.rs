//! Builds of the gateway, to be measured side by side.

use std::path::PathBuf;

/// A build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// `NAME=PATH`, or a path alone.
pub(super) fn named(text: &str) -> Result<Program, String> {
    let (name, path) = text.split_once('=').unwrap_or(("tundish", text));
    if name.is_empty() || path.is_empty() {
        return Err("write NAME=PATH".to_owned());
    }
    Ok(Program {
        name: name.to_owned(),
        path: PathBuf::from(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_a_name() {
        let program = |name: &str, path: &str| Program {
            name: name.to_owned(),
            path: PathBuf::from(path),
        };
        assert_eq!(named("before=/tmp/a"), Ok(program("before", "/tmp/a")));
        assert_eq!(named("/tmp/a"), Ok(program("tundish", "/tmp/a")));
        assert!(named("before=").is_err());
    }
}
