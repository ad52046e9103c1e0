use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

#[test]
fn a_free_port_can_be_bound_and_is_returned_once() {
    let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
    assert_eq!(ports.len(), 50);
    for port in ports {
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}

#[test]
fn a_missing_program_is_named_with_the_command_that_builds_it() {
    let error = format!("{:#}", binary("no-such-binary").unwrap_err());
    assert!(error.contains("cargo build --workspace --bins"), "{error}");
    let error = tool("no-such-tool").unwrap_err().to_string();
    assert!(
        error.starts_with("no-such-tool is missing") && error.contains("make tools"),
        "{error}"
    );
}

#[test]
fn a_stale_binary_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (binary, source) = (folder.path().join("it"), folder.path().join("lib.rs"));
    std::fs::write(&source, "").unwrap();
    std::fs::write(&binary, "").unwrap();
    std::fs::write(
        folder.path().join("it.d"),
        format!("{}: {}\n", binary.display(), source.display()),
    )
    .unwrap();
    let file = std::fs::File::options().write(true).open(&source).unwrap();
    let built = binary.metadata().unwrap().modified().unwrap();
    file.set_modified(built - Duration::from_secs(9)).unwrap();
    assert_eq!(newer_source(&binary), None);
    file.set_modified(built + Duration::from_secs(9)).unwrap();
    assert_eq!(newer_source(&binary), Some(source.display().to_string()));
}
