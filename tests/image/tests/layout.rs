//! The image, read back as a registry or a node would.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests_image::tar::{Entries, unpack};
use tests_image::{Image, USER};

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn sha256(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

/// The blob that a descriptor names, which has to have its digest and its size.
fn blob(folder: &Path, descriptor: &Value) -> Result<Vec<u8>> {
    let digest = text(descriptor, "/digest");
    let name = digest.strip_prefix("sha256:").context("a digest")?;
    let content = std::fs::read(folder.join("blobs/sha256").join(name))?;
    assert_eq!(sha256(&content), digest);
    assert_eq!(descriptor.pointer("/size"), Some(&json!(content.len())));
    Ok(content)
}

fn parsed(content: &[u8]) -> Result<Value> {
    serde_json::from_slice(content).context("read JSON")
}

/// The test itself is a program that links to the same libraries.
fn write(folder: &Path, version: &str) -> Result<String> {
    let program = std::env::current_exe()?;
    let license = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../LICENSE");
    let image = Image {
        programs: vec![program],
        license: &license,
        licenses: "the licences of others",
        version,
        source: "https://example.com/tundish",
        revision: "0123456789abcdef",
    };
    tests_image::write(&image, folder)
}

#[test]
fn a_layout_is_what_its_digests_say_and_equal_builds_are_equal() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let digest = write(&one, "1.2.3")?;
    assert_eq!(write(&two, "1.2.3")?, digest);
    assert_ne!(write(&two, "1.2.4")?, digest);

    let layout = parsed(&std::fs::read(one.join("oci-layout"))?)?;
    assert_eq!(layout, json!({"imageLayoutVersion": "1.0.0"}));
    let index = parsed(&std::fs::read(one.join("index.json"))?)?;
    let manifests = index.pointer("/manifests").and_then(Value::as_array);
    let [named] = manifests.context("manifests")?.as_slice() else {
        panic!("{index}");
    };
    assert_eq!(text(named, "/digest"), digest);
    assert_eq!(text(named, "/platform/os"), "linux");
    let name = "/annotations/org.opencontainers.image.ref.name";
    assert_eq!(text(named, name), "1.2.3");

    let manifest = parsed(&blob(&one, named)?)?;
    assert_eq!(text(&manifest, "/mediaType"), text(named, "/mediaType"));
    let config = manifest.pointer("/config").context("a configuration")?;
    let config = parsed(&blob(&one, config)?)?;
    assert_eq!(text(&config, "/config/User"), USER);
    assert!(text(&config, "/config/Entrypoint/0").starts_with("/usr/local/bin/"));
    let environment = config.pointer("/config/Env");
    let expected = json!(["PATH=/usr/local/bin", "MALLOC_MMAP_THRESHOLD_=1048576"]);
    assert_eq!(environment, Some(&expected));
    assert_eq!(
        config.get("architecture"),
        named.pointer("/platform/architecture")
    );

    let mut blobs = BTreeSet::new();
    for entry in std::fs::read_dir(one.join("blobs/sha256"))? {
        blobs.insert(entry?.file_name());
    }
    assert_eq!(blobs.len(), 4, "two layers, configuration, manifest");
    Ok(())
}

/// The files of all layers; their sums are those of the configuration.
fn files(folder: &Path) -> Result<Entries> {
    let index = parsed(&std::fs::read(folder.join("index.json"))?)?;
    let named = index.pointer("/manifests/0").context("a manifest")?;
    let manifest = parsed(&blob(folder, named)?)?;
    let config = manifest.pointer("/config").context("a configuration")?;
    let config = parsed(&blob(folder, config)?)?;
    let layers = manifest.pointer("/layers").and_then(Value::as_array);
    let mut all = Entries::new();
    for (place, layer) in layers.context("layers")?.iter().enumerate() {
        let mut archive = Vec::new();
        let content = blob(folder, layer)?;
        GzDecoder::new(content.as_slice()).read_to_end(&mut archive)?;
        let sum = text(&config, &format!("/rootfs/diff_ids/{place}"));
        assert_eq!(sha256(&archive), sum);
        all.extend(unpack(&archive)?);
    }
    Ok(all)
}

#[test]
fn it_holds_the_programs_their_libraries_and_licences_and_no_shell() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let layout = folder.path().join("image");
    write(&layout, "1.2.3")?;
    let files = files(&layout)?;
    let program = std::env::current_exe()?;
    let name = program.file_name().context("a name")?.to_string_lossy();
    let stored = files.get(&format!("usr/local/bin/{name}"));
    let stored = stored.context("the program")?;
    assert_eq!(stored.mode, 0o755);
    assert_eq!(stored.content, Some(std::fs::read(&program)?));

    let names: Vec<&str> = files
        .keys()
        .filter_map(|path| path.rsplit('/').next())
        .collect();
    for needed in [
        "libc.so.6",
        "passwd",
        "nsswitch.conf",
        "LICENSE",
        "THIRD-PARTY-LICENSES",
        "copyright",
    ] {
        assert!(names.contains(&needed), "{needed} is missing: {names:?}");
    }
    assert!(
        names.iter().any(|name| name.starts_with("ld-linux")),
        "{names:?}"
    );
    let programs = files.keys().filter(|path| path.contains("bin/"));
    assert_eq!(programs.count(), 1, "no shell: {names:?}");
    let passwd = files
        .get("etc/passwd")
        .and_then(|file| file.content.clone());
    assert!(String::from_utf8(passwd.context("users")?)?.contains("nonroot:x:65532:65532:"));
    for (path, entry) in &files {
        assert_eq!(entry.mode & 0o6000, 0, "{path} changes its user");
        let writable = entry.mode & 0o022 != 0;
        assert!(!writable || path == "tmp", "{path} can be written");
        let folders = path
            .match_indices('/')
            .filter_map(|(end, _)| path.get(..end));
        for folder in folders {
            assert!(files.contains_key(folder), "{folder} of {path} is missing");
        }
    }
    Ok(())
}

#[test]
fn a_program_starts_with_nothing_but_the_image() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let layout = folder.path().join("image");
    write(&layout, "1.2.3")?;
    let root = folder.path().join("root");
    let mut loader = None;
    for (path, entry) in files(&layout)? {
        let place = root.join(&path);
        match entry.content {
            None => std::fs::create_dir_all(&place)?,
            Some(content) => {
                std::fs::create_dir_all(place.parent().context("a folder")?)?;
                std::fs::write(&place, content)?;
                let rights = std::os::unix::fs::PermissionsExt::from_mode(entry.mode);
                std::fs::set_permissions(&place, rights)?;
                if path.contains("/ld-linux") || path.starts_with("ld-linux") {
                    loader = Some(place);
                }
            }
        }
    }
    let libraries: BTreeSet<PathBuf> = files(&layout)?
        .keys()
        .filter(|path| path.contains(".so."))
        .filter_map(|path| root.join(path).parent().map(Path::to_owned))
        .collect();
    let libraries: Vec<String> = libraries
        .iter()
        .map(|one| one.display().to_string())
        .collect();
    let program = std::env::current_exe()?;
    let program = root
        .join("usr/local/bin")
        .join(program.file_name().context("a name")?);
    let output = std::process::Command::new(loader.context("a loader")?)
        .args(["--inhibit-cache", "--library-path", &libraries.join(":")])
        .arg(program)
        .arg("--list")
        .env_clear()
        .output()?;
    let listed = String::from_utf8(output.stdout)?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        listed.contains("a_program_starts_with_nothing_but_the_image"),
        "{listed}"
    );
    Ok(())
}
