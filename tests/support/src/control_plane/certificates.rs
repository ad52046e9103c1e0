//! The certificates and keys of a control plane that lives for one test run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// Paths of PEM files.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) ca: PathBuf,
    pub(super) server: Pair,
    /// `O=system:masters`: the API server allows it everything, whatever RBAC says.
    pub(super) admin: Pair,
    /// Signs the tokens of service accounts.
    pub(super) tokens: PathBuf,
    /// Verifies them.
    pub(super) tokens_public: PathBuf,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificates {
    pub(super) fn make(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).context("make the folder of the certificates")?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("tundish-tests", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().context("make the key of the CA")?;
        let ca = write(
            folder,
            "ca.crt",
            &params.self_signed(&key).context("make the CA")?.pem(),
        )?;
        let issuer = Issuer::new(params, key);

        let mut server =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
                .context("name the API server")?;
        server.distinguished_name = name("kube-apiserver", None);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut admin = CertificateParams::default();
        admin.distinguished_name = name("admin", Some("system:masters"));
        admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let tokens = KeyPair::generate().context("make the key of the tokens")?;
        Ok(Self {
            ca,
            server: Pair::sign(folder, "server", &server, &issuer)?,
            admin: Pair::sign(folder, "admin", &admin, &issuer)?,
            tokens: write(folder, "tokens.key", &tokens.serialize_pem())?,
            tokens_public: write(folder, "tokens.pub", &tokens.public_key_pem())?,
        })
    }
}

impl Pair {
    fn sign(
        folder: &Path,
        name: &str,
        params: &CertificateParams,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<Self> {
        let key = KeyPair::generate().with_context(|| format!("make the key of {name}"))?;
        let signed = params
            .signed_by(&key, issuer)
            .with_context(|| format!("sign {name}"))?;
        Ok(Self {
            certificate: write(folder, &format!("{name}.crt"), &signed.pem())?,
            key: write(folder, &format!("{name}.key"), &key.serialize_pem())?,
        })
    }
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn write(folder: &Path, name: &str, pem: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, pem).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
