//! The keys of a tenant, as its control plane exports them.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use kubebyon_k8s::k8s_openapi::ByteString;
use rustls_pki_types::pem::{PemObject, SectionKind};

const CA: &str = "certificate-authority";
const CLIENT_CERTIFICATE: &str = "client-certificate";
const CLIENT_KEY: &str = "client-key";

/// The largest key that is read, in bytes. A CA with a long chain has a few KiB.
const MAX_BYTES: usize = 64 * 1024;
/// The most certificates of one key.
const MAX_CERTIFICATES: usize = 16;

/// A tenant's CA and the credentials of its admin, written anew as PEM from what was in them:
/// nothing that stood between the sections comes along.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantPki {
    ca: String,
    client_certificate: String,
    client_key: String,
}

/// The client's key is a secret: nothing of it is shown.
impl fmt::Debug for TenantPki {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TenantPki").finish_non_exhaustive()
    }
}

/// Why a tenant's keys cannot be used. No message quotes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// A key of the Secret is not there. While a control plane starts this is what is seen.
    #[error("the tenant's Secret has no key {0} yet: its control plane writes it when it starts")]
    Missing(&'static str),
    /// A key of the Secret is larger than any certificate.
    #[error(
        "key {0} of the tenant's Secret is larger than {MAX_BYTES} bytes: delete that Secret, and the control plane writes it anew"
    )]
    TooLarge(&'static str),
    /// A key of the Secret is not the PEM that is expected there.
    #[error(
        "key {key} of the tenant's Secret does not hold {expected}: delete that Secret, and the control plane writes it anew"
    )]
    NotPem {
        /// The key.
        key: &'static str,
        /// What is expected there.
        expected: &'static str,
    },
}

impl TenantPki {
    /// Reads the PEM keys out of the data of Secret `vc-NAME`; all other keys are left alone.
    pub fn parse(data: &BTreeMap<String, ByteString>) -> Result<Self, PkiError> {
        Ok(Self {
            ca: certificates(data, CA)?,
            client_certificate: certificates(data, CLIENT_CERTIFICATE)?,
            client_key: private_key(data)?,
        })
    }

    /// The certificate authority, as PEM: what the tenant's API is verified against.
    pub fn certificate_authority(&self) -> &[u8] {
        self.ca.as_bytes()
    }

    /// The certificate authority, as a kubeconfig holds it.
    pub fn ca_data(&self) -> String {
        STANDARD.encode(&self.ca)
    }

    /// The admin's certificate, as a kubeconfig holds it.
    pub fn client_certificate_data(&self) -> String {
        STANDARD.encode(&self.client_certificate)
    }

    /// The admin's private key, as a kubeconfig holds it. A secret.
    pub fn client_key_data(&self) -> String {
        STANDARD.encode(&self.client_key)
    }
}

fn certificates(
    data: &BTreeMap<String, ByteString>,
    key: &'static str,
) -> Result<String, PkiError> {
    let not_pem = || PkiError::NotPem {
        key,
        expected: "PEM certificates alone, 1 to 16 of them",
    };
    let sections = sections(data, key).and_then(|sections| sections.ok_or_else(not_pem))?;
    if sections.is_empty()
        || sections.len() > MAX_CERTIFICATES
        || sections
            .iter()
            .any(|(kind, _)| *kind != SectionKind::Certificate)
    {
        return Err(not_pem());
    }
    Ok(sections
        .iter()
        .map(|(_, der)| pem("CERTIFICATE", der))
        .collect())
}

fn private_key(data: &BTreeMap<String, ByteString>) -> Result<String, PkiError> {
    let not_pem = || PkiError::NotPem {
        key: CLIENT_KEY,
        expected: "exactly one unencrypted PEM private key",
    };
    let sections = sections(data, CLIENT_KEY).and_then(|sections| sections.ok_or_else(not_pem))?;
    match sections.as_slice() {
        [(SectionKind::PrivateKey, der)] => Ok(pem("PRIVATE KEY", der)),
        [(SectionKind::RsaPrivateKey, der)] => Ok(pem("RSA PRIVATE KEY", der)),
        [(SectionKind::EcPrivateKey, der)] => Ok(pem("EC PRIVATE KEY", der)),
        _ => Err(not_pem()),
    }
}

/// A section of a PEM text that is read as it is, whatever its kind.
struct Section(SectionKind, Vec<u8>);

