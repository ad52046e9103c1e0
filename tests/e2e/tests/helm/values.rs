//! What the charts render, without a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use expect_test::expect_file;
use serde_json::Value;
use tests_support::{binary, workspace};

use crate::program::{CUSTOM, EVERYTHING, HELMS, Helm, OLDEST};

#[test]
fn both_charts_pass_the_lint_and_render_the_same_bytes_each_time() -> Result<()> {
    // The two put other blank lines between manifests.
    let lines = |text: &str| -> Vec<String> {
        let filled = text.lines().filter(|line| !line.trim().is_empty());
        filled.map(str::to_owned).collect()
    };
    let mut rendered = Vec::new();
    for name in HELMS {
        let helm = Helm::new(name, None)?;
        helm.run(&["lint", "--strict", OLDEST, "tundish", "tundish-crds"])?;
        for args in [&[][..], &[EVERYTHING], &[CUSTOM]] {
            let text = helm.template(args)?;
            ensure!(
                helm.template(args)? == text,
                "{name} renders {args:?} differently"
            );
            rendered.push(lines(&text));
        }
    }
    let (first, second) = rendered.split_at(rendered.len() / 2);
    ensure!(
        first == second,
        "the two versions of helm render differently"
    );
    Ok(())
}

#[test]
fn a_value_that_is_misspelt_or_out_of_range_is_refused_by_name() -> Result<()> {
    for name in HELMS {
        let helm = Helm::new(name, None)?;
        for (chart, value, named) in [
            ("tundish", "proxy.replica=3", "replica"),
            ("tundish", "watch.allNamespace=true", "allNamespace"),
            ("tundish", "proxies.replicas=3", "proxies"),
            ("tundish", "proxy.service.prot=80", "prot"),
            ("tundish", "proxy.maxBody=many", "maxBody"),
            ("tundish", "proxy.trustedHops=17", "trustedHops"),
            (
                "tundish",
                "backends.allowedHosts={https://a.b}",
                "allowedHosts",
            ),
            (
                "tundish",
                "backends.admissionPolicy.enabled=true",
                "allowedHosts",
            ),
            (
                "tundish",
                "proxy.podDisruptionBudget.minAvailable=2",
                "minAvailable",
            ),
            (
                "tundish",
                "proxy.podDisruptionBudget.minAvailable=99%",
                "minAvailable",
            ),
            ("tundish", "proxy.extraVolume[0].name=a", "extraVolume"),
            ("tundish", "proxy.service.clusterIP=None", "clusterIP"),
            (
                "tundish",
                "proxy.service.externalTrafficPolicy=Global",
                "externalTrafficPolicy",
            ),
            ("tundish", "proxy.dnsPolicy=Neither", "dnsPolicy"),
            ("tundish", "operator.strategy.type=Rolling", "strategy"),
            ("tundish", "metrics.serviceMonitor.label=a", "label"),
            ("tundish", "metrics.podMonitor.interval=soon", "interval"),
            ("tundish", "logFormat=yaml", "logFormat"),
            (
                "tundish",
                "operator.leaderElection.leaseDuration=1",
                "leaseDuration",
            ),
            ("tundish", "rbac.aggregate=true", "aggregate"),
            ("tundish", "rbac.aggregate.edit={airoute}", "edit"),
            ("tundish", "networkPolicy.dns.ports={}", "ports"),
            ("tundish", "ingress.enabled=true", "ingress.hosts"),
            ("tundish", "httpRoute.enabled=true", "httpRoute.parentRefs"),
            (
                "tundish",
                "certManager.enabled=true",
                "certManager.issuerRef",
            ),
            ("tundish", "crds.kep=true", "kep"),
            (
                "tundish",
                "operator.podDisruptionBudget.maxUnavailable=0",
                "maxUnavailable",
            ),
            (
                "tundish",
                "proxy.podDisruptionBudget.maxUnavailable=0%",
                "maxUnavailable",
            ),
            ("tundish-crds", "kep=false", "kep"),
        ] {
            let set = format!("--set={value}");
            let answer = helm.call(&["template", "x", chart, OLDEST, &set])?;
            ensure!(!answer.ok, "{name} takes {value}");
            ensure!(
                answer.text.contains(named),
                "{name}, {value}: {}",
                answer.text
            );
        }
    }
    Ok(())
}

