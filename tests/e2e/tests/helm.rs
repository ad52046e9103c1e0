//! The charts, with the real helm on the real API server: what is rendered is accepted, starts where
//! Pod Security is restricted, may do what it has to and nothing more, and goes away again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use expect_test::expect_file;
use tempfile::TempDir;
use tests_support::{ControlPlane, Process, binary, eventually_ok, free_port, tool, workspace};

const LIMIT: Duration = Duration::from_secs(60);

/// Both majors are in use.
const HELMS: [&str; 2] = ["helm", "helm3"];

/// The oldest that the charts allow; helm3 without a cluster takes an older one for granted.
const OLDEST: &str = "--kube-version=v1.33.0";

/// Everything that values can switch on.
const EVERYTHING: [&str; 27] = [
    "--set=quota.storeSecret.name=store",
    "--set=quota.storeCASecret.name=store",
    "--set=networkPolicy.enabled=true",
    "--set=networkPolicy.adminFrom[0].namespaceSelector.matchLabels.team=monitoring",
    "--set=adminToken.secretName=admin",
    "--set=hostGrants[0].host=ai.example.com",
    "--set=hostGrants[0].namespaces[0]=team",
    "--set=identityGrants[0]=team",
    "--set=backends.allowedHosts={*.services.ai.azure.com,apim.contoso.com}",
    "--set=backends.admissionPolicy.enabled=true",
    "--set=backends.clusterNetworks={10.96.0.0/12}",
    "--set=backends.reach={*.models.svc}",
    "--set=proxy.workloadIdentity.enabled=true",
    "--set=proxy.workloadIdentity.clientID=00000000-0000-0000-0000-000000000000",
    "--set=proxy.serviceAccount.annotations.team=platform",
    "--set=networkPolicy.metadataService=true",
    "--set=proxy.tls.secretName=certificate",
    "--set=proxy.tls.secretNames={other}",
    "--set=proxy.accessLog=false",
    "--set=proxy.trustedHops=2",
    "--set=proxy.proxyProtocol=true",
    "--set=watch.allNamespaces=true",
    "--set=proxy.autoscaling.enabled=true",
    "--set=operator.priorityClassName=system-cluster-critical",
    "--set=proxy.nodeSelector.disk=fast",
    "--set=commonLabels.team=platform",
    "--set=global.imageRegistry=mirror.example.com",
];

/// A helm that keeps its files to itself.
struct Helm {
    program: PathBuf,
    home: TempDir,
    kubeconfig: Option<PathBuf>,
}

struct Answer {
    ok: bool,
    text: String,
}

impl Helm {
    fn new(name: &str, plane: Option<&ControlPlane>) -> Result<Self> {
        Ok(Self {
            program: tool(name)?,
            home: TempDir::with_prefix("tundish-helm-").context("make a folder")?,
            kubeconfig: plane.map(|plane| plane.kubeconfig().to_owned()),
        })
    }

