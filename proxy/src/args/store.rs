//! Reads the address of the shared store. It may have a password, so no error repeats it;
//! those of clap do.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use proxy_ledger::StoreAddress;

/// The value of `--quota-store`.
#[derive(Clone, Debug)]
pub(super) struct StoreParser;

impl TypedValueParser for StoreParser {
    type Value = StoreAddress;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<StoreAddress, Error> {
        let wrong = |why: &dyn std::fmt::Display| {
            let flag = arg.map(Arg::to_string).unwrap_or_default();
            let message = format!("invalid value for '{flag}': {why}\n");
            Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        };
        let text = value.to_str().ok_or_else(|| wrong(&"it is no text"))?;
        text.parse().map_err(|error| wrong(&error))
    }
}

#[cfg(test)]
mod tests;
