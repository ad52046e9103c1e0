use std::os::unix::process::ExitStatusExt;
use std::panic::AssertUnwindSafe;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

fn shell(logs: &Path, script: &str) -> Process {
    Process::spawn("shell", Command::new("sh").args(["-c", script]), logs).unwrap()
}

fn alive(id: &str) -> bool {
    // Only the parent still sees a zombie.
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with('Z')
    })
}

#[tokio::test]
async fn a_line_is_found_in_either_output_of_this_run_only() {
    let logs = tempfile::tempdir().unwrap();
    let mut first = shell(logs.path(), "echo first line >&2; sleep 60");
    assert_eq!(
        first.wait_for_line("first", LIMIT).await.unwrap(),
        "first line"
    );
    drop(first);
    let mut second = shell(logs.path(), "echo second; sleep 60");
    second.wait_for_line("second", LIMIT).await.unwrap();
    assert_eq!(second.log(), "second\n");
}

#[tokio::test]
async fn an_early_exit_is_reported_with_the_log() {
    let logs = tempfile::tempdir().unwrap();
    let mut process = shell(logs.path(), "echo no such flag >&2; exit 64");
    let error = process
        .wait_for_line("ready", LIMIT)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("exit status: 64") && error.contains("no such flag"),
        "{error}"
    );
}

#[tokio::test]
async fn terminate_waits_for_the_exit_and_returns_its_code() {
    let logs = tempfile::tempdir().unwrap();
    let mut process = shell(
        logs.path(),
        "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done",
    );
    process.wait_for_line("up", LIMIT).await.unwrap();
    assert_eq!(process.terminate(LIMIT).await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn drop_kills_the_children_too() {
    let logs = tempfile::tempdir().unwrap();
    let mut process = shell(logs.path(), "sleep 600 & echo child $!; wait");
    let line = process.wait_for_line("child", LIMIT).await.unwrap();
    let child = line.trim_start_matches("child ");
    assert!(alive(child));
    drop(process);
    crate::eventually("the child to die", LIMIT, async || {
        (!alive(child)).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_reaper_kills_the_group_when_its_pipe_closes() {
    let logs = tempfile::tempdir().unwrap();
    let mut process = shell(logs.path(), "echo up; sleep 600");
    process.wait_for_line("up", LIMIT).await.unwrap();
    drop(process.reaper.stdin.take());
    assert_eq!(
        process.wait(LIMIT).await.unwrap().signal(),
        Some(Signal::KILL.as_raw())
    );
}

#[tokio::test]
async fn a_secret_in_the_output_of_our_programs_fails_the_test() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "kind: Secret\nstringData: {key: the-key-of-everyone}";
    std::fs::write(folder.path().join("all.yaml"), manifest).unwrap();
    let program = folder.path().join("tundish-tells");
    std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
    let mut command = Command::new(program);
    command.args(["-c", "echo a key: the-key-of-everyone; cat", "--manifests"]);
    command.arg(folder.path());
    let mut process = Process::spawn("tundish-tells", &mut command, folder.path()).unwrap();
    process.wait_for_line("a key", LIMIT).await.unwrap();
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| process.kill()));
    let message = ended.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("tundish-tells puts out"), "{message}");
}
