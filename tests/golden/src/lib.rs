//! Golden cases: objects in, table and verdicts out. To add a case, add a folder to `cases/` with
//! an `input.yaml` and let `UPDATE_EXPECT=1` write `contents.txt` and `diagnostics.txt`; then read
//! them. The namespace of the installation is `tundish-system`, and ReferenceGrants are served,
//! unless a comment `# grants: none` stands in the input.

mod render;

pub use render::{contents, verdicts};

use operator_compile::{Compiled, Index, Settings, compile, decode};
use serde_json::Value;

/// The installation's own namespace in every case.
pub const OWN_NAMESPACE: &str = "tundish-system";

/// Compiles a multi-document YAML as files of a folder are: what can't be read fails closed.
///
/// # Panics
/// The text is no YAML, or an object in it has no usable name or takes no part.
#[must_use]
pub fn compile_yaml(yaml: &str) -> Compiled {
    let mut index = Index::default();
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("the input is YAML");
    for document in documents {
        let word = |field: &str| {
            document
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (kind, api_version) = (word("kind").to_owned(), word("apiVersion").to_owned());
        let object = match decode(&kind, &api_version, document) {
            Ok(object) => object.expect("the kind takes part"),
            Err(problem) => problem.into_object().expect("the object has a name"),
        };
        index.apply(object);
    }
    let settings = Settings {
        own_namespace: OWN_NAMESPACE.to_owned(),
        grants_served: !yaml.contains("# grants: none"),
    };
    compile(&index, &settings)
}
