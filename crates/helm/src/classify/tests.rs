//! Each sentence below was printed by helm 4.3.1 against a Kubernetes 1.36.3 api-server.

use serde_json::json;

use super::*;

fn error_of(stderr: &str) -> Error {
    let redactor = Redactor::for_values(&json!({"a": "hunter2-hunter2"}), &[]);
    let run = Run {
        release: "demo",
        chart: "vcluster",
        timeout: Duration::from_mins(5),
        redactor: &redactor,
    };
    classify(&run, 1, stderr)
}

/// (what helm printed, the reason, a part of the message)
const TABLE: &[(&str, &str, &str)] = &[
    (
        "Release \"foo\" does not exist. Installing it now.\nError: unable to continue with install: Service \"foo\" in namespace \"b\" exists and cannot be imported into the current release: invalid ownership metadata; label validation error: missing key \"app.kubernetes.io/managed-by\": must be set to \"Helm\"; annotation validation error: missing key \"meta.helm.sh/release-name\": must be set to \"foo\"",
        "ForeignRelease",
        "Service \"foo\" in namespace \"b\" exists and does not belong to this release",
    ),
    (
        "level=WARN msg=\"upgrade failed\" name=demo error=\"x\"\nError: UPGRADE FAILED: server-side apply failed for object a/demo apps/v1, Kind=StatefulSet: statefulsets.apps \"demo\" is forbidden: User \"system:serviceaccount:a:rel\" cannot patch resource \"statefulsets\" in API group \"apps\" in the namespace \"a\"",
        "Forbidden",
        "system:serviceaccount:a:rel may not patch statefulsets.apps in namespace a",
    ),
    (
        "Error: query: failed to query with labels: secrets is forbidden: User \"system:serviceaccount:a:rel\" cannot list resource \"secrets\" in API group \"\" in the namespace \"a\"",
        "Forbidden",
        "system:serviceaccount:a:rel may not list secrets in namespace a",
    ),
    (
        "Error: UPGRADE FAILED: unable to continue with update: could not get information about the resource ClusterRole \"x\" in namespace \"\": clusterroles.rbac.authorization.k8s.io \"x\" is forbidden: User \"system:serviceaccount:a:rel\" cannot get resource \"clusterroles\" in API group \"rbac.authorization.k8s.io\" at the cluster scope",
        "Forbidden",
        "may not get clusterroles.rbac.authorization.k8s.io cluster-wide",
    ),
    (
        "Error: server-side apply failed for object a/vc-demo2 rbac.authorization.k8s.io/v1, Kind=Role: roles.rbac.authorization.k8s.io \"vc-demo2\" is forbidden: user \"system:serviceaccount:a:rel\" (groups=[\"system:serviceaccounts\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"discovery.k8s.io\"], Resources:[\"endpointslices\"], Verbs:[\"watch\"]}\nserver-side apply failed for object a/vc-demo2 rbac.authorization.k8s.io/v1, Kind=RoleBinding: rolebindings.rbac.authorization.k8s.io \"vc-demo2\" not found",
        "Forbidden",
        "system:serviceaccount:a:rel may not grant roles.rbac.authorization.k8s.io in namespace a",
    ),
    (
        "Error: UPGRADE FAILED: server-side apply failed for object b/foo /v1, Kind=Service: Service \"foo\" is invalid: spec.ports[1].name: Duplicate value: \"https\" && server-side apply failed for object b/foo apps/v1, Kind=StatefulSet: StatefulSet.apps \"foo\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        "ImmutableField",
        "StatefulSet.apps \"foo\" has fields that cannot be changed: spec: Forbidden: updates to statefulset spec",
    ),
    (
        "Error: UPGRADE FAILED: server-side apply failed for object b/foo /v1, Kind=Service: Service \"foo\" is invalid: spec.ports[1].name: Duplicate value: \"https\"",
        "ObjectInvalid",
        "refuses Service \"foo\" as invalid: spec.ports[1].name: Duplicate value",
    ),
    (
        "Error: UPGRADE FAILED: failed to create resource: server-side apply failed for object a/x /v1, Kind=ConfigMap: failed to create typed patch object (a/x; /v1, Kind=ConfigMap): .data.a: expected string, got &value.valueUnstructured{Value:1}",
        "ObjectInvalid",
        ".data.a: expected string",
    ),
    (
        "Error: UPGRADE FAILED: conflict occurred while applying object q/foo /v1, Kind=Service: Apply failed with 1 conflict: conflict with \"other\": .spec.ports[port=443,protocol=\"TCP\"].targetPort",
        "ApplyConflict",
        "other owns fields of q/foo /v1, Kind=Service",
    ),
    (
        "Release \"foo\" does not exist. Installing it now.\nError: execution error at (vcluster/templates/service.yaml:3:4): a vCluster platform installation exists in the namespace 'loft'. Aborting install",
        "RenderFailed",
        "a vCluster platform installation exists",
    ),
    (
        "Error: bad/templates/x.yaml:1:13\n  executing \"bad/templates/x.yaml\" at <.Values.x.y.z>:\n    nil pointer evaluating interface {}.y",
        "RenderFailed",
        "nil pointer evaluating",
    ),
    (
        "Error: YAML parse error on bad/templates/x.yaml: error converting YAML to JSON: yaml: line 1: did not find expected node content",
        "RenderFailed",
        "YAML parse error on bad/templates/x.yaml",
    ),
    (
        "Error: UPGRADE FAILED: bad/templates/x.yaml:1:3\n  executing \"bad/templates/x.yaml\" at <include \"nothere\" .>:\n    error calling include:\ntemplate: no template \"nothere\" associated with template \"gotpl\"",
        "RenderFailed",
        "no template",
    ),
    (
        "Error: UPGRADE FAILED: chart requires kubeVersion: >=2.0.0 which is incompatible with Kubernetes v1.36.3",
        "RenderFailed",
        "chart requires kubeVersion: >=2.0.0",
    ),
    (
        "Error: unable to build kubernetes objects from release manifest: unable to decode \"\": json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.name of type string",
        "RenderFailed",
        "cannot unmarshal bool",
    ),
    (
        "Error: unable to build kubernetes objects from release manifest: resource mapping not found for name: \"x\" namespace: \"\" from \"\": no matches for kind \"Foo\" in version \"foo/v1\"\nensure CRDs are installed first",
        "KindNotServed",
        "no kind Foo in foo/v1",
    ),
    (
        "Error: UPGRADE FAILED: pre-upgrade hooks failed: warning: Hook pre-upgrade bad/templates/x.yaml failed: server-side apply failed for object a/x /v1, Kind=Pod: pods \"x\" is forbidden: error looking up service account a/default: serviceaccount \"default\" not found",
        "AdmissionRefused",
        "refused pods \"x\": error looking up service account",
    ),
    (
        "Error: UPGRADE FAILED: resource Deployment/a/x not ready. status: InProgress, message: Replicas: 0/1\ncontext deadline exceeded",
        "HelmTimeout",
        "within 300 s",
    ),
    (
        "Error: kubernetes cluster unreachable: Get \"https://127.0.0.1:1/version\": dial tcp 127.0.0.1:1: connect: connection refused",
        "ClusterUnreachable",
        "connection refused",
    ),
    (
        "Error: kubernetes cluster unreachable: the server has asked for the client to provide credentials",
        "ClusterUnreachable",
        "provide credentials",
    ),
    (
        "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress",
        "OperationInProgress",
        "release demo",
    ),
    (
        "Error: create: failed to create: namespaces \"nons\" not found",
        "NamespaceUnavailable",
        "namespace nons",
    ),
    (
        "Error: create: failed to create: secrets \"sh.helm.release.v1.foo.v1\" is forbidden: unable to create new content in namespace term because it is being terminated",
        "NamespaceUnavailable",
        "namespace term",
    ),
    (
        "Error: uninstall: Release not loaded: nothere: release: not found",
        "RevisionNotFound",
        "release demo",
    ),
    (
        "Error: release has no 77 version",
        "RevisionNotFound",
        "release demo",
    ),
    (
        "Error: something new: hunter2-hunter2",
        "HelmFailed",
        "something new: [redacted]",
    ),
    ("", "HelmFailed", "exit code 1"),
];

