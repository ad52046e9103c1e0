//! `tundish check`: every mistake in a folder of manifests.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use crds::Reason;
use operator_compile::Severity;

use crate::args::{CheckArgs, Secrets};
use crate::manifests::Folder;
use crate::report;

/// Prints every mistake; exits with 1 if one is an error.
///
/// # Errors
/// The folder cannot be read, or has none of our objects.
pub fn check(args: &CheckArgs) -> Result<ExitCode> {
    let mut folder = Folder::new(
        &args.manifests,
        &args.namespace.name,
        args.namespace.host_grants.clone(),
    )
    .with_backend_hosts(&args.namespace.backend_hosts)
    .with_gateways_of_the_folder()
    .with_external_secrets(args.secrets == Secrets::External);
    folder.refresh()?;
    let outcome = folder.compile();
    report::findings(&outcome.findings);
    let contents = &outcome.compiled.contents;
    let objects = outcome.compiled.verdicts.len();
    ensure!(
        objects > 0 || !outcome.findings.is_empty(),
        "no AIBackend, AIRoute or AIQuota in the *.yaml, *.yml and *.json files of {}",
        args.manifests.display()
    );
    let verdicts = outcome.compiled.verdicts.values();
    let mut diagnostics = verdicts.flat_map(|verdict| &verdict.diagnostics);
    if diagnostics
        .any(|one| one.reason == Reason::SecretNotFound && one.severity == Severity::Error)
    {
        report::line("Secrets that are made outside the folder: --secrets external");
    }
    let count = |severity| {
        outcome
            .findings
            .iter()
            .filter(|f| f.severity == severity)
            .count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    report::line(&format!(
        "{} backends, {} routes, {} quotas, {} keys usable; {errors} errors, {warnings} warnings",
        contents.backends.len(),
        contents
            .routes
            .iter()
            .filter(|route| route.rejected.is_none())
            .count(),
        contents.quotas.len(),
        contents.keys.len(),
    ));
    Ok(if errors > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
