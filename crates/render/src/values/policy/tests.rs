use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn refusals(values: &Value, policy: Policy) -> Vec<Refusal> {
    let Value::Object(map) = values else {
        panic!("no mapping: {values}")
    };
    check("spec.values", map, policy)
}

fn paths(values: &Value, policy: Policy) -> Vec<String> {
    refusals(values, policy)
        .into_iter()
        .map(|refusal| refusal.path)
        .collect()
}

/// `a.b.c` = value as nested mappings.
fn at(path: &str, value: Value) -> Value {
    path.rsplit('.')
        .fold(value, |inner, key| json!({ key: inner }))
}

#[test]
fn every_refused_path_is_refused_where_it_says_so() {
    for Rule { path, verdict } in rules() {
        let (_, deeper) = lookup(&path.split('.').collect::<Vec<_>>());
        for value in [
            json!("x"),
            json!(true),
            json!(null),
            json!(["x"]),
            json!({"x-unlikely": 1}),
        ] {
            let values = at(path, value.clone());
            let restricted = refusals(&values, Policy::Restricted);
            let unrestricted = refusals(&values, Policy::Unrestricted);
            match verdict {
                // With rules below it the branch is a mapping, as the next test has it.
                Verdict::Line | Verdict::Text if deeper && !value.is_object() => {}
                Verdict::Line | Verdict::Text => {
                    assert_eq!(
                        (restricted, unrestricted),
                        (vec![], vec![]),
                        "{path} = {value}"
                    );
                }
                Verdict::OperatorOwned { .. } => {
                    assert_eq!(restricted.len(), 1, "{path} = {value}");
                    assert_eq!(unrestricted.len(), 1, "{path} = {value}");
                }
                Verdict::ReachesOutside { .. } => {
                    assert_eq!(restricted.len(), 1, "{path} = {value}");
                    assert!(
                        unrestricted
                            .iter()
                            .all(|refusal| refusal.scope == Scope::Form),
                        "{path} = {value}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_message_tells_the_path_the_why_and_what_to_do() {
    for Rule { path, verdict } in rules() {
        let (why, instead) = match verdict {
            Verdict::Line | Verdict::Text => continue,
            Verdict::OperatorOwned { why, instead } => (why, *instead),
            Verdict::ReachesOutside { why, instead } => (why, instead.unwrap_or(ASK)),
        };
        assert!(
            !why.is_empty()
                && !instead.is_empty()
                && !why.ends_with('.')
                && !instead.ends_with('.'),
            "{path}"
        );
        let (_, deeper) = lookup(&path.split('.').collect::<Vec<_>>());
        if !deeper {
            let message = refusals(&at(path, json!("x")), Policy::Restricted)[0].to_string();
            assert_eq!(
                message,
                format!("{path} in spec.values is refused: {why}; {instead}")
            );
        }
    }
}

#[test]
fn no_path_is_listed_twice() {
    let mut seen = BTreeSet::new();
    for rule in rules() {
        assert!(seen.insert(rule.path), "{} is listed twice", rule.path);
    }
}

#[test]
fn hostile_values_are_refused_by_their_path() {
    let cases = [
        (
            json!({"rbac": {"clusterRole": {"extraRules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}}}),
            "rbac.clusterRole",
        ),
        (
            json!({"rbac": {"role": {"overwriteRules": [{"verbs": ["escalate"]}]}}}),
            "rbac.role.overwriteRules",
        ),
        (
            json!({"experimental": {"deploy": {"host": {"manifests": "kind: Pod"}}}}),
            "experimental.deploy.host",
        ),
        (
            json!({"experimental": {"deploy": {"host": {"manifestsTemplate": "{{ lookup \"v1\" \"Secret\" \"kube-system\" \"\" }}"}}}}),
            "experimental.deploy.host",
        ),
        (
            json!({"controlPlane": {"statefulSet": {"persistence": {"addVolumes": [{"name": "root", "hostPath": {"path": "/"}}]}}}}),
            "controlPlane.statefulSet.persistence.addVolumes",
        ),
        (
            json!({"controlPlane": {"statefulSet": {"persistence": {"dataVolume": [{"name": "data", "hostPath": {"path": "/"}}]}}}}),
            "controlPlane.statefulSet.persistence.dataVolume",
        ),
        (
            json!({"controlPlane": {"statefulSet": {"persistence": {"volumeClaim": {"enabled": false}}}}}),
            "controlPlane.statefulSet.persistence.volumeClaim",
        ),
        (
            json!({"controlPlane": {"statefulSet": {"command": ["sh", "-c", "env"]}}}),
            "controlPlane.statefulSet.command",
        ),
        (
            json!({"controlPlane": {"statefulSet": {"image": {"repository": "evil/image"}}}}),
            "controlPlane.statefulSet.image",
        ),
        (
            json!({"controlPlane": {"statefulSet": {"security": {"containerSecurityContext": {"privileged": true}}}}}),
            "controlPlane.statefulSet.security",
        ),
        (
            json!({"controlPlane": {"service": {"spec": {"externalIPs": ["10.0.0.1"]}}}}),
            "controlPlane.service.spec.externalIPs",
        ),
        (
            json!({"controlPlane": {"service": {"spec": {"selector": {"app": "other"}}}}}),
            "controlPlane.service.spec.selector",
        ),
        (
            json!({"controlPlane": {"tlsRoute": {"enabled": true}}}),
            "controlPlane.tlsRoute",
        ),
        (
            json!({"controlPlane": {"advanced": {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "x"}}}}}),
            "controlPlane.advanced.serviceAccount.annotations",
        ),
        (
            json!({"platform": {"apiKey": {"namespace": "kube-system", "secretName": "x"}}}),
            "platform.apiKey",
        ),
        (
            json!({"sync": {"fromHost": {"secrets": {"enabled": true, "mappings": {"byName": {"kube-system/*": "x/*"}}}}}}),
            "sync.fromHost.secrets",
        ),
        (
            json!({"sync": {"toHost": {"namespaces": {"enabled": true}}}}),
            "sync.toHost.namespaces",
        ),
        (
            json!({"networking": {"replicateServices": {"fromHost": [{"from": "a/b", "to": "c/d"}]}}}),
            "networking.replicateServices",
        ),
        (
            json!({"exportKubeConfig": {"additionalSecrets": [{"namespace": "kube-system"}]}}),
            "exportKubeConfig",
        ),
        (json!({"plugins": {"x": {"image": "evil"}}}), "plugins"),
        (
            json!({"experimental": {"syncSettings": {"setOwner": true}}}),
            "experimental.syncSettings.setOwner",
        ),
    ];
    for (values, path) in cases {
        assert_eq!(paths(&values, Policy::Restricted), [path], "{values}");
    }
}

#[test]
fn unknown_keys_are_refused_and_said_to_be_unknown() {
    for (values, path) in [
        (json!({"controlPane": {"statefulSet": {}}}), "controlPane"),
        (
            json!({"controlPlane": {"newInSomeChart": {"hostAccess": true}}}),
            "controlPlane.newInSomeChart",
        ),
        (json!({"global": {"x": 1}}), "global"),
        // A dot in a key is no path.
        (
            json!({"controlPlane.statefulSet.pods": {"labels": {}}}),
            "controlPlane.statefulSet.pods",
        ),
    ] {
        let refusals = refusals(&values, Policy::Restricted);
        assert_eq!(refusals.len(), 1, "{values}");
        assert_eq!(
            (refusals[0].scope, refusals[0].path.as_str()),
            (Scope::Unknown, path)
        );
        assert_eq!(paths(&values, Policy::Unrestricted), [""; 0], "{values}");
    }
}

#[test]
fn a_branch_above_a_rule_is_a_mapping() {
    for value in [json!(null), json!([]), json!("x"), json!(1)] {
        for path in [
            "rbac",
            "sync",
            "sync.toHost",
            "controlPlane",
            "controlPlane.statefulSet",
            "experimental",
        ] {
            let refusals = refusals(&at(path, value.clone()), Policy::Restricted);
            assert_eq!(refusals.len(), 1, "{path} = {value}");
            assert_eq!(
                (refusals[0].scope, refusals[0].path.as_str()),
                (Scope::Form, path)
            );
        }
    }
}

#[test]
fn line_breaks_do_not_get_into_unquoted_places() {
    for path in [
        "controlPlane.statefulSet.imagePullPolicy",
        "controlPlane.statefulSet.dnsPolicy",
        "logging.encoding",
    ] {
        for evil in [
            "Always\n---\nkind: Pod",
            "Always\r\nx: y",
            "a\u{0}b",
            "{{ lookup \"v1\" \"Secret\" \"\" \"\" }}",
        ] {
            let refusals = refusals(&at(path, json!(evil)), Policy::Restricted);
            assert_eq!(refusals.len(), 1, "{path} = {evil:?}");
            assert_eq!(refusals[0].scope, Scope::Form);
        }
    }
    let refused = refusals(
        &json!({"sync": {"toHost": {"configMaps": {"a\n- b": 1}}}}),
        Policy::Restricted,
    );
    assert_eq!(refused.len(), 1);
    assert!(!refused[0].to_string().contains('\n'), "{}", refused[0]);
}

#[test]
fn keys_are_looked_at_wherever_they_are() {
    for path in [
        "sync.toHost.services",
        "sync.toHost.pods.translateImage",
        "controlPlane.service.annotations",
        "deploy.metallb",
    ] {
        for key in ["a\nb: c", "kubebyon.app/cluster-uid"] {
            let direct = at(path, json!({ key: 1 }));
            let nested = at(path, json!({"x": [{ key: 1 }]}));
            for values in [direct, nested] {
                assert_eq!(refusals(&values, Policy::Restricted).len(), 1, "{values}");
                assert_eq!(refusals(&values, Policy::Unrestricted).len(), 1, "{values}");
            }
        }
    }
}

#[test]
fn the_operators_labels_are_not_given_away() {
    for path in [
        "controlPlane.statefulSet.pods.labels",
        "controlPlane.service.annotations",
        "controlPlane.statefulSet.labels",
    ] {
        let values = at(
            path,
            json!({"kubebyon.app/cluster-uid": "x", "mine.example.com/x": "y"}),
        );
        assert_eq!(
            paths(&values, Policy::Restricted),
            [format!("{path}.kubebyon.app/cluster-uid")]
        );
        assert_eq!(paths(&values, Policy::Unrestricted).len(), 1);
    }
}

#[test]
fn defaults_that_are_spelled_out_pass() {
    for values in [
        json!({"rbac": {"clusterRole": {"enabled": "auto"}, "role": {"extraRules": []}}}),
        json!({"rbac": {"clusterRole": {"enabled": false}}}),
        json!({"sync": {"fromHost": {"nodes": {"enabled": false}, "csiNodes": {"enabled": "auto"}}}}),
        json!({"sync": {"toHost": {"ingresses": {"enabled": false}, "customResources": {}}}}),
        json!({"controlPlane": {"statefulSet": {"command": [], "persistence": {}}}}),
        json!({"plugins": {}, "experimental": {}}),
    ] {
        assert_eq!(refusals(&values, Policy::Restricted), [], "{values}");
    }
}

#[test]
fn a_switch_with_something_beside_it_is_no_default() {
    let values =
        json!({"sync": {"fromHost": {"nodes": {"enabled": false, "selector": {"all": true}}}}});
    assert_eq!(paths(&values, Policy::Restricted), ["sync.fromHost.nodes"]);
    let values = json!({"rbac": {"role": {"enabled": true}}});
    assert_eq!(paths(&values, Policy::Restricted), ["rbac.role.enabled"]);
}

#[test]
fn what_authors_need_passes() {
    let values = json!({
        "sync": {
            "toHost": {
                "pods": {"translateImage": {"nginx": "mirror.example.com/nginx"}, "enforceTolerations": ["gpu=yes:NoSchedule"], "runtimeClassName": "gvisor"},
                "configMaps": {"enabled": true, "all": true},
                "secrets": {"all": true},
            },
            "fromHost": {"events": {"enabled": false}},
        },
        "controlPlane": {
            "distro": {"k8s": {"apiServer": {"extraArgs": ["--oidc-issuer-url=https://id.example.com"]}, "resources": {"limits": {"memory": "512Mi"}}}},
            "backingStore": {"etcd": {"deploy": {"statefulSet": {"resources": {"requests": {"memory": "1Gi"}}}}}},
            "coredns": {"overwriteConfig": ".:1053 {\n    errors\n}\n", "deployment": {"replicas": 2, "nodeSelector": {"a": "b"}}},
            "service": {"annotations": {"service.beta.kubernetes.io/x": "y"}, "httpsNodePort": 30443},
            "statefulSet": {
                "annotations": {"a": "b\nc"},
                "pods": {"labels": {"team": "a"}},
                "scheduling": {"affinity": {"nodeAffinity": {}}, "topologySpreadConstraints": []},
                "probes": {"startupProbe": {"failureThreshold": 600}},
            },
            "advanced": {"serviceAccount": {"imagePullSecrets": [{"name": "pull"}]}, "headlessService": {"labels": {"a": "b"}}},
        },
        "networking": {"advanced": {"clusterDomain": "tenant.local", "proxyKubelets": {"byIP": false}}},
        "policies": {"centralAdmission": {"validatingWebhooks": []}},
        "experimental": {"deploy": {"vcluster": {"manifests": "kind: Namespace\n"}}},
        "deploy": {"metricsServer": {"enabled": true}},
        "privateNodes": {"kubelet": {"config": {"maxPods": 50}}},
        "telemetry": {"enabled": false},
        "logging": {"encoding": "json"},
    });
    assert_eq!(refusals(&values, Policy::Restricted), []);
}

#[test]
fn a_long_path_is_cut() {
    let refusals = refusals(&json!({ "x".repeat(10_000): 1 }), Policy::Restricted);
    assert!(refusals[0].path.chars().count() < 210);
}

#[test]
fn refusals_have_an_end() {
    let many: Map<String, Value> = (0..100_000)
        .map(|n| (format!("key{n}"), json!(1)))
        .collect();
    assert_eq!(
        check("spec.values", &many, Policy::Restricted).len(),
        MOST_REFUSALS
    );
}
