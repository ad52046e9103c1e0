//! `tundish ready`: waits until processes are ready, for scripts and for `helm test`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use proxy_admin::clock;

use crate::args::ReadyArgs;
use crate::report;

/// Pause between two looks: a start takes a second or two.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until every process behind the admin ports is ready.
///
/// # Errors
/// One of them was not ready in time; the error is that of the last look.
pub fn ready(args: &ReadyArgs) -> Result<ExitCode> {
    let end_ms = clock::now().monotonic_ms + u64::from(args.wait) * 1000;
    for admin in &args.admin {
        while let Err(error) = admin.ready() {
            if clock::now().monotonic_ms >= end_ms {
                return Err(error);
            }
            std::thread::sleep(PAUSE);
        }
        report::line(&format!("{admin} is ready"));
    }
    Ok(ExitCode::SUCCESS)
}
