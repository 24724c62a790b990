//! The real helm against a real api-server, with the real vCluster chart.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed helper is a failed test"
)]

mod support;

use std::{os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use jiff::Timestamp;
use kubebyon_helm::{
    Action, ClusterAccess, Error, Helm, HelmConfig, ServiceAccount, Status, Uninstall, Upgrade,
    WaitFor, plan, plan::Why, unlock,
};
use kubebyon_k8s::{
    k8s_openapi::api::{
        apps::v1::StatefulSet,
        core::v1::{Secret, Service},
        rbac::v1::Role,
    },
    kube::{
        Api, ResourceExt,
        api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    },
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{CLUSTER, Fixture, eventually, helm_processes, role};

#[tokio::test(flavor = "multi_thread")]
async fn a_release_lives_from_install_to_uninstall() {
    let f = Fixture::new().await;
    let step = async |values| {
        plan(
            &f.history().await,
            &f.desired(values),
            Timestamp::now(),
            f.helm.time_limit(),
        )
    };
    // Characters that mean something to YAML.
    let odd = "a\u{2028}d é 😀 \"#'\\ \t\n e: {f}";
    let first = json!({"controlPlane": {"statefulSet": {"annotations": {"odd": odd}}}});
    let second = json!({"controlPlane": {"statefulSet": {"annotations": {"odd": "second"}}}});

    assert_eq!(step(&first).await, Action::Install);
    f.helm.upgrade_install(&f.upgrade(&first)).await.unwrap();
    assert_eq!(
        step(&first).await,
        Action::None,
        "what is deployed needs no run"
    );
    let sets: Api<StatefulSet> = f.api();
    assert_eq!(sets.get("demo").await.unwrap().annotations()["odd"], odd);
    let deployed = f.history().await.deployed().cloned().unwrap();
    assert_eq!(
        (deployed.number, deployed.chart_version.as_deref()),
        (1, Some("0.36.1"))
    );
    assert!(f.values_files().is_empty());

    assert_eq!(step(&second).await, Action::Upgrade(Why::Changed));
    f.helm.upgrade_install(&f.upgrade(&second)).await.unwrap();
    assert_eq!(step(&second).await, Action::None);
    assert_eq!(step(&first).await, Action::Upgrade(Why::Changed));

    // Empty values are the chart's defaults, not those of the revision before.
    f.helm
        .upgrade_install(&f.upgrade(&json!({})))
        .await
        .unwrap();
    assert!(
        !sets
            .get("demo")
            .await
            .unwrap()
            .annotations()
            .contains_key("odd")
    );

    f.helm
        .rollback("demo", &f.namespace, 2, Some(&f.account))
        .await
        .unwrap();
    assert_eq!(
        sets.get("demo").await.unwrap().annotations()["odd"],
        "second"
    );
    assert_eq!(
        f.history()
            .await
            .latest()
            .map(|latest| (latest.number, latest.status)),
        Some((4, Status::Deployed))
    );
    let error = f
        .helm
        .rollback("demo", &f.namespace, 77, Some(&f.account))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RevisionNotFound");

    let uninstall = Uninstall {
        release: "demo",
        namespace: &f.namespace,
        run_as: Some(&f.account),
        wait: WaitFor::Hooks,
    };
    f.helm.uninstall(&uninstall).await.unwrap();
    assert_eq!(f.history().await.revisions(), []);
    assert!(f.api::<Service>().get_opt("demo").await.unwrap().is_none());
    f.helm.uninstall(&uninstall).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payload_and_the_bound_on_revisions() {
    let f = Fixture::with(|config| config.history_max = 3).await;
    for number in 0..5 {
        let values = json!({"controlPlane": {"statefulSet": {"annotations": {"number": number.to_string()}}}});
        f.helm.upgrade_install(&f.upgrade(&values)).await.unwrap();
    }
    let numbers: Vec<_> = f
        .history()
        .await
        .revisions()
        .iter()
        .map(|revision| revision.number)
        .collect();
    assert_eq!(numbers, [3, 4, 5]);
    let secret = f
        .api::<Secret>()
        .get("sh.helm.release.v1.demo.v5")
        .await
        .unwrap();
    let payload =
        kubebyon_helm::release::Payload::decode(&secret.data.unwrap()["release"].0).unwrap();
    assert_eq!(
        (payload.chart_name.as_str(), payload.chart_version.as_str()),
        ("vcluster", "0.36.1")
    );
    assert!(payload.last_deployed > payload.first_deployed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_verb_is_named() {
    let f = Fixture::new().await;
    let values = json!({});
    f.helm.upgrade_install(&f.upgrade(&values)).await.unwrap();
    let roles: Api<Role> = f.api();
    for (resource, verb, group) in [
        ("statefulsets", "patch", "apps"),
        ("services", "get", ""),
        ("secrets", "list", ""),
    ] {
        let mut lacking = role(Some((resource, verb)));
        lacking.metadata.resource_version = roles.get("release").await.unwrap().resource_version();
        roles
            .replace("release", &PostParams::default(), &lacking)
            .await
            .unwrap();
        // The api-server's authorizer learns of the change by a watch.
        let error = eventually("the right is gone", async || {
            f.helm.upgrade_install(&f.upgrade(&values)).await.err()
        })
        .await;
        let Error::Forbidden {
            user,
            verb: v,
            resource: r,
            group: g,
            namespace,
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(
            (v.as_str(), r.as_str(), g.as_str()),
            (verb, resource, group)
        );
        assert_eq!(
            user,
            &format!("system:serviceaccount:{}:release", f.namespace)
        );
        assert_eq!(namespace.as_deref(), Some(f.namespace.as_str()));
        assert!(!error.is_terminal());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_gives_no_more_than_it_has() {
    let f = Fixture::new().await;
    let roles: Api<Role> = f.api();
    let mut lacking = role(Some(("endpointslices", "watch")));
    lacking.metadata.resource_version = roles.get("release").await.unwrap().resource_version();
    roles
        .replace("release", &PostParams::default(), &lacking)
        .await
        .unwrap();
    let error = eventually("the right is gone", async || {
        let error = f.helm.upgrade_install(&f.upgrade(&json!({}))).await.err();
        f.helm
            .uninstall(&Uninstall {
                release: "demo",
                namespace: &f.namespace,
                run_as: None,
                wait: WaitFor::Hooks,
            })
            .await
            .unwrap();
        error
    })
    .await;
    assert!(
        matches!(&error, Error::Forbidden { verb, resource, .. } if verb == "grant" && resource == "roles"),
        "{error}"
    );

    // Another namespace's account has no rights here.
    let stranger = ServiceAccount {
        namespace: "default".to_owned(),
        name: "release".to_owned(),
    };
    let values = json!({});
    let error = f
        .helm
        .upgrade_install(&Upgrade {
            run_as: Some(&stranger),
            ..f.upgrade(&values)
        })
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_values_are_named_by_path_and_write_nothing() {
    let f = Fixture::new().await;
    let secret = "hunter2-hunter2";
    let values = json!({"controlPlane": {"statefulSet": {"highAvailability": {"replicas": secret}}, "bogus": secret}});
    let error = f
        .helm
        .upgrade_install(&f.upgrade(&values))
        .await
        .unwrap_err();
    let Error::SchemaViolation { violations } = &error else {
        panic!("{error}")
    };
    let paths: Vec<_> = violations
        .iter()
        .map(|violation| violation.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "controlPlane.statefulSet.highAvailability.replicas",
            "controlPlane.bogus"
        ]
    );
    assert!(error.is_terminal() && !error.to_string().contains("hunter2"));
    assert_eq!(f.history().await.revisions(), []);
    assert!(f.values_files().is_empty());

    for values in [json!(null), json!([1]), json!("a: 1")] {
        assert_eq!(
            f.helm
                .upgrade_install(&f.upgrade(&values))
                .await
                .unwrap_err()
                .reason(),
            "ValuesNotAMapping"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_object_stays_as_it_is() {
    let f = Fixture::new().await;
    let service: Service = serde_json::from_value(
        json!({"metadata": {"name": "demo"}, "spec": {"ports": [{"port": 80}]}}),
    )
    .unwrap();
    f.api::<Service>()
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    let error = f
        .helm
        .upgrade_install(&f.upgrade(&json!({})))
        .await
        .unwrap_err();
    let Error::ForeignRelease { object, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        object,
        &format!("Service \"demo\" in namespace \"{}\"", f.namespace)
    );
    assert_eq!(f.history().await.revisions(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_cannot_change_keeps_the_old_revision() {
    let f = Fixture::new().await;
    let size = |size: &str| json!({"controlPlane": {"statefulSet": {"persistence": {"volumeClaim": {"enabled": true, "size": size}}}}});
    f.helm
        .upgrade_install(&f.upgrade(&size("5Gi")))
        .await
        .unwrap();
    let error = f
        .helm
        .upgrade_install(&f.upgrade(&size("9Gi")))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::ImmutableField { object, .. } if object == "StatefulSet.apps \"demo\""),
        "{error}"
    );
    let history = f.history().await;
    assert_eq!(
        (history.deployed().unwrap().number, history.failures()),
        (1, 1)
    );
    let step = plan(
        &history,
        &f.desired(&size("5Gi")),
        Timestamp::now(),
        f.helm.time_limit(),
    );
    assert_eq!(
        step,
        Action::Upgrade(Why::Changed),
        "going back undoes what the failed one did"
    );
    f.helm
        .upgrade_install(&f.upgrade(&size("5Gi")))
        .await
        .unwrap();
    assert_eq!(f.history().await.failures(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_repaired_with_force_and_reported_without() {
    let f = Fixture::new().await;
    let values = json!({});
    f.helm.upgrade_install(&f.upgrade(&values)).await.unwrap();
    let services: Api<Service> = f.api();
    let target_port = async || {
        services
            .get("demo")
            .await
            .unwrap()
            .spec
            .unwrap()
            .ports
            .unwrap()[0]
            .target_port
            .clone()
    };
    let original = target_port().await;
    let change = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo"},
        "spec": {"ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 9999}]}});
    services
        .patch(
            "demo",
            &PatchParams::apply("somebody").force(),
            &Patch::Apply(change),
        )
        .await
        .unwrap();

    let error = f
        .helm
        .upgrade_install(&f.upgrade(&values))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::ApplyConflict { manager, .. } if manager == "somebody"),
        "{error}"
    );
    let force = Upgrade {
        force_conflicts: true,
        ..f.upgrade(&values)
    };
    f.helm.upgrade_install(&force).await.unwrap();
    assert_eq!(target_port().await, original);

    services
        .delete("demo", &DeleteParams::default())
        .await
        .unwrap();
    f.helm.upgrade_install(&force).await.unwrap();
    assert_eq!(target_port().await, original);
}

/// An upgrade that waits for a StatefulSet that never gets ready, and the process that runs it.
async fn hanging_upgrade(
    f: &Arc<Fixture>,
    values: serde_json::Value,
) -> (tokio::task::JoinHandle<kubebyon_helm::Result<()>>, i32) {
    let task = {
        let f = Arc::clone(f);
        tokio::spawn(async move {
            f.helm
                .upgrade_install(&Upgrade {
                    wait: WaitFor::Ready,
                    ..f.upgrade(&values)
                })
                .await
        })
    };
    let sets: Api<StatefulSet> = f.api();
    eventually("helm has applied the change", async || {
        let pending = f
            .history()
            .await
            .latest()
            .is_some_and(|latest| latest.status == Status::PendingUpgrade);
        let applied = sets
            .get("demo")
            .await
            .unwrap()
            .annotations()
            .contains_key("token");
        (pending && applied).then_some(())
    })
    .await;
    let pids = helm_processes(&f.work_dir);
    assert_eq!(pids.len(), 1);
    (task, pids[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helm_killed_in_mid_upgrade_is_recovered() {
    let f = Arc::new(Fixture::new().await);
    let secret = "hunter2-hunter2";
    let old = json!({});
    let new = json!({"controlPlane": {"statefulSet": {"annotations": {"token": secret}}}});
    f.helm.upgrade_install(&f.upgrade(&old)).await.unwrap();
    let (task, pid) = hanging_upgrade(&f, new.clone()).await;

    // While it runs, nothing of the values is in sight of other users.
    let of_process = |file: &str| {
        String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned()
    };
    assert!(!of_process("cmdline").contains(secret) && !of_process("environ").contains(secret));
    assert!(of_process("cmdline").contains(&format!(
        "--kube-as-user=system:serviceaccount:{}:release",
        f.namespace
    )));
    let files = f.values_files();
    assert_eq!(files.len(), 1);
    assert_eq!(
        std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777,
        0o600
    );

    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    assert!(matches!(
        task.await.unwrap(),
        Err(Error::Killed { signal: 9 })
    ));
    assert!(f.values_files().is_empty());

    let limit = f.helm.time_limit();
    let now = Timestamp::now();
    let history = f.history().await;
    assert!(
        matches!(plan(&history, &f.desired(&new), now, limit), Action::Wait { until } if until > now)
    );
    let error = f.helm.upgrade_install(&f.upgrade(&new)).await.unwrap_err();
    assert_eq!(error.reason(), "OperationInProgress");

    // The lock is dead once helm's time is over, whichever values are wanted by then.
    let step = plan(&history, &f.desired(&old), now + limit, limit);
    let Action::Unlock { dead, deployed } = step else {
        panic!("{step:?}")
    };
    let mut stale = dead.clone();
    stale.resource_version = "1".to_owned();
    assert!(
        !unlock(f.client.clone(), &f.namespace, &stale, None)
            .await
            .unwrap(),
        "a lock that changed is left alone"
    );
    assert!(
        unlock(f.client.clone(), &f.namespace, &dead, deployed.as_ref())
            .await
            .unwrap()
    );
    assert!(
        !unlock(f.client.clone(), &f.namespace, &dead, None)
            .await
            .unwrap()
    );

    let step = plan(
        &f.history().await,
        &f.desired(&old),
        Timestamp::now(),
        limit,
    );
    assert_eq!(
        step,
        Action::Upgrade(Why::Changed),
        "the deployed revision's objects may have been changed"
    );
    f.helm.upgrade_install(&f.upgrade(&old)).await.unwrap();
    assert!(
        !f.api::<StatefulSet>()
            .get("demo")
            .await
            .unwrap()
            .annotations()
            .contains_key("token")
    );
    assert_eq!(
        plan(
            &f.history().await,
            &f.desired(&old),
            Timestamp::now(),
            limit
        ),
        Action::None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_all_ends_a_run_at_once() {
    let f = Arc::new(Fixture::new().await);
    f.helm
        .upgrade_install(&f.upgrade(&json!({})))
        .await
        .unwrap();
    let (task, _) = hanging_upgrade(
        &f,
        json!({"controlPlane": {"statefulSet": {"annotations": {"token": "x"}}}}),
    )
    .await;
    f.helm.kill_all().await;
    assert!(helm_processes(&f.work_dir).is_empty());
    assert!(matches!(task.await.unwrap(), Err(Error::ShutDown)));
    assert!(matches!(
        f.helm.upgrade_install(&f.upgrade(&json!({}))).await,
        Err(Error::ShutDown)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_get_ready_in_time_leaves_no_lock() {
    let f = Fixture::with(|config| config.timeout = Duration::from_secs(3)).await;
    let values = json!({});
    f.helm.upgrade_install(&f.upgrade(&values)).await.unwrap();
    let error = f
        .helm
        .upgrade_install(&Upgrade {
            wait: WaitFor::Ready,
            ..f.upgrade(&values)
        })
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Timeout { after } if after == Duration::from_secs(3)),
        "{error}"
    );
    let history = f.history().await;
    assert_eq!(
        (
            history.latest().unwrap().status,
            history.deployed().unwrap().number
        ),
        (Status::Failed, 1)
    );
    let step = plan(
        &history,
        &f.desired(&values),
        Timestamp::now(),
        f.helm.time_limit(),
    );
    assert_eq!(step, Action::Upgrade(Why::Retry));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_first_install_is_tried_again_in_place() {
    let f = Fixture::with(|config| config.timeout = Duration::from_secs(3)).await;
    let values = json!({});
    let error = f
        .helm
        .upgrade_install(&Upgrade {
            wait: WaitFor::Ready,
            ..f.upgrade(&values)
        })
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "HelmTimeout");
    assert_eq!(f.history().await.latest().unwrap().status, Status::Failed);
    f.helm.upgrade_install(&f.upgrade(&values)).await.unwrap();
    let history = f.history().await;
    assert_eq!(
        plan(
            &history,
            &f.desired(&values),
            Timestamp::now(),
            f.helm.time_limit()
        ),
        Action::None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_namespace_cluster_or_binary_is_named() {
    let f = Fixture::new().await;
    let values = json!({});
    let error = f
        .helm
        .upgrade_install(&Upgrade {
            namespace: "not-there",
            run_as: None,
            ..f.upgrade(&values)
        })
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::NamespaceUnavailable { namespace } if namespace == "not-there"),
        "{error}"
    );

    let temp = tempfile::tempdir().unwrap();
    let kubeconfig = temp.path().join("kubeconfig");
    // Port 1 of loopback: nothing listens there.
    let content = json!({"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}], "contexts": [{"name": "a", "context": {"cluster": "a"}}]});
    std::fs::write(&kubeconfig, content.to_string()).unwrap();
    let config = |binary| {
        HelmConfig::new(
            binary,
            temp.path().join("work"),
            ClusterAccess::Kubeconfig(kubeconfig.clone()),
        )
    };
    let lost = Helm::new(config(CLUSTER.helm())).await.unwrap();
    assert_eq!(
        lost.upgrade_install(&f.upgrade(&values))
            .await
            .unwrap_err()
            .reason(),
        "ClusterUnreachable"
    );
    assert_eq!(
        Helm::new(config("/not/there".into()))
            .await
            .unwrap_err()
            .reason(),
        "HelmMissing"
    );
    assert_eq!(
        Helm::new(config("/bin/echo".into()))
            .await
            .unwrap_err()
            .reason(),
        "HelmVersionUnsupported"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_releases_at_once_stay_within_the_bound() {
    let f = Arc::new(Fixture::with(|config| config.concurrency = 2).await);
    let values = json!({});
    let runs: Vec<_> = (0..5)
        .map(|index| {
            let (f, values) = (Arc::clone(&f), values.clone());
            tokio::spawn(async move {
                let release = format!("many-{index}");
                f.helm
                    .upgrade_install(&Upgrade {
                        release: &release,
                        ..f.upgrade(&values)
                    })
                    .await
            })
        })
        .collect();
    let mut most = 0;
    while !runs.iter().all(tokio::task::JoinHandle::is_finished) {
        most = most.max(helm_processes(&f.work_dir).len());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for run in runs {
        run.await.unwrap().unwrap();
    }
    assert_eq!(most, 2);
    let deployed = ListParams::default().labels("owner=helm,status=deployed");
    assert_eq!(
        f.api::<Secret>()
            .list_metadata(&deployed)
            .await
            .unwrap()
            .items
            .len(),
        5
    );
}
