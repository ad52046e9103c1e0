//! Prints the bill of materials: `cargo run -p tests-sbom`.

use std::io::Write as _;

fn main() -> anyhow::Result<()> {
    let bill = tests_sbom::bill()?;
    let text = serde_json::to_string_pretty(&bill)?;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}
