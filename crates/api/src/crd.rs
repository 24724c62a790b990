//! The CustomResourceDefinitions as they are installed.
//!
//! `kube`'s derive makes the schema out of the types; [`finish`] adds what a derive on the spec
//! cannot say: the rules on the whole object, which see its name and its status. Take the
//! definitions from here, never from `CustomResourceExt::crd`.

use kubebyon_k8s::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};
use kubebyon_k8s::kube::CustomResourceExt;

use crate::names::{MAX_PUBLIC_ACCESS_NAME, MAX_RELEASE_AND_NAMESPACE};
use crate::{ManagedCluster, PublicAccess, WorkloadRoutePlan};

/// All definitions.
pub fn all() -> [CustomResourceDefinition; 3] {
    [managed_cluster(), public_access(), workload_route_plan()]
}

/// The definition of [`ManagedCluster`].
pub fn managed_cluster() -> CustomResourceDefinition {
    // Measured against what runs, and only when the wish changes: a status that moves on must
    // never be refused because of the spec beside it.
    let unless_changed = "!has(self.spec.kubernetesVersion) || self.spec.kubernetesVersion == '' \
         || (has(oldSelf.spec.kubernetesVersion) && self.spec.kubernetesVersion == oldSelf.spec.kubernetesVersion) \
         || !has(self.status) || !has(self.status.kubernetesVersion)";
    let part = |of: &str, index: u8| format!("int({of}.kubernetesVersion.split('.')[{index}])");
    let (wanted, running) = (part("self.spec", 1), part("self.status", 1));
    let (wanted_patch, running_patch) = (part("self.spec", 2), part("self.status", 2));
    let readable = "self.spec.kubernetesVersion.matches(r'^1[.][0-9]+([.][0-9]+)?$') && self.status.kubernetesVersion.matches(r'^1[.][0-9]+([.][0-9]+)?$')";
    let patches = "size(self.spec.kubernetesVersion.split('.')) == 3 && size(self.status.kubernetesVersion.split('.')) == 3";
    finish(
        ManagedCluster::crd(),
        &[
            (
                "self.metadata.name.matches(r'^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$')".to_owned(),
                "metadata.name must begin with a letter, have at most 30 of a-z, 0-9 and '-', and end with a letter or digit: it becomes part of host names".to_owned(),
            ),
            (
                format!("size(self.metadata.name) + size(self.spec.?hostNamespace.orValue('')) <= {MAX_RELEASE_AND_NAMESPACE}"),
                format!("metadata.name and hostNamespace together must have at most {MAX_RELEASE_AND_NAMESPACE} characters: shorten hostNamespace, or leave it unset"),
            ),
            (
                format!("{unless_changed} || !({readable}) || {wanted} > {running} || ({wanted} == {running} && (!({patches}) || {wanted_patch} >= {running_patch}))"),
                "kubernetesVersion never moves down: set it to status.kubernetesVersion or a newer version".to_owned(),
            ),
            (
                format!("{unless_changed} || !({readable}) || {wanted} <= {running} + 1"),
                "kubernetesVersion moves up by one minor at a time: set it to the minor after status.kubernetesVersion, and wait until status has it".to_owned(),
            ),
        ],
    )
}

/// The definition of [`PublicAccess`].
pub fn public_access() -> CustomResourceDefinition {
    let name = |of: &str, suffix: &str| {
        let own = format!("self.spec.gatewayAPI.?{of}.?name.orValue('')");
        format!("({own} == '' ? self.metadata.name + '{suffix}' : {own})")
    };
    let names = format!(
        "[{}, {}, {}]",
        name("controlPlane", "-gateway"),
        name("platform", "-platform-gateway"),
        name("workload", "-workload-gateway"),
    );
    finish(
        PublicAccess::crd(),
        &[
            (
                format!("self.metadata.name.matches(r'^[a-z0-9]([-a-z0-9]{{0,{}}}[a-z0-9])?$')", MAX_PUBLIC_ACCESS_NAME - 2),
                format!("metadata.name must have at most {MAX_PUBLIC_ACCESS_NAME} of a-z, 0-9 and '-', and begin and end with a letter or digit: the Gateways are called after it"),
            ),
            (
                format!("!has(self.spec.gatewayAPI) || {names}.all(n, {names}.exists_one(m, m == n))"),
                "gatewayAPI.controlPlane.name, gatewayAPI.platform.name and gatewayAPI.workload.name must differ from each other, and from the default names of the others".to_owned(),
            ),
        ],
    )
}

/// The definition of [`WorkloadRoutePlan`].
pub fn workload_route_plan() -> CustomResourceDefinition {
    finish(WorkloadRoutePlan::crd(), &[])
}

/// Adds the rules on the whole object, and brings the schema into the form that Kubernetes' own
/// types have: null is refused where a value is wanted, and a description is one paragraph.
fn finish(
    mut crd: CustomResourceDefinition,
    rules: &[(String, String)],
) -> CustomResourceDefinition {
    let schemas = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        tidy(schema);
        let rules = rules.iter().map(|(rule, message)| ValidationRule {
            rule: rule.clone(),
            message: Some(message.clone()),
            ..ValidationRule::default()
        });
        schema
            .x_kubernetes_validations
            .get_or_insert_default()
            .extend(rules);
    }
    crd
}

fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        *description = paragraphs(description);
    }
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(tidy);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

/// Joins the lines of each paragraph.
fn paragraphs(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}
