//! From `kubectl apply` to enforcement.

use anyhow::Result;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Changes to measure
    #[arg(long, default_value_t = 50)]
    changes: usize,
    /// Routes that are loaded before
    #[arg(long, default_value_t = 1_000)]
    routes: usize,
}

/// Measures and prints.
pub(crate) fn run(_args: &Args) -> Result<()> {
    anyhow::bail!("needs the operator")
}
