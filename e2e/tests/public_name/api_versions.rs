//! Gateway API that comes late and changes its versions, on a host of its own; then the
//! same host at rest.

use std::time::Duration;

use kubebyon_e2e::{
    bench::audit::AuditLog,
    gateway::Gateway,
    helm_log::HelmLog,
    judge::eventually,
    operator::{Host, condition},
};
use kubebyon_k8s::{
    k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube::{
        Api, ResourceExt,
        api::{DeleteParams, ListParams, Patch, PatchParams},
    },
};
use kubebyon_render::gateway_api::tls_route::{NAME as ROUTE, Version};
use kubebyon_testbed::{
    ApiOptions, CrdSet,
    parts::{self, Part},
    progress::Progress,
};
use serde_json::{Value, json};

use crate::edge::{Entrance, host_namespace, hostnames, make_class, published, ready_as, routes};

/// So long nothing may be written: two probes and more.
const AT_REST: Duration = Duration::from_secs(12);
/// So long without a write, and the work is done.
const QUIET: Duration = Duration::from_secs(3);

fn install_gateway_api(host: &Host) {
    let bins = parts::ensure(&[Part::GatewayApiCrds], Progress::stderr()).unwrap();
    for file in CrdSet::GatewayApiExperimental.files(&bins).unwrap() {
        let file = file.display().to_string();
        host.cluster
            .run_kubectl(["apply", "--server-side", "-f", &file])
            .unwrap();
    }
}

/// Serves these versions of TLSRoute alone.
async fn serve(host: &Host, versions: &[Version]) {
    let api: Api<CustomResourceDefinition> = Api::all(host.client.clone());
    let name = "tlsroutes.gateway.networking.k8s.io";
    let definition = api.get(name).await.unwrap();
    let mut all = json!(definition.spec.versions);
    for version in all.as_array_mut().unwrap() {
        let served = versions
            .iter()
            .any(|wanted| version["name"] == wanted.as_str());
        version["served"] = Value::Bool(served);
    }
    let patch = json!({"spec": {"versions": all}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    // The api-server takes a moment to close one version and open another.
    for version in Version::ALL {
        let wanted = versions.contains(&version);
        eventually(&format!("{version} is served: {wanted}"), || async {
            let api = routes(host, "default", version);
            let served = api.list(&ListParams::default()).await.is_ok();
            (served == wanted).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_api_comes_late_and_changes_its_versions() {
    let host = Host::start_with(ApiOptions {
        audit: true,
        ..ApiOptions::default()
    })
    .await;
    // Both last as long as the test's process: entrances are for a shared host, too.
    let host: &'static Host = Box::leak(Box::new(host));
    let gateways: &'static Gateway = Box::leak(Box::new(Gateway::start(host)));
    let helm = HelmLog::new(&host.charts, &host.cluster.helm());
    let flags = [
        format!("--public-dial-address={}", gateways.address()),
        format!("--helm={}", helm.program().display()),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let manager = host.manager(host.options(&flags)).await;

    let entrance = Entrance::without_class(host, gateways).await;
    entrance.update(json!({})).await;
    let tenant = entrance.cluster("demo", None).await;
    entrance.because("Accepted", "GatewayAPIMissing").await;
    let message = tenant
        .because("PublicEndpointReady", "GatewayAPIMissing")
        .await;
    assert!(message.contains("install it"), "{message}");
    install_gateway_api(host);
    make_class(host).await;
    let name = entrance.given_name("demo");
    let cluster = ready_as(&tenant, &name).await;
    let home = host_namespace(&cluster);
    println!("ready by itself; helm: {:?}", helm.runs());

    // Whatever version is served, names change and routes are looked after.
    for (number, version) in [Version::V1Alpha2, Version::V1Alpha3, Version::V1]
        .into_iter()
        .enumerate()
    {
        serve(host, &[version]).await;
        let next = format!("n{number}.{}", entrance.domain);
        tenant.update(entrance.spec(Some(&next))).await;
        ready_as(&tenant, &next).await;
        let route = routes(host, &home, version).get(ROUTE).await.unwrap();
        assert!(hostnames(&route).contains(&next), "{version}");
        routes(host, &home, version)
            .delete(ROUTE, &DeleteParams::default())
            .await
            .unwrap();
        eventually("the route is back", || async {
            let found = routes(host, &home, version).get_opt(ROUTE).await.unwrap()?;
            (found.uid() != route.uid()).then_some(())
        })
        .await;
        ready_as(&tenant, &next).await;
        assert_eq!(published(host, &tenant).await.name(), next);
    }
    assert_eq!(
        helm.runs(),
        ["upgrade demo"],
        "no version is a reason to restart"
    );

    // None at all is told, and what is there goes on.
    serve(host, &[]).await;
    tenant
        .until("told that no version is served", |cluster| {
            condition(cluster, "PublicEndpointReady")
                .is_some_and(|(_, reason, _)| reason == "GatewayAPIMissing")
        })
        .await;
    let keys = published(host, &tenant).await;
    keys.call(gateways.address())
        .await
        .expect("the data plane serves on");
    serve(host, &Version::ALL).await;
    let last = keys.name().to_owned();
    ready_as(&tenant, &last).await;

    let mut log = AuditLog::new(host.cluster.audit_log().unwrap().to_owned());
    tokio::time::sleep(QUIET).await;
    log.skip();
    let probes = gateways.connections(&last);
    tokio::time::sleep(AT_REST).await;
    let requests = log.read();
    assert_eq!(requests.writes, 0, "at rest: {requests:?}");
    assert_eq!(requests.impersonated, 0, "at rest: {requests:?}");
    assert!(
        requests.lease_writes > 0,
        "the log does not even show the Lease"
    );
    assert!(gateways.connections(&last) > probes, "the probes go on");

    manager.stop().await;
    log.skip();
    let probes = gateways.connections(&last);
    let manager = host.manager(host.options(&flags)).await;
    eventually("the new manager has dialled the name", || async {
        (gateways.connections(&last) > probes).then_some(())
    })
    .await;
    // What follows a dial would be written at once.
    tokio::time::sleep(QUIET).await;
    let requests = log.read();
    assert_eq!(requests.writes, 0, "after a restart: {requests:?}");
    assert_eq!(helm.runs(), ["upgrade demo"]);
    manager.stop().await;
}
