//! Keys, certificates and kubeconfigs of a cluster, all made anew for each cluster and written 0600.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::error::{Error, Result};

/// A certificate and its key, as PEM text and as files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS #8.
    pub key_pem: String,
    /// Where the certificate is.
    pub cert: PathBuf,
    /// Where the key is, readable by its owner alone.
    pub key: PathBuf,
}

/// A certificate authority whose files are `DIR/NAME.crt` and `DIR/NAME.key`.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    /// The authority's own certificate and key.
    pub pair: Pair,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("cert", &self.pair.cert)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority.
    pub fn create(dir: &Path, name: &str) -> Result<Self> {
        let failed = failed(name);
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().map_err(&failed)?;
        let cert = params.self_signed(&key).map_err(&failed)?;
        let pair = write_pair(dir, name, cert.pem(), key.serialize_pem())?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            dir: dir.to_path_buf(),
            pair,
        })
    }

    /// A server certificate for host names and addresses, in `NAME.crt` and `NAME.key`.
    pub fn server(&self, name: &str, dns: &[String], addresses: &[IpAddr]) -> Result<Pair> {
        let mut params = CertificateParams::new(dns.to_vec()).map_err(failed(name))?;
        params
            .subject_alt_names
            .extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        self.issue(
            name,
            params,
            distinguished(name, None),
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// A client certificate: to Kubernetes `user` is the user's name and `group` a group of it.
    pub fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Pair> {
        let params = CertificateParams::default();
        self.issue(
            file,
            params,
            distinguished(user, group),
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    /// The client certificate of a kubelet, which the Node authorizer knows by its name and group.
    pub fn kubelet(&self, node: &str) -> Result<Pair> {
        self.client(
            &format!("kubelet-{node}"),
            &format!("system:node:{node}"),
            Some("system:nodes"),
        )
    }

    fn issue(
        &self,
        file: &str,
        mut params: CertificateParams,
        name: DistinguishedName,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        params.distinguished_name = name;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(failed(file))?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed(file))?;
        write_pair(&self.dir, file, cert.pem(), key.serialize_pem())
    }
}

/// The key pair that signs and verifies service-account tokens.
#[derive(Debug, Clone)]
pub struct SigningKeys {
    /// The private key's file.
    pub private: PathBuf,
    /// The public key's file.
    pub public: PathBuf,
}

impl SigningKeys {
    /// Makes `DIR/service-account.key` and `.pub`.
    pub fn create(dir: &Path) -> Result<Self> {
        let key = KeyPair::generate().map_err(failed("service-account"))?;
        let keys = Self {
            private: dir.join("service-account.key"),
            public: dir.join("service-account.pub"),
        };
        write_private(&keys.private, &key.serialize_pem())?;
        write_private(&keys.public, &key.public_key_pem())?;
        Ok(keys)
    }
}

/// Writes a kubeconfig with everything inside it, so that it works from any directory.
pub fn write_kubeconfig(
    path: &Path,
    server: &str,
    cluster: &str,
    ca_pem: &str,
    client: &Pair,
) -> Result<()> {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: {cluster}\n\
         clusters:\n\
         - name: {cluster}\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
         users:\n\
         - name: {cluster}\n  user:\n    client-certificate-data: {cert}\n    client-key-data: {key}\n\
         contexts:\n\
         - name: {cluster}\n  context: {{cluster: {cluster}, user: {cluster}}}\n",
        ca = STANDARD.encode(ca_pem),
        cert = STANDARD.encode(&client.cert_pem),
        key = STANDARD.encode(&client.key_pem),
    );
    write_private(path, &text)
}

/// Writes a file that its owner alone can read; replaces one that is there in one step.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(Error::file("write", path))
}

fn distinguished(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn write_pair(dir: &Path, name: &str, cert_pem: String, key_pem: String) -> Result<Pair> {
    let pair = Pair {
        cert: dir.join(format!("{name}.crt")),
        key: dir.join(format!("{name}.key")),
        cert_pem,
        key_pem,
    };
    write_private(&pair.cert, &pair.cert_pem)?;
    write_private(&pair.key, &pair.key_pem)?;
    Ok(pair)
}

fn failed(subject: &str) -> impl Fn(rcgen::Error) -> Error + '_ {
    move |source| Error::Certificate {
        subject: subject.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_and_kubeconfigs_are_readable_by_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path(), "ca").unwrap();
        let admin = ca.client("admin", "admin", Some("system:masters")).unwrap();
        let config = dir.path().join("admin.kubeconfig");
        write_kubeconfig(
            &config,
            "https://127.0.0.1:6443",
            "test",
            &ca.pair.cert_pem,
            &admin,
        )
        .unwrap();
        for file in [&ca.pair.key, &admin.key, &config] {
            assert_eq!(
                std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
                0o600,
                "{}",
                file.display()
            );
        }
    }
}
