//! The examples for GitOps: what Argo CD and Flux would apply is accepted, and the health that Argo CD's script sees
//! is the one that kstatus sees, by which Flux waits.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_support::{ControlPlane, tool, workspace};

use crate::installation::{Installation, LIMIT};

/// Makes the kinds of External Secrets known to the API server.
pub(crate) async fn know_external_secrets(plane: &ControlPlane) -> Result<()> {
    plane
        .apply(include_str!("external-secrets-crds.yaml"))
        .await?;
    for kind in ["secretstores", "externalsecrets"] {
        let crd = format!("crd/{kind}.external-secrets.io");
        let established = "condition=Established";
        plane.wait("default", &crd, established, LIMIT).await?;
    }
    Ok(())
}

fn examples() -> PathBuf {
    workspace().join("examples/gitops")
}

/// The folder of the script, in the layout of `resource_customizations` in Argo CD's own repository.
fn customization() -> PathBuf {
    examples().join("argocd/resource_customizations/tundish.dev/_")
}

fn yaml(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{}", file.display()))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// A value as Lua writes it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("[==[{text}]==]"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(lua).collect();
            format!("{{{}}}", items.join(","))
        }
        Value::Object(members) => {
            let member = |(key, value)| format!("[ [==[{key}]==] ]={}", lua(value));
            let members: Vec<String> = members.iter().map(member).collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

/// What the script says of an object: the status, and the message.
fn health(object: &Value) -> Result<(String, String)> {
    let script = std::fs::read_to_string(customization().join("health.lua"))?;
    let program = format!(
        "obj = {}\nlocal health = (function()\n{script}\nend)()\nio.write(health.status, '\\n', health.message)",
        lua(object)
    );
    let output = Command::new("lua5.1").args(["-e", &program]).output();
    let output = output.context("start lua5.1")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    let answer = String::from_utf8(output.stdout)?;
    let (status, message) = answer.split_once('\n').context("two lines")?;
    Ok((status.to_owned(), message.to_owned()))
}

/// The status of an object by the generic rules of kstatus, in the words of Argo CD:
/// <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>. It leaves no object without
/// Ready in progress, but ours have Ready from the operator's first look on.
fn kstatus(object: &Value) -> &'static str {
    let generation = object.pointer("/metadata/generation");
    let conditions = object.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array);
    let conditions = conditions.map_or(&[][..], Vec::as_slice);
    let is = |kind: &str, status: &str| {
        conditions.iter().any(|one| {
            text(one, "/type") == kind
                && text(one, "/status") == status
                && one
                    .get("observedGeneration")
                    .is_none_or(|seen| Some(seen) == generation)
        })
    };
    if is("Reconciling", "True") {
        "Progressing"
    } else if is("Stalled", "True") {
        "Degraded"
    } else if is("Ready", "True") {
        "Healthy"
    } else {
        "Progressing"
    }
}

#[test]
fn argo_cd_judges_objects_as_its_tests_say_and_as_kstatus_does() -> Result<()> {
    let tests = yaml(&customization().join("health_test.yaml"))?;
    let tests = tests.pointer("/tests").and_then(Value::as_array);
    let mut tested = Vec::new();
    for test in tests.context("a list of tests")? {
        let input = text(test, "/inputPath");
        let object = yaml(&customization().join(input))?;
        let (status, message) = health(&object)?;
        assert_eq!(status, text(test, "/healthStatus/status"), "{input}");
        assert_eq!(message, text(test, "/healthStatus/message"), "{input}");
        assert_eq!(status, kstatus(&object), "{input}");
        tested.push(customization().join(input));
    }
    for file in std::fs::read_dir(customization().join("testdata"))? {
        let file = file?.path();
        assert!(tested.contains(&file), "no test has {}", file.display());
    }
    Ok(())
}

/// What `kubectl apply -k` would send.
fn rendered(folder: &str) -> Result<Vec<Value>> {
    let output = Command::new(tool("kubectl")?)
        .arg("kustomize")
        .arg(examples().join(folder))
        .output()
        .context("start kubectl")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && errors.is_empty(), "{errors}");
    let manifests = String::from_utf8(output.stdout)?;
    let documents = manifests.split("\n---\n");
    documents
        .map(|one| serde_saphyr::from_str(one).context("read what was rendered"))
        .collect()
}