    fn call(&self, args: &[&str]) -> Result<Answer> {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(workspace().join("charts"));
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.home.path());
        }
        command.env(
            "KUBECONFIG",
            self.kubeconfig.as_deref().unwrap_or_else(|| "/".as_ref()),
        );
        let output = command
            .output()
            .with_context(|| format!("start {}", self.program.display()))?;
        let text = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        Ok(Answer {
            ok: output.status.success(),
            text: String::from_utf8(text).context("helm writes text")?,
        })
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let answer = self.call(args)?;
        ensure!(answer.ok, "helm {}: {}", args.join(" "), answer.text);
        Ok(answer.text)
    }

    /// The manifests of release `tundish` in `tundish-system`.
    fn template(&self, args: &[&str]) -> Result<String> {
        let words = [
            "template",
            "tundish",
            "tundish",
            "-n",
            "tundish-system",
            OLDEST,
        ];
        self.run(&[&words, args].concat())
    }
}

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
        for args in [&[][..], &EVERYTHING] {
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
    for args in [&[][..], &EVERYTHING] {
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
    /// on all addresses, has a share of its node's cores, and names that are known.
    const ELSEWHERE: [(&str, &str); 6] = [
        ("tundish-proxy", "listen"),
        ("tundish-proxy", "admin"),
        ("tundish-proxy", "threads"),
        ("tundish-operator", "namespace"),
        ("tundish-operator", "identity"),
        ("tundish-operator", "channel-dns-name"),
    ];
    let helm = Helm::new("helm", None)?;
    let (plain, everything) = (helm.template(&[])?, helm.template(&EVERYTHING)?);
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
    let args = ["--set=proxy.drainGrace=600", "--set=proxy.drainDelay=20"];
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

/// The namespaces of the installation, of a team whose objects it watches, and of one whose it does not.
const HOME: &str = "tundish-system";
const TEAM: &str = "team";
const OTHER: &str = "other";

/// The release's own namespace need not be named.
const WATCHED: &str = "--set=watch.namespaces={team}";

/// Everything of ours but the CRDs is one of these.
const OURS: &str = "deployments,replicasets,pods,services,serviceaccounts,roles,rolebindings,\
                    poddisruptionbudgets,networkpolicies";

const ROUTE: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat, namespace: team}
spec:
  authentication: {anonymous: {}}
  rules: [{name: chat, backendRefs: [{name: missing}]}]
";

#[tokio::test]
async fn an_installation_runs_is_upgraded_and_leaves_nothing_but_the_crds() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let helm = Helm::new("helm", Some(&plane))?;
    let restricted = ["pod-security.kubernetes.io/enforce=restricted"];
    for namespace in [HOME, TEAM, OTHER] {
        plane.namespace(namespace, &restricted).await?;
    }
    let crds = [
        "upgrade",
        "--install",
        "tundish-crds",
        "tundish-crds",
        "-n",
        HOME,
    ];
    helm.run(&crds)?;
    for kind in ["aibackends", "airoutes", "aiquotas"] {
        let crd = format!("crd/{kind}.tundish.dev");
        plane
            .wait(HOME, &crd, "condition=Established", LIMIT)
            .await?;
    }
    accepts_every_variant(&plane, &helm)?;

    let tundish = [
        "upgrade",
        "--install",
        "tundish",
        "tundish",
        "-n",
        HOME,
        WATCHED,
    ];
    let wait = ["--wait", "--timeout=60s"];
    helm.run(&[&tundish[..], &wait].concat())?;
    runs(&plane, 2).await?;
    grants_what_it_has_to_and_nothing_more(&plane).await?;
    the_operator_works_with_what_it_is_granted(&plane).await?;
    lets_nodes_be_drained(&plane).await?;

    let changed = [
        "--set=operator.replicas=1,proxy.replicas=1",
        "--set=proxy.logLevel=debug",
    ];
    helm.run(&[&tundish[..], &wait, &changed].concat())?;
    runs(&plane, 1).await?;
    let pods = get(&plane, "pods", "{..args}").await?;
    assert!(pods.contains("--log-level=debug"), "{pods}");
    lets_nodes_be_drained(&plane).await?;
    keeps_the_number_of_who_scaled(&plane, &helm, &tundish).await?;

    for release in ["tundish", "tundish-crds"] {
        helm.run(&["uninstall", release, "-n", HOME, "--wait"])?;
    }
    nothing_is_left(&plane).await?;
    let crds_left = plane
        .kubectl(&["get", "crd", "-o", "name"])
        .await?
        .success()?;
    assert_eq!(crds_left.lines().count(), 3, "{crds_left}");
    plane
        .kubectl(&["get", "airoute", "chat", "-n", TEAM])
        .await?
        .success()?;
    // Who comes back finds them.
    helm.run(&crds)?;

    let helm3 = Helm::new("helm3", Some(&plane))?;
    helm3.run(&[&tundish[..], &wait].concat())?;
    runs(&plane, 2).await?;
    helm3.run(&["uninstall", "tundish", "-n", HOME, "--wait"])?;
    nothing_is_left(&plane).await
}

#[tokio::test]
async fn two_installations_do_not_get_in_each_others_way() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let helm = Helm::new("helm", Some(&plane))?;
    for namespace in ["first", "second"] {
        plane.namespace(namespace, &[]).await?;
        let install = ["install", "gateway", "tundish", "-n", namespace];
        helm.run(&[&install[..], &["--set=watch.allNamespaces=true"]].concat())?;
    }
    for namespace in ["first", "second"] {
        helm.run(&["uninstall", "gateway", "-n", namespace])?;
    }
    Ok(())
}

