//! The spec's texts as values.

use super::{Chart, ControlPlane, ManagedCluster, PrivateNodes, PublicAccessBinding, Storage};
use crate::types::error::{parse_field, parse_list};
use crate::types::{
    ChartVersion, Cidr, Digest, DnsLabel, FieldError, Hostname, KubernetesVersion, ParseError,
    Quantity, SubjectAltName,
};

impl ManagedCluster {
    /// The Kubernetes version that is asked for.
    pub fn kubernetes_version(&self) -> Result<Option<KubernetesVersion>, FieldError> {
        self.spec
            .kubernetes_version
            .as_deref()
            .map(|text| parse_field("spec.kubernetesVersion", text))
            .transpose()
    }

    /// The Kubernetes version that runs, as status has it.
    pub fn running_version(&self) -> Result<Option<KubernetesVersion>, FieldError> {
        self.status
            .as_ref()
            .and_then(|status| status.kubernetes_version.as_deref())
            .map(|text| parse_field("status.kubernetesVersion", text))
            .transpose()
    }

    /// The host namespace: as the spec names it, else the default.
    pub fn host_namespace(&self) -> Result<DnsLabel, FieldError> {
        match &self.spec.host_namespace {
            Some(text) => parse_field("spec.hostNamespace", text),
            None => parse_field(
                "metadata.name",
                &crate::names::host_namespace(self.namespace_str(), self.name_str()),
            ),
        }
    }
}

impl ControlPlane {
    /// The further names and addresses of the API's certificate.
    pub fn extra_sans(&self) -> Result<Vec<SubjectAltName>, FieldError> {
        parse_list("spec.controlPlane.extraSANs", &self.extra_sans)
    }
}

impl Storage {
    /// The size of the volume.
    pub fn size(&self) -> Result<Quantity, FieldError> {
        const FIELD: &str = "spec.controlPlane.storage.size";
        let size: Quantity = parse_field(FIELD, &self.size)?;
        if size.is_positive() {
            Ok(size)
        } else {
            Err(FieldError::new(FIELD, &self.size, ParseError::NotPositive))
        }
    }
}

impl PrivateNodes {
    /// The range of the tenant's pods.
    pub fn pod_cidr(&self) -> Result<Cidr, FieldError> {
        parse_field("spec.nodes.private.podCIDR", &self.pod_cidr)
    }

    /// The range of the tenant's Services.
    pub fn service_cidr(&self) -> Result<Cidr, FieldError> {
        parse_field("spec.nodes.private.serviceCIDR", &self.service_cidr)
    }
}

impl PublicAccessBinding {
    /// The host name that is asked for the tenant's API.
    pub fn hostname(&self) -> Result<Option<Hostname>, FieldError> {
        self.hostname
            .as_deref()
            .map(|text| parse_field("spec.publicAccess.hostname", text))
            .transpose()
    }

    /// The host names that are bound to the tenant's sites, in the order of the spec.
    pub fn workload_hostnames(&self) -> Result<Vec<Hostname>, FieldError> {
        self.workload
            .hostnames
            .iter()
            .enumerate()
            .map(|(index, bound)| {
                parse_field(
                    format!("spec.publicAccess.workload.hostnames[{index}].name"),
                    &bound.name,
                )
            })
            .collect()
    }
}

impl Chart {
    /// The version, for a chart at `field` (such as `spec.chart`).
    pub fn version(&self, field: &str) -> Result<Option<ChartVersion>, FieldError> {
        self.version
            .as_deref()
            .map(|text| parse_field(format!("{field}.version"), text))
            .transpose()
    }

    /// The digest of the archive, for a chart at `field` (such as `spec.chart`).
    pub fn digest(&self, field: &str) -> Result<Option<Digest>, FieldError> {
        self.digest
            .as_deref()
            .map(|text| parse_field(format!("{field}.digest"), text))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field_the_value_and_what_would_be_taken() {
        let binding = PublicAccessBinding {
            workload: super::super::Workload {
                hostnames: vec![
                    super::super::BoundHostname {
                        name: "shop.example.com".to_owned(),
                        ..Default::default()
                    },
                    super::super::BoundHostname {
                        name: "Shop.example.com".to_owned(),
                        ..Default::default()
                    },
                ],
                ..Default::default()
            },
            ..Default::default()
        };
        let error = binding.workload_hostnames().expect_err("a bad name");
        assert_eq!(
            error.to_string(),
            "spec.publicAccess.workload.hostnames[1].name: \"Shop.example.com\" must be a full host \
             name such as shop.example.com: lower case, at least two labels, no trailing dot, no \
             wildcard, no port"
        );
        let storage = Storage {
            size: "0".to_owned(),
            class_name: None,
        };
        assert_eq!(
            storage.size().expect_err("zero").to_string(),
            "spec.controlPlane.storage.size: \"0\" must be above zero"
        );
        let private = PrivateNodes {
            pod_cidr: "10.60.0.1/16".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            private.pod_cidr().expect_err("host bits").to_string(),
            "spec.nodes.private.podCIDR: \"10.60.0.1/16\" has bits set behind its prefix: write 10.60.0.0/16"
        );
    }
}
