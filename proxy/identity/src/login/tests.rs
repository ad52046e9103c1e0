use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

const SCOPE: &str = "https://ai.azure.com/.default";

/// A command that writes down how it is called, and then does as `script` says.
struct Fake {
    folder: TempDir,
    login: Login,
}

impl Fake {
    fn of(tool: Tool, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tool");
        let called = folder.path().join("called");
        let script = format!("#!/bin/sh\necho \"$@\" > {}\n{script}\n", called.display());
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            folder,
            login: Login { tool, program },
        }
    }

    fn called(&self) -> String {
        fs::read_to_string(self.folder.path().join("called")).unwrap()
    }
}

async fn failure(tool: Tool, script: &str) -> String {
    let failure = Fake::of(tool, script).login.token(SCOPE, None).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.label(), "not_set_up");
    failure.to_string()
}

#[tokio::test]
async fn each_command_is_asked_for_the_scope_and_tenant() {
    let ends = clock::now().unix_ms / 1_000 + 3_600;
    let az = format!(
        r#"echo '{{"accessToken": "secret-1", "expiresOn": "2026-01-01 10:00:00.000000", "expires_on": {ends},
          "subscription": "s", "tenant": "t", "tokenType": "Bearer"}}'"#
    );
    let until = Timestamp::from_second(ends).unwrap();
    let azd = format!(r#"echo '{{"token": "secret-2", "expiresOn": "{until}"}}'"#);
    for (tool, script, secret, called) in [
        (
            Tool::Az,
            az,
            "secret-1",
            "account get-access-token --output json --scope",
        ),
        (
            Tool::Azd,
            azd,
            "secret-2",
            "auth token --output json --scope",
        ),
    ] {
        let fake = Fake::of(tool, &script);
        let token = fake.login.token(SCOPE, None).await.unwrap();
        assert_eq!(token.secret.expose(), secret);
        assert!(
            token.lives.as_secs().abs_diff(3_600) <= 5,
            "{:?}",
            token.lives
        );
        assert_eq!(fake.called().trim(), format!("{called} {SCOPE}"));
        fake.login.token(SCOPE, Some("tenant")).await.unwrap();
        assert!(
            fake.called().trim().ends_with(" tenant"),
            "{}",
            fake.called()
        );
    }
}

#[tokio::test]
async fn a_command_that_fails_says_why_and_shows_no_token() {
    let said = failure(
        Tool::Az,
        "echo \"ERROR: Please run 'az login'\" >&2; exit 1",
    )
    .await;
    assert_eq!(said, "az: ERROR: Please run 'az login'");
    assert!(
        failure(Tool::Azd, "exit 3")
            .await
            .contains("exit status: 3")
    );
    let said = failure(Tool::Az, r#"echo '{"accessToken": "secret-3"}'"#).await;
    assert!(
        said.contains("update it") && !said.contains("secret"),
        "{said}"
    );
    let old = r#"echo '{"accessToken": "secret-4", "expires_on": 1000}'"#;
    assert!(failure(Tool::Az, old).await.contains("has ended already"));
    let said = failure(Tool::Azd, "echo secret-5").await;
    assert!(
        said.contains("printed no token") && !said.contains("secret"),
        "{said}"
    );
    let missing = Login {
        tool: Tool::Az,
        program: "/nowhere/az".into(),
    };
    let said = missing.token(SCOPE, None).await.unwrap_err().to_string();
    assert!(said.contains("it cannot be run"), "{said}");
}
