//! The whole life of a tenant on a real node, with kubectl as the judge: nothing here is a fake.
//!
//! It takes a machine with root and several minutes, so it runs when it is asked for: `make e2e`.

#![expect(clippy::unwrap_used, reason = "a journey that fails stops there")]

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use kubebyon_e2e::in_cluster::{self, Programs, installation::Installation, tenant};
use kubebyon_testbed::{addons::Addon, dirs::repository, kubectl::Kubectl};
use serde_json::{Value, json};

const NAMESPACE: &str = "team-a";
const NAME: &str = "journey";
/// How long a tenant may take to be proved ready, on a machine that does other things as well.
const READY: Duration = Duration::from_secs(300);
/// How long anything else may take.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn a_tenant_lives_its_whole_life_on_a_real_node() {
    let wanted = std::env::var_os("KUBEBYON_JOURNEY").is_some();
    if !wanted || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: it starts a cluster with nodes; run `make e2e` as root");
        return;
    }
    let mut journey = Journey::start();
    journey.becomes_ready();
    journey.runs_a_deployment();
    journey.moves_to_the_next_minor();
    journey.takes_other_values();
    journey.grows_its_volume();
    journey.gets_its_service_back();
    journey.keeps_a_hostile_tenant_in();
    journey.is_claimed_again_after_retain();
    journey.leaves_nothing();
}

struct Journey {
    installation: Installation,
    spec: Value,
}

impl Journey {
    fn start() -> Self {
        let programs = Programs::built(env!("CARGO_BIN_EXE_chart-repository").into()).unwrap();
        let installation =
            Installation::start("journey", vec![Addon::Vcluster], &programs).unwrap();
        let Installation {
            kubectl,
            repository,
            ..
        } = &installation;
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        kubectl
            .apply("make the tenant's namespace", &namespace.to_string())
            .unwrap();
        let authority = repository.authority(NAMESPACE).unwrap();
        kubectl
            .apply("hand over the authority", &authority.to_string())
            .unwrap();
        let spec = json!({
            "kubernetesVersion": "1.35",
            "chart": {
                "repository": in_cluster::charts::URL,
                "version": in_cluster::charts::CHART_VERSION,
                "digest": repository.digest,
                "caSecretRef": {"name": in_cluster::charts::AUTHORITY_SECRET},
            },
            "controlPlane": {"service": {"type": "LoadBalancer"}, "storage": {"size": "1Gi"}},
        });
        Self { installation, spec }
    }

    fn becomes_ready(&mut self) {
        let began = Instant::now();
        self.apply();
        self.ready();
        self.done(&format!(
            "kubectl apply became a cluster that is proved ready, in {:.1} s",
            began.elapsed().as_secs_f32()
        ));
        assert_eq!(self.version(), "v1.35.6");
        assert_eq!(
            self.status("/release/chartDigest"),
            json!(self.installation.repository.digest),
            "the digest of what was pulled"
        );
        assert_eq!(
            self.status("/release/revision"),
            json!(1),
            "one run of helm made it"
        );
        self.done("kubectl reaches it from this machine by the published kubeconfig");
    }

    fn runs_a_deployment(&self) {
        let tenant = self.tenant();
        tenant
            .apply_files(
                "create a Deployment in the tenant",
                &[repository().join("e2e/demo/hello.yaml")],
            )
            .unwrap();
        self.hello_runs();
        self.done("a Deployment runs inside the tenant");
    }

    fn moves_to_the_next_minor(&mut self) {
        let before = self.deployment_uid();
        self.spec["kubernetesVersion"] = json!("1.36");
        self.apply();
        self.ready();
        assert_eq!(self.version(), "v1.36.3");
        assert_eq!(self.status("/kubernetesVersion"), json!("1.36.3"));
        assert_eq!(self.deployment_uid(), before, "the Deployment survived");
        self.hello_runs();
        self.done("Kubernetes moved from 1.35 to 1.36, and the Deployment stayed");
    }

    fn takes_other_values(&mut self) {
        let before = self.deployment_uid();
        self.spec["values"] = json!({"logging": {"encoding": "json"}});
        self.apply();
        self.ready();
        let log = self.host(&["logs", "journey-0", "--container=syncer", "--tail=1"]);
        assert!(log.starts_with('{'), "the control plane logs JSON: {log}");
        assert_eq!(self.deployment_uid(), before, "the Deployment survived");
        self.done("a change of values reached the control plane");
    }

    fn grows_its_volume(&mut self) {
        let before = self.deployment_uid();
        self.spec["controlPlane"]["storage"]["size"] = json!("2Gi");
        self.apply();
        self.ready();
        until("the volume to be of 2Gi", SOON, || {
            let path = "--output=jsonpath={.status.capacity.storage}";
            self.host(&["get", "persistentvolumeclaim", "data-journey-0", path]) == "2Gi"
        });
        self.ready();
        assert_eq!(self.deployment_uid(), before, "the Deployment survived");
        self.done("its volume grew, with everything on it");
    }