#[test]
fn each_sentence_has_its_reason() {
    for (stderr, reason, part) in TABLE {
        let error = error_of(stderr);
        assert_eq!(error.reason(), *reason, "{stderr}\n -> {error}");
        assert!(
            error.to_string().contains(part),
            "{error}\n does not contain\n{part}"
        );
    }
}

#[test]
fn schema_violations_name_the_keys() {
    let stderr = "level=INFO msg=\"warning: cannot overwrite table with non table for vcluster.x (map[password:hunter2])\"\n\
        Error: values don't meet the specifications of the schema(s) in the following chart(s):\n\
        vcluster:\n\
        - at '/controlPlane': validation failed\n\
        \x20 - at '/controlPlane/statefulSet/highAvailability/replicas': got string, want integer\n\
        \x20 - at '/controlPlane': additional properties 'bogus', 'more' not allowed\n\
        - at '': additional properties 'x' not allowed\n\
        sub:\n\
        - at '/a~1b/0': got number, want object\n";
    let Error::SchemaViolation { violations } = error_of(stderr) else {
        panic!()
    };
    let paths: Vec<_> = violations
        .iter()
        .map(|violation| violation.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "controlPlane.statefulSet.highAvailability.replicas",
            "controlPlane.bogus",
            "controlPlane.more",
            "x",
            "sub.a/b.0"
        ]
    );
    assert_eq!(violations[0].message, "got string, want integer");
    assert!(!error_of(stderr).to_string().contains("hunter2"));
}

#[test]
fn long_messages_are_cut() {
    let error = error_of(&format!("Error: {}", "é".repeat(5000)));
    assert!(error.to_string().chars().count() < LONGEST + 100);
}