#[test]
fn the_roles_have_no_wildcard() -> Result<()> {
    let helm = Helm::new("helm", None)?;
    for args in [&[][..], &[EVERYTHING]] {
        let roles = helm.template(&[&["-s", "templates/rbac.yaml"], args].concat())?;
        assert!(roles.contains("kind: Role\n"), "{roles}");
        assert!(!roles.contains('*'), "{roles}");
    }
    Ok(())
}

/// The flags that the chart gives to `program`.
fn given(rendered: &str, program: &str) -> BTreeMap<String, String> {
    let mut current = "";
    let mut flags = BTreeMap::new();
    for line in rendered.lines().map(str::trim) {
        if let Some(command) = line.strip_prefix("command: [/usr/local/bin/") {
            current = command.trim_end_matches(']');
        } else if let Some(flag) = line.strip_prefix("- --")
            && current == program
        {
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            flags.insert(name.to_owned(), value.to_owned());
        }
    }
    flags
}

/// The flags that `program` has, with their defaults.
fn known(program: &str) -> Result<BTreeMap<String, Option<String>>> {
    let output = Command::new(binary(program)?)
        .arg("--help")
        .output()
        .with_context(|| format!("start {program}"))?;
    let help = String::from_utf8(output.stdout).context("the help is text")?;
    let mut flags: BTreeMap<String, Option<String>> = BTreeMap::new();
    // An entry reaches to the next one; its lines are wrapped anywhere.
    let mut entry: Option<(String, String)> = None;
    for line in help.lines().map(str::trim).chain(["--end"]) {
        if let Some(flag) = line.strip_prefix("--") {
            if let Some((name, text)) = entry.take() {
                let default = text.split_once("[default: ").map(|(_, rest)| rest);
                let default = default.and_then(|rest| rest.split_once(']'));
                flags.insert(name, default.map(|(value, _)| value.to_owned()));
            }
            let name = flag.split([' ', '=']).next().unwrap_or(flag);
            entry = Some((name.to_owned(), String::new()));
        }
        if let Some((_, text)) = &mut entry {
            text.push_str(line);
            text.push(' ');
        }
    }
    Ok(flags)
}

#[test]
fn every_flag_of_the_chart_exists_and_defaults_are_the_programs_own() -> Result<()> {
    /// Where the chart says something else than the program, since a pod is another place: it listens
    /// on all addresses, has a share of its node's cores, names that are known, and no terminal.
    const ELSEWHERE: [(&str, &str); 8] = [
        ("tundish-proxy", "log-format"),
        ("tundish-operator", "log-format"),
        ("tundish-proxy", "listen"),
        ("tundish-proxy", "admin"),
        ("tundish-proxy", "threads"),
        ("tundish-operator", "namespace"),
        ("tundish-operator", "identity"),
        ("tundish-operator", "channel-dns-name"),
    ];
    let helm = Helm::new("helm", None)?;
    let (plain, everything) = (helm.template(&[])?, helm.template(&[EVERYTHING])?);
    let mut differing = BTreeSet::new();
    for program in ["tundish-operator", "tundish-proxy"] {
        let known = known(program)?;
        let given_at_most = given(&everything, program);
        ensure!(!given_at_most.is_empty(), "{program} is given no flags");
        for flag in given_at_most.keys() {
            ensure!(known.contains_key(flag), "{program} has no --{flag}");
        }
        for (flag, value) in given(&plain, program) {
            if let Some(Some(default)) = known.get(&flag)
                && *default != value
            {
                differing.insert((program, flag));
            }
        }
    }
    let expected = ELSEWHERE.map(|(program, flag)| (program, flag.to_owned()));
    assert_eq!(differing, expected.into());
    Ok(())
}