    fn gets_its_service_back(&self) {
        let lasting = || {
            [
                self.host(&["get", "pods", "--output=jsonpath={.items[*].metadata.uid}"]),
                self.host(&[
                    "get",
                    "persistentvolumeclaims",
                    "--output=jsonpath={.items[*].metadata.uid}",
                ]),
                self.host(&[
                    "get",
                    "secret",
                    "vc-journey",
                    "--output=jsonpath={.data.certificate-authority}",
                ]),
            ]
        };
        let before = lasting();
        let uid = || {
            let found = self
                .host_kubectl(&[
                    "get",
                    "service",
                    "journey",
                    "--output=jsonpath={.metadata.uid}",
                ])
                .unwrap_or_default();
            Some(found).filter(|uid| !uid.is_empty())
        };
        let old = uid().unwrap();
        let began = Instant::now();
        self.host(&["delete", "service", "journey"]);
        until("the Service to come back", Duration::from_secs(30), || {
            uid().is_some_and(|new| new != old)
        });
        let back = began.elapsed();
        self.ready();
        until("the published kubeconfig to work again", SOON, || {
            self.asks_version().is_some()
        });
        assert_eq!(
            lasting(),
            before,
            "pods, volumes and authority are as before"
        );
        self.done(&format!(
            "its Service, deleted by hand, was back after {:.1} s and published again after {:.1} s; pods, volume and \
             authority are the same",
            back.as_secs_f32(),
            began.elapsed().as_secs_f32()
        ));
    }

