//! Layers, configuration, manifest and index, as blobs by their digests.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::image::{ENVIRONMENT, Image, USER};
use crate::tar::{Entries, pack};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A time that every build has: an image without one is refused by some tools.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Writes the layout, and returns the digest of the manifest.
pub(crate) fn write(image: &Image<'_>, folder: &Path, layers: &[Entries]) -> Result<String> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).context("remove the former layout")?;
    }
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).context("make the folder")?;
    let store = |media: &str, content: &[u8]| -> Result<Value> {
        let hash = hex::encode(Sha256::digest(content));
        std::fs::write(blobs.join(&hash), content).context("write a blob")?;
        let digest = format!("sha256:{hash}");
        Ok(json!({"mediaType": media, "digest": digest, "size": content.len()}))
    };
    let mut stored = Vec::new();
    let mut digests = Vec::new();
    for layer in layers {
        let archive = pack(layer)?;
        digests.push(format!("sha256:{}", hex::encode(Sha256::digest(&archive))));
        stored.push(store(LAYER, &compressed(&archive)?)?);
    }
    let config = store(CONFIG, config(image, &digests)?.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": stored,
        "annotations": annotations(image),
    });
    let mut manifest = store(MANIFEST, manifest.to_string().as_bytes())?;
    let digest = manifest.get("digest").and_then(Value::as_str);
    let digest = digest.unwrap_or_default().to_owned();
    if let Some(members) = manifest.as_object_mut() {
        let name = json!({"org.opencontainers.image.ref.name": image.version});
        members.insert("annotations".to_owned(), name);
        members.insert("platform".to_owned(), platform()?);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    let version = json!({"imageLayoutVersion": "1.0.0"});
    for (name, value) in [("index.json", index), ("oci-layout", version)] {
        std::fs::write(folder.join(name), value.to_string()).context("write the index")?;
    }
    Ok(digest)
}

/// Without a name or a time, so that equal archives stay equal.
fn compressed(archive: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(archive).context("compress a layer")?;
    encoder.finish().context("compress a layer")
}

fn config(image: &Image<'_>, layers: &[String]) -> Result<Value> {
    let first = image.programs.first().and_then(|first| first.file_name());
    let first = first.and_then(|name| name.to_str()).context("a program")?;
    let mut config = platform()?;
    let environment = ENVIRONMENT.map(|(name, value)| format!("{name}={value}"));
    let history =
        ["libraries", "programs"].map(|layer| json!({"created": CREATED, "comment": layer}));
    let rest = json!({
        "created": CREATED,
        "config": {
            "User": USER,
            "Env": environment,
            "Entrypoint": [format!("/usr/local/bin/{first}")],
            "WorkingDir": "/",
            "Labels": annotations(image),
        },
        "rootfs": {"type": "layers", "diff_ids": layers},
        "history": history,
    });
    if let (Some(config), Value::Object(rest)) = (config.as_object_mut(), rest) {
        config.extend(rest);
    }
    Ok(config)
}

/// Go's names, which images use.
fn platform() -> Result<Value> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => anyhow::bail!("no name for {other}"),
    };
    Ok(json!({"architecture": architecture, "os": "linux"}))
}

/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md>
fn annotations(image: &Image<'_>) -> Value {
    json!({
        "org.opencontainers.image.title": "tundish",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": image.version,
        "org.opencontainers.image.source": image.source,
        "org.opencontainers.image.revision": image.revision,
    })
}