/// Every chart and every folder that an object refers to exists, in this version.
fn refers_to_what_there_is(object: &Value) -> Result<usize> {
    let name = text(object, "/metadata/name");
    let mut found = 0;
    for (chart, version) in [
        ("/spec/chart/spec/chart", "/spec/chart/spec/version"),
        ("/spec/source/chart", "/spec/source/targetRevision"),
    ] {
        let (chart, version) = (text(object, chart), text(object, version));
        if !chart.is_empty() {
            let chart = yaml(&workspace().join("charts").join(chart).join("Chart.yaml"))?;
            assert_eq!(text(&chart, "/version"), version, "{name}");
            found += 1;
        }
    }
    for path in ["/spec/path", "/spec/source/path"] {
        let path = text(object, path);
        if !path.is_empty() {
            let file = workspace().join(path).join("kustomization.yaml");
            assert!(file.exists(), "{name}: {path}");
            found += 1;
        }
    }
    Ok(found)
}

#[test]
fn what_argo_cd_and_flux_install_is_there_and_comes_in_order() -> Result<()> {
    let argo = rendered("argocd")?;
    let mut waves = Vec::new();
    for object in &argo {
        let path = "/metadata/annotations/argocd.argoproj.io~1sync-wave";
        let wave = text(object, path);
        if !wave.is_empty() {
            let wave: i32 = wave.parse().context("a wave is a number")?;
            waves.push((wave, text(object, "/metadata/name")));
        }
    }
    waves.sort_unstable();
    let expected = [
        (-3, "team-a"),
        (-3, "team-b"),
        (-3, "tundish-system"),
        (-2, "tundish-crds"),
        (-1, "tundish"),
        (0, "tundish-platform"),
        (1, "tundish-teams"),
    ];
    assert_eq!(waves, expected);
    let settings = argo
        .iter()
        .find(|object| text(object, "/kind") == "ConfigMap");
    let script = std::fs::read_to_string(customization().join("health.lua"))?;
    for kind in ["AIBackend", "AIRoute", "AIQuota"] {
        let key = format!("/data/resource.customizations.health.tundish.dev_{kind}");
        assert_eq!(text(settings.context("settings")?, &key), script, "{kind}");
    }
    for (objects, wanted) in [(argo, 3), (rendered("flux")?, 5)] {
        let found: Result<Vec<usize>> = objects.iter().map(refers_to_what_there_is).collect();
        assert_eq!(found?.iter().sum::<usize>(), wanted);
    }
    Ok(())
}

#[tokio::test]
async fn overlays_of_teams_are_accepted_and_differ_where_they_should() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let installation = Installation::prepare(plane, "gitops", &[]).await?;
    let plane = &installation.plane;
    know_external_secrets(plane).await?;
    for folder in ["namespaces", "platform", "teams/team-a", "teams/team-b"] {
        let path = examples().join(folder);
        let path = path.to_str().context("the path is text")?;
        let apply = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--validate=strict",
            "-k",
            path,
        ];
        plane.kubectl(&apply).await?.success()?;
    }
    let get = async |object: &str, namespace: &str| -> Result<Value> {
        let args = ["get", object, "-n", namespace, "-o", "json"];
        let json = plane.kubectl(&args).await?.success()?;
        serde_json::from_str(&json).context("kubectl writes JSON")
    };
    for (team, mode, host) in [
        ("team-a", "Enforce", "ai.example.com"),
        ("team-b", "Shadow", "b.ai.example.com"),
    ] {
        let quota = get("aiquota/fair-use", team).await?;
        assert_eq!(text(&quota, "/spec/mode"), mode);
        let route = get("airoute/chat", team).await?;
        assert_eq!(text(&route, "/spec/hostnames/0"), host);
        // Both wait for an operator, which does not run here.
        for object in [quota, route] {
            assert_eq!(health(&object)?.0, kstatus(&object));
            assert_eq!(kstatus(&object), "Progressing");
        }
    }
    Ok(())
}