    fn keeps_a_hostile_tenant_in(&self) {
        let tenant = self.tenant();
        let pod = |name: &str, spec: Value| {
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
                "spec": {"containers": [{
                    "name": "main", "image": "docker.io/library/busybox:1.36", "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "3600"],
                }]},
            });
            for (key, value) in spec.as_object().unwrap() {
                pod["spec"][key] = value.clone();
            }
            pod
        };
        let mut privileged = pod("privileged", json!({}));
        privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        let volume = json!([{"name": "host", "hostPath": {"path": "/"}}]);
        for pod in [
            privileged,
            pod("host-path", json!({"volumes": volume})),
            pod("host-network", json!({"hostNetwork": true})),
        ] {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            tenant
                .apply("make a hostile pod", &pod.to_string())
                .unwrap();
            until(&format!("{name} to be refused"), SOON, || {
                let events = tenant.run(
                    "read the pod's events",
                    &[
                        "get",
                        "events",
                        &format!("--field-selector=involvedObject.name={name}"),
                        "--output=jsonpath={.items[*].message}",
                    ],
                );
                events.is_ok_and(|text| text.contains("violates PodSecurity"))
            });
        }
        let external = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "thief", "namespace": "default"},
            "spec": {"externalIPs": ["198.51.100.7"], "ports": [{"port": 443}], "selector": {"app": "hello"}},
        });
        tenant
            .apply("make a hostile Service", &external.to_string())
            .unwrap();
        let harmless = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "honest", "namespace": "default"},
            "spec": {"ports": [{"port": 80, "targetPort": 8080}], "selector": {"app": "hello"}},
        });
        tenant
            .apply("make a Service", &harmless.to_string())
            .unwrap();
        // Made after the others: once it is on the host, they were seen and refused.
        until("an honest Service to be on the host", SOON, || {
            self.host(&["get", "services", "--output=name"])
                .contains("service/honest-x-default-x-journey")
        });
        let addresses = self.host(&[
            "get",
            "services",
            "--output=jsonpath={.items[*].spec.externalIPs}",
        ]);
        assert_eq!(
            addresses, "",
            "no Service of the host has external addresses"
        );
        let pods = self.host(&["get", "pods", "--output=name"]);
        for name in ["privileged", "host-path", "host-network"] {
            assert!(!pods.contains(name), "{name} is not on the host: {pods}");
        }
        self.done("pods with the node's files, network or powers do not run, nor is a foreign address taken");
    }

    fn is_claimed_again_after_retain(&mut self) {
        let (before, host_namespace) = (self.deployment_uid(), self.host_namespace());
        self.spec["deletionPolicy"] = json!("Retain");
        self.apply();
        self.ready();
        self.delete();
        let claims = self.installation.kubectl.run(
            "look at what was retained",
            &[
                "get",
                "persistentvolumeclaims",
                &format!("--namespace={host_namespace}"),
                "--output=name",
            ],
        );
        assert!(
            claims.unwrap().contains("data-journey-0"),
            "the volume stays"
        );
        self.apply();
        self.ready();
        assert_eq!(self.host_namespace(), host_namespace);
        assert_eq!(self.deployment_uid(), before, "the Deployment is the same");
        self.hello_runs();
        self.done("deleted with Retain and made again, it is the cluster that it was");
    }

    fn leaves_nothing(&mut self) {
        let host_namespace = self.host_namespace();
        self.spec["deletionPolicy"] = json!("Delete");
        self.apply();
        self.ready();
        let began = Instant::now();
        self.delete();
        let took = began.elapsed();
        let all = |what: &str| {
            let listed = self.installation.kubectl.run(
                "look for what is left",
                &["get", what, "--all-namespaces", "--output=name"],
            );
            listed.unwrap()
        };
        assert!(!all("namespaces").contains(&host_namespace));
        assert!(!all("secrets").contains("sh.helm.release"));
        assert!(!all("secrets").contains("journey-kubeconfig"));
        until("its volume to be gone", SOON, || {
            all("persistentvolumes").is_empty()
        });
        self.done(&format!(
            "deleted in {:.1} s: no namespace, volume or Secret of it is left",
            took.as_secs_f32()
        ));
    }

    fn done(&self, promise: &str) {
        self.installation.done(promise);
    }

    fn apply(&self) {
        let object = json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
            "metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": self.spec,
        });
        self.installation
            .kubectl
            .apply("apply the ManagedCluster", &object.to_string())
            .unwrap();
    }

    /// Waits until it is ready in its newest generation.
    fn ready(&self) {
        let deadline = Instant::now() + READY;
        loop {
            let object = self.get();
            let generation = object["metadata"]["generation"].as_i64();
            let ready = object
                .pointer("/status/conditions")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .any(|condition| {
                    condition["type"] == "Ready"
                        && condition["status"] == "True"
                        && condition["observedGeneration"].as_i64() == generation
                });
            if ready {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not ready: {:#}\n{}",
                object["status"],
                self.installation.operator_log()
            );
            sleep(Duration::from_millis(500));
        }
    }

    fn delete(&self) {
        let deleted = self.installation.kubectl.run(
            "delete the ManagedCluster",
            &[
                "delete",
                "managedcluster",
                NAME,
                &format!("--namespace={NAMESPACE}"),
                "--timeout=180s",
            ],
        );
        if let Err(error) = deleted {
            panic!(
                "{error}\n{:#}\n{}",
                self.get()["status"],
                self.installation.operator_log()
            );
        }
    }

    fn get(&self) -> Value {
        let text = self.installation.kubectl.run(
            "read the ManagedCluster",
            &[
                "get",
                "managedcluster",
                NAME,
                &format!("--namespace={NAMESPACE}"),
                "--output=json",
            ],
        );
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    fn status(&self, pointer: &str) -> Value {
        let object = self.get();
        let status = object["status"].pointer(pointer).cloned();
        status.unwrap_or_default()
    }

    fn host_namespace(&self) -> String {
        self.status("/hostNamespace").as_str().unwrap().to_owned()
    }

    /// kubectl in the host namespace.
    fn host(&self, arguments: &[&str]) -> String {
        self.host_kubectl(arguments).unwrap()
    }

    fn host_kubectl(&self, arguments: &[&str]) -> kubebyon_testbed::Result<String> {
        let namespace = format!("--namespace={}", self.host_namespace());
        let mut all = vec![namespace.as_str()];
        all.extend(arguments);
        self.installation
            .kubectl
            .run("look into the host namespace", &all)
    }

    /// kubectl in the tenant, by the kubeconfig that is published now.
    fn tenant(&self) -> Kubectl {
        until("the published kubeconfig to work", SOON, || {
            self.asks_version().is_some()
        });
        self.tenant_now().unwrap()
    }

    fn tenant_now(&self) -> kubebyon_testbed::Result<Kubectl> {
        let path = tenant::kubeconfig(
            &self.installation.cluster,
            &self.installation.kubectl,
            NAMESPACE,
            NAME,
        )?;
        Ok(tenant::kubectl(&self.installation.cluster, &path))
    }

    fn asks_version(&self) -> Option<Value> {
        let text = self
            .tenant_now()
            .and_then(|tenant| {
                tenant.run(
                    "ask the tenant for its version",
                    &["--request-timeout=5s", "get", "--raw", "/version"],
                )
            })
            .ok()?;
        serde_json::from_str(&text).ok()
    }

    fn version(&self) -> String {
        let tenant = self.tenant();
        let text = tenant
            .run("ask for the version", &["get", "--raw", "/version"])
            .unwrap();
        let version: Value = serde_json::from_str(&text).unwrap();
        version["gitVersion"].as_str().unwrap().to_owned()
    }

    fn deployment_uid(&self) -> String {
        let uid = self.tenant().run(
            "read the tenant's Deployment",
            &[
                "get",
                "deployment",
                "hello",
                "--output=jsonpath={.metadata.uid}",
            ],
        );
        uid.unwrap()
    }

    fn hello_runs(&self) {
        let pods = [
            "get",
            "pods",
            "--selector=vcluster.loft.sh/managed-by=journey,app=hello",
            "--output=jsonpath={.items[*].status.phase}",
        ];
        // A control plane that was just started knows its pods from before.
        until("the Deployment's pod to run on the host", SOON, || {
            self.host(&pods) == "Running"
        });
        self.tenant()
            .wait(
                "wait for the tenant's Deployment",
                "condition=Available",
                &["deployment/hello"],
                120,
            )
            .unwrap();
    }
}

/// Waits until something holds; panics when that takes longer than `limit`.
fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        sleep(Duration::from_millis(250));
    }
}
