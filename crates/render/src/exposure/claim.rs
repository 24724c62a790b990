//! Who holds a public host name.
//!
//! A claim is a ConfigMap in the operator's namespace, named by the hash of the host name. It is
//! created and never changed: of two that create it at once the api-server lets one through, and a
//! holder is never displaced.

use kubebyon_api::types::Hostname;
use kubebyon_k8s::k8s_openapi::api::core::v1::ConfigMap;

use crate::Cluster;

const HOSTNAME: &str = "hostname";
const NAMESPACE: &str = "namespace";
const NAME: &str = "name";
const UID: &str = "uid";

/// A host name and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The host name.
    pub hostname: Hostname,
    /// The holder.
    pub owner: Cluster,
}

/// What a claim means for a cluster that wants the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The name is its own.
    Own,
    /// An earlier cluster of the same namespace and name held it, and is gone: its claim may be
    /// deleted, guarded by the claim's own uid, and made anew.
    Predecessor,
    /// The name is another cluster's (namespace/name).
    Other(String),
}

/// A ConfigMap that is no claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "ConfigMap {namespace}/{name} is not the claim that its name says (key {key}): if nobody needs it, delete it"
)]
pub struct NotAClaim {
    namespace: String,
    name: String,
    key: &'static str,
}

impl Claim {
    /// The claim as an object of the operator's namespace.
    pub fn object(&self, operator_namespace: &str) -> ConfigMap {
        let name = kubebyon_api::names::hostname_claim(&self.hostname);
        let data = [
            (HOSTNAME, self.hostname.as_str()),
            (NAMESPACE, &self.owner.namespace),
            (NAME, &self.owner.name),
            (UID, &self.owner.uid),
        ];
        ConfigMap {
            metadata: self.owner.meta(operator_namespace, name),
            immutable: Some(true),
            data: Some(
                data.into_iter()
                    .map(|(key, text)| (key.to_owned(), text.to_owned()))
                    .collect(),
            ),
            ..ConfigMap::default()
        }
    }

    /// Reads the claim on a host name. The data count, not the labels: labels of an immutable
    /// ConfigMap can be changed.
    pub fn read(object: &ConfigMap) -> Result<Self, NotAClaim> {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let bad = |key| NotAClaim {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
            key,
        };
        let text = |key| {
            let data = object.data.as_ref().and_then(|data| data.get(key));
            data.filter(|text| !text.is_empty())
                .cloned()
                .ok_or_else(|| bad(key))
        };
        let hostname: Hostname = text(HOSTNAME)?.parse().map_err(|_| bad(HOSTNAME))?;
        if kubebyon_api::names::hostname_claim(&hostname) != name {
            return Err(bad(HOSTNAME));
        }
        Ok(Self {
            hostname,
            owner: Cluster {
                namespace: text(NAMESPACE)?,
                name: text(NAME)?,
                uid: text(UID)?,
            },
        })
    }

    /// What the claim means for `cluster`.
    pub fn holder(&self, cluster: &Cluster) -> Holder {
        if self.owner == *cluster {
            Holder::Own
        } else if self.owner.key() == cluster.key() {
            Holder::Predecessor
        } else {
            Holder::Other(self.owner.key())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::example;

    fn claim() -> Claim {
        Claim {
            hostname: "demo.clusters.example.com".parse().unwrap(),
            owner: example(),
        }
    }

    #[test]
    fn the_object() {
        let object = claim().object("kubebyon-system");
        assert_eq!(Claim::read(&object), Ok(claim()));
        insta::assert_yaml_snapshot!(object);
    }

    #[test]
    fn who_holds_it() {
        let with = |change: fn(&mut Cluster)| {
            let mut cluster = example();
            change(&mut cluster);
            claim().holder(&cluster)
        };
        assert_eq!(with(|_| ()), Holder::Own);
        assert_eq!(
            with(|cluster| cluster.uid = "another".to_owned()),
            Holder::Predecessor
        );
        assert_eq!(
            with(|cluster| cluster.name = "other".to_owned()),
            Holder::Other("team-a/demo".to_owned())
        );
        assert_eq!(
            with(|cluster| cluster.namespace = "team-b".to_owned()),
            Holder::Other("team-a/demo".to_owned())
        );
    }

    #[test]
    fn what_is_no_claim() {
        for key in [HOSTNAME, NAMESPACE, NAME, UID] {
            let mut object = claim().object("kubebyon-system");
            object.data.as_mut().unwrap().remove(key);
            let error = Claim::read(&object).unwrap_err();
            assert_eq!(error.key, key);
        }
        // A claim under the name of another's hash holds nothing.
        let mut object = claim().object("kubebyon-system");
        let data = object.data.as_mut().unwrap();
        data.insert(HOSTNAME.to_owned(), "other.clusters.example.com".to_owned());
        assert_eq!(Claim::read(&object).unwrap_err().key, HOSTNAME);
    }
}
