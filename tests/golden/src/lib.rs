//! Golden cases: objects in, table and verdicts out. To add a case, add a folder to `cases/` with
//! an `input.yaml` and let `UPDATE_EXPECT=1` write `contents.txt` and `diagnostics.txt`; then read
//! them. The namespace of the installation is `tundish-system`. ReferenceGrants are served unless the
//! input has a comment `# grants: none`; hosts are granted by comments such as `# host grant: ai.example.com=a`.
//! With `# gateway class: NAME` Gateways of that class are followed.
//! `# backend host:`, `# backend reach:` and `# cluster network:` are the flags of these names.

mod render;

pub use render::{contents, verdicts};

use operator_compile::gateway::Gateways;
use operator_compile::{
    Compiled, Day, IdentityGrants, Index, Secrets, Settings, Tenants, compile, decode,
};
use proxy_core::reach::Reach;
use proxy_core::route::HostPattern;
use serde_json::Value;

/// The installation's own namespace in every case.
pub const OWN_NAMESPACE: &str = "tundish-system";

/// The present day in every case.
const TODAY: &str = "2027-09-20";

/// Compiles a multi-document YAML like the files of a folder: unreadable objects fail closed.
///
/// # Panics
/// The text is not YAML, or an object has no usable name or is of a kind that has no effect.
#[must_use]
pub fn compile_yaml(yaml: &str) -> Compiled {
    let mut index = Index::default();
    let class = yaml
        .lines()
        .find_map(|line| line.strip_prefix("# gateway class: "));
    let mut gateways = class.map(|class| Gateways {
        class_name: class.to_owned(),
        bundle_version: Some("v1.6.3".to_owned()),
        ..Gateways::default()
    });
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("the input is YAML");
    for document in documents {
        let word = |field: &str| {
            document
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if gateways.as_mut().is_some_and(|all| all.apply(&document)) {
            continue;
        }
        let (kind, api_version) = (word("kind").to_owned(), word("apiVersion").to_owned());
        let object = match decode(&kind, &api_version, document) {
            Ok(object) => object.expect("the kind has an effect"),
            Err(problem) => problem.into_object().expect("the object has a name"),
        };
        index.apply(object);
    }
    let lines = |prefix: &'static str| {
        yaml.lines()
            .filter_map(move |line| line.strip_prefix(prefix))
    };
    let settings = Settings {
        own_namespace: OWN_NAMESPACE.to_owned(),
        grants_served: !yaml.contains("# grants: none"),
        tenants: Tenants::OfRoutes,
        identity_grants: IdentityGrants::All,
        host_grants: lines("# host grant: ")
            .map(|grant| grant.parse().expect("a grant"))
            .collect(),
        secrets: Secrets::All,
        reach: Reach::new(
            lines("# backend reach: ")
                .map(|one| one.parse().expect("an allowance"))
                .collect(),
            lines("# cluster network: ")
                .map(|one| one.parse().expect("a network"))
                .collect(),
        ),
        backend_hosts: lines("# backend host: ")
            .map(|one| HostPattern::parse(one).expect("a host"))
            .collect(),
        gateways,
        today: Day::parse(TODAY).expect("a day"),
    };
    compile(&index, &settings)
}
