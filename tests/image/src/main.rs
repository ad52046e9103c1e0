//! Writes the image of the release binaries: `cargo run -p tests-image -- target/release target/image`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tests_image::Image;

/// The entry point first; the chart names the program of each part.
const PROGRAMS: [&str; 3] = ["tundish", "tundish-operator", "tundish-proxy"];

const SOURCE: &str = "https://github.com/tundish/tundish";

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1).map(PathBuf::from);
    let binaries = words.next().context("name the folder of the binaries")?;
    let folder = words.next().context("name the folder of the image")?;
    let licenses = tests_sbom::licenses()?;
    let image = Image {
        programs: PROGRAMS.map(|name| binaries.join(name)).to_vec(),
        license: Path::new("LICENSE"),
        licenses: &licenses,
        version: env!("CARGO_PKG_VERSION"),
        source: SOURCE,
        revision: &revision(),
    };
    let digest = tests_image::write(&image, &folder)?;
    let bill = serde_json::to_string_pretty(&tests_sbom::bill()?)?;
    let beside = folder.with_extension("cdx.json");
    std::fs::write(&beside, bill).context("write the bill of materials")?;
    writeln!(std::io::stdout(), "{digest}")?;
    Ok(())
}

/// The commit, where the sources are a checkout.
fn revision() -> String {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}
