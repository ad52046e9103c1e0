//! Keys of `tundish key new`: from the command to a call, and what the documents say about them.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy_core::auth::{KeyDigest, form};
use serde_json::json;
use tests_support::{Quickstart, binary, eventually, http, tool, workspace};

/// A change in the folder is in force within a second; a start beside a build takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// The words after `tundish` that make a key for the routes of the quickstart.
const NEW: [&str; 7] = [
    "key",
    "new",
    "search-2",
    "-n",
    "default",
    "-l",
    "tundish.dev/keys=chat",
];

/// The Secret and the key that a command printed.
fn printed(output: Output) -> Result<(String, String)> {
    let notes = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{notes}");
    let key = notes.lines().last().context("no key is shown")?;
    Ok((String::from_utf8(output.stdout)?, key.to_owned()))
}

#[tokio::test]
async fn a_new_key_calls_as_soon_as_its_secret_is_there() -> Result<()> {
    let quickstart = Quickstart::start(&[]).await?;
    let (manifest, key) = printed(Command::new(binary("tundish")?).args(NEW).output()?)?;
    assert!(form::is_whole(&key), "{key}");
    assert!(!manifest.contains(&key), "{manifest}");
    let call = async |key: &str| {
        let body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]});
        http::post_json(
            &quickstart.chat_url(),
            &[("api-key", key)],
            body.to_string(),
        )
        .await
    };
    let answer = call(&key).await?;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.text().contains("is not known"), "{}", answer.text());
    std::fs::write(quickstart.manifests().join("key.yaml"), manifest)?;
    eventually("the key to be good", LIMIT, async || {
        (call(&key).await.ok()?.status == 200).then_some(())
    })
    .await?;
    // One character less, as of a copy that missed it.
    let answer = call(key.get(..key.len() - 1).context("no key")?).await?;
    assert_eq!(answer.status, 401);
    assert!(
        answer.text().contains("mistyped or cut off"),
        "{}",
        answer.text()
    );
    Ok(())
}

#[test]
fn kubectl_finds_it_as_a_plugin() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plugin = folder.path().join("kubectl-tundish");
    std::os::unix::fs::symlink(binary("tundish")?, plugin)?;
    let mut kubectl = Command::new(tool("kubectl")?);
    let (manifest, key) = printed(
        kubectl
            .env("PATH", folder.path())
            .arg("tundish")
            .args(NEW)
            .output()?,
    )?;
    let hex = sha2_hex(&KeyDigest::of(&key));
    assert!(manifest.contains(&hex), "{manifest}");
    Ok(())
}

#[test]
fn a_key_in_a_file_is_not_printed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("key");
    let output = Command::new(binary("tundish")?)
        .args(NEW)
        .arg("--key-file")
        .arg(&file)
        .output()?;
    assert!(output.status.success());
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let key = std::fs::read_to_string(&file)?;
    assert!(form::is_whole(key.trim_end()), "{key}");
    // A second key does not take the place of the first.
    let output = Command::new(binary("tundish")?)
        .args(NEW)
        .arg("--key-file")
        .arg(&file)
        .output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "no Secret for a key that is lost");
    assert_eq!(std::fs::read_to_string(&file)?, key);
    Ok(())
}

fn sha2_hex(digest: &KeyDigest) -> String {
    let bytes = digest.as_bytes().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_example_is_good_where_its_secrets_are_made_outside() -> Result<()> {
    let mut command = Command::new(binary("tundish")?);
    command.arg("check").arg(workspace().join("examples/keys"));
    let output = command.args(["--secrets", "external"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}");
    assert!(text.contains("1 keys usable; 0 errors"), "{text}");
    Ok(())
}

/// helm has the functions of templates that External Secrets has, both from sprig.
#[test]
fn the_template_of_the_example_makes_the_hash_of_a_key() -> Result<()> {
    let example = workspace().join("examples/keys/external-secrets.yaml");
    let example = std::fs::read_to_string(example)?;
    let mut lines = example.lines().map(str::trim);
    let line = lines
        .find(|line| line.starts_with("bound-sha256: "))
        .context("no hash")?;
    let chart = tempfile::tempdir()?;
    let write = |path: &str, text: &str| std::fs::write(chart.path().join(path), text);
    std::fs::create_dir(chart.path().join("templates"))?;
    write("Chart.yaml", "apiVersion: v2\nname: hash\nversion: 0.1.0\n")?;
    write("templates/hash.yaml", &line.replace(".key", ".Values.key"))?;
    let key = form::make("team-a", [3; 20])?;
    let mut helm = Command::new(tool("helm")?);
    helm.args(["template", "hash"])
        .arg(chart.path())
        .args(["--set", &format!("key={key}")]);
    let output = helm.output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let hex = sha2_hex(&KeyDigest::of(&key));
    assert!(text.contains(&hex), "{hex} is not in {text}");
    Ok(())
}

/// The expression that SECURITY.md and docs/keys.md give to scanners.
#[test]
fn the_documented_expression_finds_keys() -> Result<()> {
    let expression = "tdh_[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?_[0-9a-hjkmnp-tv-z]{39}";
    for page in ["SECURITY.md", "docs/keys.md"] {
        let text = std::fs::read_to_string(workspace().join(page))?;
        assert!(text.contains(expression), "{page}");
    }
    let folder = tempfile::tempdir()?;
    let found = |text: &str| -> Result<bool> {
        let file = folder.path().join("text");
        std::fs::write(&file, text)?;
        let mut grep = Command::new("grep");
        grep.args(["-qxE", expression]).arg(Path::new(&file));
        Ok(grep.status()?.success())
    };
    for namespace in ["a", "team-a", &"n".repeat(63)] {
        let key = form::make(namespace, [5; 20])?;
        assert!(found(&key)?, "{key}");
    }
    assert!(!found("tdh_team_short")?);
    Ok(())
}
