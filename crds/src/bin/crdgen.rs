//! `crdgen` prints the definitions of the three kinds as YAML, or writes a file for each.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: crdgen [--out DIR]

Prints the CustomResourceDefinitions of Tundish as one YAML stream,
or writes aibackends.yaml, aiquotas.yaml and airoutes.yaml into DIR.
";

/// The exit code for wrong usage (sysexits.h, EX_USAGE).
const USAGE_ERROR: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match *arguments {
        [] => print(),
        ["--out", directory] => write_into(&PathBuf::from(directory)),
        ["--help" | "-h"] => io::stdout().write_all(USAGE.as_bytes()),
        _ => {
            let _unwritable = io::stderr().write_all(USAGE.as_bytes());
            return ExitCode::from(USAGE_ERROR);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _unwritable = writeln!(io::stderr(), "crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for yaml in crds::manifests().map_err(io::Error::other)?.values() {
        write!(out, "---\n{yaml}")?;
    }
    Ok(())
}

fn write_into(directory: &PathBuf) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (file, yaml) in crds::manifests().map_err(io::Error::other)? {
        fs::write(directory.join(file), yaml)?;
    }
    Ok(())
}