#[test]
fn a_proxy_gets_the_time_to_drain() -> Result<()> {
    let helm = Helm::new("helm", None)?;
    let args = [
        "--show-only=templates/proxy.yaml",
        "--set=proxy.drainGrace=600",
        "--set=proxy.drainDelay=20",
    ];
    let rendered = helm.template(&args)?;
    let grace = rendered
        .lines()
        .find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: "))
        .context("the pod has a grace period")?;
    let grace: u64 = grace.parse().context("read the grace period")?;
    assert!(grace > 620, "{grace}");
    assert!(rendered.contains("- --drain-grace=600"));
    // The process itself serves on, so a hook would only wait a second time.
    assert!(rendered.contains("- --drain-delay=20"));
    assert!(!rendered.contains("preStop"));
    Ok(())
}

/// The names of everything that schema and values have below `path`, where both are maps.
fn differing(path: &str, schema: &Value, values: &Value, found: &mut Vec<String>) {
    let (Some(schema), Some(values)) = (
        schema.get("properties").and_then(Value::as_object),
        values.as_object().filter(|values| !values.is_empty()),
    ) else {
        return;
    };
    // A probe has more fields than those that have a default here; helm puts `global` into parts.
    let open = path.ends_with("Probe") || path == ".crds";
    for (key, below) in schema {
        let path = format!("{path}.{key}");
        match values.get(key) {
            Some(value) => differing(&path, below, value, found),
            None if open => {}
            None => found.push(format!("{path} is in the schema alone")),
        }
    }
    let unknown = values.keys().filter(|key| !schema.contains_key(*key));
    found.extend(unknown.map(|key| format!("{path}.{key} is not in the schema")));
}

#[test]
fn the_schema_has_the_values_that_there_are() -> Result<()> {
    let chart = workspace().join("charts/tundish");
    let read = |name: &str| std::fs::read_to_string(chart.join(name)).context("read the chart");
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let values: Value = serde_saphyr::from_str(&read("values.yaml")?)?;
    let mut found = Vec::new();
    differing("", &schema, &values, &mut found);
    assert!(found.is_empty(), "{found:#?}");
    Ok(())
}

#[test]
fn everything_that_the_chart_renders_is_as_expected() -> Result<()> {
    let helm = Helm::new("helm", None)?;
    expect_file!["custom-rendered.yaml"].assert_eq(&helm.template(&[CUSTOM])?);
    Ok(())
}

#[test]
fn a_value_of_null_leaves_the_ids_of_pods_to_the_cluster() -> Result<()> {
    let nulls = ["runAsUser", "runAsGroup", "fsGroup"].map(|field| {
        ["operator", "proxy"].map(|part| format!("--set={part}.podSecurityContext.{field}=null"))
    });
    for name in HELMS {
        let helm = Helm::new(name, None)?;
        let args: Vec<&str> = nulls.iter().flatten().map(String::as_str).collect();
        let rendered = helm.template(&args)?;
        assert!(!rendered.contains("65532"), "{name}: {rendered}");
        assert_eq!(rendered.matches("runAsNonRoot: true").count(), 3, "{name}");
    }
    Ok(())
}

#[test]
fn the_custom_resources_are_a_part_if_asked_for() -> Result<()> {
    for name in HELMS {
        let helm = Helm::new(name, None)?;
        let count = |args: &[&str], word: &str| -> Result<usize> {
            Ok(helm.template(args)?.matches(word).count())
        };
        let crd = "kind: CustomResourceDefinition";
        let keep = "helm.sh/resource-policy: keep";
        let kept_anyway = count(&[], keep)?;
        assert_eq!(count(&[], crd)?, 0);
        let with = "--set=crds.enabled=true";
        assert_eq!(count(&[with], crd)?, 3);
        assert_eq!(count(&[with], keep)?, kept_anyway + 3);
        let without = "--set=crds.keep=false";
        assert_eq!(count(&[with, without], keep)?, kept_anyway);
    }
    Ok(())
}

#[test]
fn everything_is_in_the_namespace_that_overrides() -> Result<()> {
    let helm = Helm::new("helm", None)?;
    let rendered = helm.template(&["--set=namespaceOverride=gateways"])?;
    assert!(
        !rendered.contains("namespace: tundish-system"),
        "{rendered}"
    );
    assert!(!rendered.contains(".tundish-system.svc"), "{rendered}");
    assert!(rendered.contains("namespace: gateways"), "{rendered}");
    Ok(())
}