/// The API server takes what is rendered, with every field known to it.
fn accepts_every_variant(plane: &ControlPlane, helm: &Helm) -> Result<()> {
    for args in [&[][..], &[WATCHED], &EVERYTHING] {
        let file = plane.folder().join("rendered.yaml");
        std::fs::write(&file, helm.template(args)?).context("write what was rendered")?;
        let mut command = Command::new(tool("kubectl")?);
        command
            .env("KUBECONFIG", plane.kubeconfig())
            .args(["apply", "--dry-run=server", "--validate=strict", "-f"])
            .arg(&file);
        let output = command.output().context("start kubectl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        // What is not refused may still be warned about, such as pods that are not restricted.
        ensure!(
            output.status.success() && errors.is_empty(),
            "{args:?}: {errors}"
        );
    }
    Ok(())
}

async fn get(plane: &ControlPlane, kinds: &str, path: &str) -> Result<String> {
    let path = format!("jsonpath={path}");
    let args = [
        "get",
        kinds,
        "-n",
        HOME,
        "-l",
        "app.kubernetes.io/instance=tundish",
        "-o",
        &path,
    ];
    plane.kubectl(&args).await?.success()
}

/// Every Deployment is available with this number of replicas, and no pod is in another phase than Running.
async fn runs(plane: &ControlPlane, replicas: usize) -> Result<()> {
    for name in ["deployment/tundish-operator", "deployment/tundish-proxy"] {
        plane.wait(HOME, name, "condition=Available", LIMIT).await?;
    }
    let expected = vec!["Running"; replicas * 2];
    eventually_ok("the pods to run", LIMIT, async || {
        let phases = get(plane, "pods", "{.items[*].status.phase}").await?;
        let phases: Vec<_> = phases.split_whitespace().collect();
        ensure!(phases == expected, "they are {phases:?}");
        Ok(())
    })
    .await
}

async fn grants_what_it_has_to_and_nothing_more(plane: &ControlPlane) -> Result<()> {
    let operator = rights(plane, "tundish-operator", &[HOME, TEAM, OTHER]).await?;
    expect_file!["helm/operator-can-i.txt"].assert_eq(&operator);
    let proxy = rights(plane, "tundish-proxy", &[HOME, TEAM, OTHER]).await?;
    expect_file!["helm/proxy-can-i.txt"].assert_eq(&proxy);
    let anybody = rights(plane, "default", &[HOME, TEAM, OTHER]).await?;
    assert_eq!(
        proxy, anybody,
        "the proxies' account has a right of its own"
    );
    Ok(())
}

/// What the account may do in each namespace, a line for each right.
async fn rights(plane: &ControlPlane, account: &str, namespaces: &[&str]) -> Result<String> {
    let mut text = String::new();
    for namespace in namespaces {
        let user = format!("--as=system:serviceaccount:{HOME}:{account}");
        let args = [
            "auth",
            "can-i",
            "--list",
            "--no-headers",
            "-n",
            namespace,
            &user,
        ];
        let list = plane.kubectl(&args).await?.success()?;
        let lines: BTreeSet<String> = list.lines().map(in_order).collect();
        text.push_str(&format!("# in {namespace}\n"));
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// A line of `can-i --list` with its verbs sorted: the API server names them in the order in which it
/// comes by the roles.
fn in_order(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((right, verbs)) = line.trim_end_matches(']').rsplit_once('[') else {
        return line;
    };
    let verbs: BTreeSet<&str> = verbs.split(' ').collect();
    format!(
        "{right}[{}]",
        verbs.into_iter().collect::<Vec<_>>().join(" ")
    )
}

/// A real operator, as the chart's account, becomes ready, makes its CA and reports.
async fn the_operator_works_with_what_it_is_granted(plane: &ControlPlane) -> Result<()> {
    let kubeconfig = plane.account_kubeconfig("tundish-operator", HOME).await?;
    let admin = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(binary("tundish-operator")?);
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--namespace", HOME, "--watch-namespace", HOME])
        // It has no Role in the last one, as where a namespace was deleted.
        .args(["--watch-namespace", TEAM, "--watch-namespace", OTHER])
        .args(["--identity=test", "--admin", &admin])
        .arg(format!("--channel-listen=127.0.0.1:{}", free_port()?));
    let mut operator = Process::spawn("operator", &mut command, plane.folder())?;
    operator
        .wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
        .await?;
    let metrics = tests_support::http::get(&format!("http://{admin}/metrics")).await?;
    let left_out = format!("tundish_operator_namespaces_left_out{{namespace=\"{OTHER}\"}} 1");
    ensure!(
        String::from_utf8_lossy(&metrics.body).contains(&left_out),
        "no metric says that a namespace is left out"
    );
    plane.apply(ROUTE).await?;
    plane
        .wait(HOME, "configmap/tundish-ca", "create", LIMIT)
        .await?;
    plane
        .wait(TEAM, "airoute/chat", "condition=ResolvedRefs=False", LIMIT)
        .await?;
    plane
        .wait(HOME, "lease/tundish-operator", "create", LIMIT)
        .await?;
    let events = [
        "get",
        "events",
        "-n",
        TEAM,
        "-o",
        "jsonpath={.items[*].involvedObject.name}",
    ];
    eventually_ok("the event of the route", LIMIT, async || {
        let about = plane.kubectl(&events).await?.success()?;
        ensure!(about.contains("chat"), "they are about {about:?}");
        Ok(())
    })
    .await?;
    operator.terminate(LIMIT).await?;
    Ok(())
}

/// An upgrade meets no conflict with `kubectl scale` or an autoscaler, and changes nothing of theirs.
async fn keeps_the_number_of_who_scaled(
    plane: &ControlPlane,
    helm: &Helm,
    upgrade: &[&str],
) -> Result<()> {
    let proxy = "deployment/tundish-proxy";
    let replicas = async || {
        let get = ["get", proxy, "-n", HOME, "-o", "jsonpath={.spec.replicas}"];
        plane.kubectl(&get).await?.success()
    };
    // Not scaled yet: an autoscaler begins at what is there.
    let ones = ["--set=operator.replicas=1,proxy.replicas=1"];
    let leaves = [
        "--set=operator.replicas=1",
        "--set-json=proxy.replicas=null",
    ];
    helm.run(&[upgrade, &leaves].concat())?;
    assert_eq!(replicas().await?, "1");
    let scale = ["scale", proxy, "-n", HOME, "--replicas=3"];
    plane.kubectl(&scale).await?.success()?;
    for values in [
        &ones[..],
        &leaves,
        &["--set=proxy.autoscaling.enabled=true"],
    ] {
        let other = ["--set=proxy.podAnnotations.changed=yes"];
        helm.run(&[upgrade, values, &other].concat())?;
        assert_eq!(replicas().await?, "3", "{values:?}");
    }
    let scaler = [
        "get",
        "hpa/tundish-proxy",
        "-n",
        HOME,
        "-o",
        "jsonpath={.spec.maxReplicas}",
    ];
    assert_eq!(plane.kubectl(&scaler).await?.success()?, "10");
    plane
        .kubectl(&["scale", proxy, "-n", HOME, "--replicas=1"])
        .await?
        .success()?;
    helm.run(&[upgrade, &ones, &["--wait", "--timeout=60s"]].concat())?;
    runs(plane, 1).await
}

/// No budget stands in the way of a drain, not even of a single replica.
async fn lets_nodes_be_drained(plane: &ControlPlane) -> Result<()> {
    eventually_ok("the budgets to allow a disruption", LIMIT, async || {
        let path = "{.items[*].status.disruptionsAllowed}";
        let allowed = get(plane, "poddisruptionbudgets", path).await?;
        ensure!(allowed == "1 1", "they allow {allowed:?}");
        Ok(())
    })
    .await
}

async fn nothing_is_left(plane: &ControlPlane) -> Result<()> {
    eventually_ok("everything to be gone", LIMIT, async || {
        let label = "app.kubernetes.io/instance=tundish";
        let releases = "owner=helm,name=tundish";
        for (kinds, label) in [
            (OURS, label),
            ("clusterroles,clusterrolebindings", label),
            ("secrets", releases),
        ] {
            let left = ["get", kinds, "-A", "-l", label, "-o", "name"];
            let left = plane.kubectl(&left).await?.success()?;
            let left: Vec<_> = left.lines().filter(|name| !name.is_empty()).collect();
            if !left.is_empty() {
                bail!("{left:?} are left");
            }
        }
        Ok(())
    })
    .await
}