impl PemObject for Section {
    fn from_pem(kind: SectionKind, der: Vec<u8>) -> Option<Self> {
        Some(Self(kind, der))
    }
}

/// The sections of one key, or none when the text is broken.
#[allow(clippy::type_complexity)] // One pair, used in two places.
fn sections(
    data: &BTreeMap<String, ByteString>,
    key: &'static str,
) -> Result<Option<Vec<(SectionKind, Vec<u8>)>>, PkiError> {
    let bytes = &data
        .get(key)
        .filter(|bytes| !bytes.0.is_empty())
        .ok_or(PkiError::Missing(key))?
        .0;
    if bytes.len() > MAX_BYTES {
        return Err(PkiError::TooLarge(key));
    }
    Ok(Section::pem_slice_iter(bytes)
        .map(|section| section.map(|Section(kind, der)| (kind, der)))
        .collect::<Result<_, _>>()
        .ok())
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn data(ca: &str, certificate: &str, key: &str) -> BTreeMap<String, ByteString> {
        [
            (CA, ca),
            (CLIENT_CERTIFICATE, certificate),
            (CLIENT_KEY, key),
        ]
        .map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())))
        .into()
    }

    fn good() -> BTreeMap<String, ByteString> {
        data(
            &pem("CERTIFICATE", &[1; 100]),
            &pem("CERTIFICATE", &[2; 100]),
            &pem("RSA PRIVATE KEY", &[3; 100]),
        )
    }

    /// Keys that look like keys.
    pub(crate) fn example() -> TenantPki {
        TenantPki::parse(&good()).unwrap()
    }

    #[test]
    fn pem_is_written_as_it_was() {
        let pki = example();
        assert_eq!(
            pki.certificate_authority(),
            pem("CERTIFICATE", &[1; 100]).as_bytes()
        );
        assert_eq!(
            pki.client_key_data(),
            STANDARD.encode(pem("RSA PRIVATE KEY", &[3; 100]))
        );
    }

    #[test]
    fn each_missing_key_is_named() {
        for key in [CA, CLIENT_CERTIFICATE, CLIENT_KEY] {
            let mut data = good();
            data.remove(key);
            assert_eq!(TenantPki::parse(&data), Err(PkiError::Missing(key)));
        }
    }

    #[test]
    fn other_keys_are_not_read() {
        let mut data = good();
        data.insert(
            "config".to_owned(),
            ByteString(b"users: [{user: {exec: {command: evil}}}]".to_vec()),
        );
        data.insert("token".to_owned(), ByteString(vec![b'x'; MAX_BYTES * 4]));
        assert_eq!(TenantPki::parse(&data), Ok(example()));
    }

    #[test]
    fn text_between_sections_does_not_come_along() {
        let certificate = pem("CERTIFICATE", &[1; 100]);
        let data = data(
            &format!("exec: evil\n{certificate}trailing: evil\n"),
            &certificate,
            &pem("EC PRIVATE KEY", &[3; 9]),
        );
        let pki = TenantPki::parse(&data).unwrap();
        assert_eq!(pki.certificate_authority(), certificate.as_bytes());
    }

    #[test]
    fn anything_else_is_refused() {
        let certificate = pem("CERTIFICATE", &[1; 100]);
        let key = pem("PRIVATE KEY", &[3; 100]);
        for (ca, client_key) in [
            ("hello".to_owned(), key.clone()),
            (key.clone(), key.clone()),
            (format!("{certificate}{key}"), key.clone()),
            (certificate.repeat(MAX_CERTIFICATES + 1), key.clone()),
            (certificate.replace("END", "NED"), key.clone()),
            (certificate.clone(), certificate.clone()),
            (certificate.clone(), format!("{key}{key}")),
            (certificate.clone(), pem("ENCRYPTED PRIVATE KEY", &[3; 100])),
        ] {
            let result = TenantPki::parse(&data(&ca, &certificate, &client_key));
            assert!(
                matches!(result, Err(PkiError::NotPem { .. })),
                "{ca}{client_key}: {result:?}"
            );
        }
    }

    #[test]
    fn size_has_an_end() {
        let mut data = good();
        data.insert(CA.to_owned(), ByteString(vec![b'x'; MAX_BYTES + 1]));
        assert_eq!(TenantPki::parse(&data), Err(PkiError::TooLarge(CA)));
    }

    #[test]
    fn nothing_is_shown() {
        let shown = format!("{:?}", example());
        assert_eq!(shown, "TenantPki { .. }");
    }
}
