//! The one list: every branch of the vCluster chart's values (0.36), and what a cluster author may
//! do with it. The longest path that fits decides.

/// What may be done with a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed; texts are single lines without templates.
    Line,
    /// Allowed; texts may have lines: the chart only ever prints the whole branch as YAML.
    Text,
    /// Always refused: the operator sets it.
    OperatorOwned {
        /// Why.
        why: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// Refused unless the host admin lifts it.
    ReachesOutside {
        /// Why.
        why: &'static str,
        /// What to do instead, where there is something.
        instead: Option<&'static str>,
    },
}

/// A branch and its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Keys joined by dots.
    pub path: &'static str,
    /// What may be done with it.
    pub verdict: Verdict,
}

/// The list.
pub fn rules() -> &'static [Rule] {
    RULES
}

const fn line(path: &'static str) -> Rule {
    Rule {
        path,
        verdict: Verdict::Line,
    }
}

const fn text(path: &'static str) -> Rule {
    Rule {
        path,
        verdict: Verdict::Text,
    }
}

const fn owned(path: &'static str, why: &'static str, instead: &'static str) -> Rule {
    Rule {
        path,
        verdict: Verdict::OperatorOwned { why, instead },
    }
}

const fn outside(path: &'static str, why: &'static str) -> Rule {
    Rule {
        path,
        verdict: Verdict::ReachesOutside { why, instead: None },
    }
}

const fn outside_but(path: &'static str, why: &'static str, instead: &'static str) -> Rule {
    Rule {
        path,
        verdict: Verdict::ReachesOutside {
            why,
            instead: Some(instead),
        },
    }
}

const CLUSTER_ROLE: &str =
    "the chart makes a ClusterRole for it, which reads or writes objects of the whole host cluster";
const COMMAND: &str = "it changes what runs in the control plane's pod, next to the tenant's keys and its ServiceAccount";
const VOLUME: &str = "volumes of the control plane may hold files of the node or of other tenants";
const IMAGE: &str = "images of the control plane come from repositories that the host admin allows";
const IDENTITY: &str = "annotations and labels of a ServiceAccount can give the pods an identity at the cloud provider";
const PRIORITY: &str = "pods of a high priority class evict pods of other tenants and of the host";
const DRAIN: &str = "a disruption budget on the host can keep the host admin from draining nodes";
const EDGE: &str = "host names on the host cluster have one owner, and this claims them past it";

const PATCHES: &str = "patches write anything into the tenant's objects on the host, such as another ServiceAccount into its pods";

const STORAGE: &str = "a volume that is missing or replaced loses the whole tenant";
const USE_STORAGE: &str = "use spec.controlPlane.storage";
const STORE: &str = "the store is chosen once and never moved";
const USE_STORE: &str = "use spec.controlPlane.backingStore";
const NAMES: &str = "the operator proves the public name before it hands it out";
const USE_PUBLIC: &str = "use spec.publicAccess";
const USE_PLACEMENT: &str = "use spec.placement";
const PLACEMENT: &str = "the operator sets where the control plane runs";
const USE_QUOTA: &str = "use spec.quota";
const QUOTA: &str =
    "the operator makes the quota of the host namespace, so that it stays when the release goes";
const USE_SERVICE: &str = "use spec.controlPlane.service";
const USE_IMAGE: &str = "use spec.controlPlane.image";
const USE_NODES: &str = "use spec.nodes";
const SYNC_SETTINGS: &str =
    "with an owner on synced objects, deleting the Service by hand would take the tenant along";

#[rustfmt::skip]
static RULES: &[Rule] = &[
    // -- sync.toHost: what of the tenant becomes objects of its host namespace.
    line("sync.toHost.services"),
    outside("sync.toHost.services.patches", PATCHES),
    line("sync.toHost.endpoints"),
    outside("sync.toHost.endpoints.patches", PATCHES),
    line("sync.toHost.endpointSlices"),
    outside("sync.toHost.endpointSlices.patches", PATCHES),
    line("sync.toHost.persistentVolumeClaims"),
    outside("sync.toHost.persistentVolumeClaims.patches", PATCHES),
    line("sync.toHost.configMaps"),
    outside("sync.toHost.configMaps.patches", PATCHES),
    line("sync.toHost.secrets"),
    outside("sync.toHost.secrets.patches", PATCHES),
    line("sync.toHost.pods.enabled"),
    line("sync.toHost.pods.translateImage"),
    line("sync.toHost.pods.enforceTolerations"),
    line("sync.toHost.pods.useSecretsForSATokens"),
    line("sync.toHost.pods.runtimeClassName"),
    line("sync.toHost.pods.rewriteHosts"),
    outside("sync.toHost.pods.patches", PATCHES),
    outside("sync.toHost.pods.priorityClassName", PRIORITY),
    outside("sync.toHost.pods.hybridScheduling", CLUSTER_ROLE),
    outside_but("sync.toHost.ingresses", EDGE, "use spec.publicAccess.workload"),
    outside_but("sync.toHost.gatewayApi", EDGE, "use spec.publicAccess.workload"),
    outside("sync.toHost.networkPolicies", "a policy of the tenant's on the host would open the namespace that the operator closed"),
    outside("sync.toHost.podDisruptionBudgets", DRAIN),
    outside("sync.toHost.serviceAccounts", IDENTITY),
    outside("sync.toHost.priorityClasses", CLUSTER_ROLE),
    outside("sync.toHost.storageClasses", CLUSTER_ROLE),
    outside("sync.toHost.persistentVolumes", CLUSTER_ROLE),
    outside("sync.toHost.namespaces", "it lets the tenant make namespaces on the host cluster"),
    outside("sync.toHost.resourceClaims", CLUSTER_ROLE),
    outside("sync.toHost.resourceClaimTemplates", CLUSTER_ROLE),
    outside("sync.toHost.customResources", CLUSTER_ROLE),

    // -- sync.fromHost: what of the host the tenant sees. All but events takes a ClusterRole.
    line("sync.fromHost.events"),
    outside("sync.fromHost.events.patches", "patches run the author's code in the control plane"),
    outside("sync.fromHost.configMaps", "it shows the tenant ConfigMaps of other namespaces"),
    outside("sync.fromHost.secrets", "it shows the tenant Secrets of other namespaces"),
    outside("sync.fromHost.nodes", CLUSTER_ROLE),
    outside("sync.fromHost.ingressClasses", CLUSTER_ROLE),
    outside("sync.fromHost.gatewayClasses", CLUSTER_ROLE),
    outside("sync.fromHost.gateways", CLUSTER_ROLE),
    outside("sync.fromHost.runtimeClasses", CLUSTER_ROLE),
    outside("sync.fromHost.priorityClasses", CLUSTER_ROLE),
    outside("sync.fromHost.storageClasses", CLUSTER_ROLE),
    outside("sync.fromHost.csiNodes", CLUSTER_ROLE),
    outside("sync.fromHost.csiDrivers", CLUSTER_ROLE),
    outside("sync.fromHost.csiStorageCapacities", CLUSTER_ROLE),
    outside("sync.fromHost.deviceClasses", CLUSTER_ROLE),
    outside("sync.fromHost.customResources", CLUSTER_ROLE),

    // -- controlPlane
    owned("controlPlane.endpoint", NAMES, USE_PUBLIC),
    line("controlPlane.distro.k8s.enabled"),
    owned("controlPlane.distro.k8s.version", "the version moves one minor at a time and never down, which the operator sees to", "use spec.kubernetesVersion"),
    owned("controlPlane.distro.k8s.image", "the image decides the version, which moves one minor at a time and never down", "use spec.kubernetesVersion"),
    line("controlPlane.distro.k8s.imagePullPolicy"),
    line("controlPlane.distro.k8s.resources"),
    // Flags of the tenant's own programs: they change the tenant for its author, and no file of
    // the pod's is the author's to point them at.
    line("controlPlane.distro.k8s.apiServer.enabled"),
    line("controlPlane.distro.k8s.apiServer.extraArgs"),
    outside("controlPlane.distro.k8s.apiServer.command", COMMAND),
    line("controlPlane.distro.k8s.controllerManager.enabled"),
    line("controlPlane.distro.k8s.controllerManager.extraArgs"),
    outside("controlPlane.distro.k8s.controllerManager.command", COMMAND),
    outside("controlPlane.distro.k8s.scheduler", CLUSTER_ROLE),
    outside("controlPlane.distro.k8s.env", COMMAND),
    outside("controlPlane.distro.k8s.securityContext", COMMAND),
    outside("controlPlane.standalone", "a control plane outside of a pod is not the operator's to run"),
    outside("controlPlane.hostPathMapper", "it reads files of the nodes"),

    owned("controlPlane.backingStore", STORE, USE_STORE),
    line("controlPlane.backingStore.etcd.deploy.statefulSet.resources"),
    line("controlPlane.backingStore.etcd.deploy.statefulSet.imagePullPolicy"),
    line("controlPlane.backingStore.etcd.deploy.statefulSet.scheduling.affinity"),
    line("controlPlane.backingStore.etcd.deploy.statefulSet.scheduling.topologySpreadConstraints"),
    owned("controlPlane.backingStore.etcd.deploy.statefulSet.scheduling.nodeSelector", PLACEMENT, USE_PLACEMENT),
    owned("controlPlane.backingStore.etcd.deploy.statefulSet.scheduling.tolerations", PLACEMENT, USE_PLACEMENT),
    outside("controlPlane.backingStore.etcd.deploy.statefulSet.scheduling.priorityClassName", PRIORITY),
    outside("controlPlane.backingStore.etcd.deploy.statefulSet.image", IMAGE),
    outside("controlPlane.backingStore.etcd.deploy.statefulSet.extraArgs", COMMAND),
    outside("controlPlane.backingStore.etcd.deploy.statefulSet.env", COMMAND),
    outside("controlPlane.backingStore.etcd.deploy.statefulSet.security", COMMAND),
    outside("controlPlane.backingStore.etcd.deploy.statefulSet.persistence.addVolumes", VOLUME),
    outside("controlPlane.backingStore.etcd.deploy.statefulSet.persistence.addVolumeMounts", VOLUME),

    owned("controlPlane.proxy.extraSANs", "the operator keeps the public name in the certificate", "use spec.controlPlane.extraSANs"),
    owned("controlPlane.proxy.bindAddress", "the operator dials the control plane there", "remove it"),
    owned("controlPlane.proxy.port", "the operator dials the control plane there", "remove it"),

    line("controlPlane.coredns.enabled"),
    outside("controlPlane.coredns.embedded", "an embedded CoreDNS runs in the control plane's pod and its configuration can serve that pod's files"),
    text("controlPlane.coredns.overwriteManifests"),
    text("controlPlane.coredns.overwriteConfig"),
    line("controlPlane.coredns.priorityClassName"),
    line("controlPlane.coredns.security"),
    text("controlPlane.coredns.service"),
    text("controlPlane.coredns.deployment"),

    owned("controlPlane.service.enabled", "the tenant's API answers at this Service", "remove it"),
    text("controlPlane.service.annotations"),
    text("controlPlane.service.labels"),
    line("controlPlane.service.kubeletNodePort"),
    line("controlPlane.service.httpsNodePort"),
    owned("controlPlane.service.spec", "the tenant's API answers at this Service; addresses, ports and selectors of it could take other people's traffic", USE_SERVICE),
    line("controlPlane.service.spec.externalTrafficPolicy"),
    line("controlPlane.service.spec.loadBalancerSourceRanges"),
    line("controlPlane.service.spec.ipFamilies"),
    line("controlPlane.service.spec.ipFamilyPolicy"),
    outside("controlPlane.service.spec.externalIPs", "external addresses on a Service take other people's traffic"),
    outside("controlPlane.service.spec.loadBalancerIP", "addresses of the load balancer are the host admin's to give"),
    outside("controlPlane.service.spec.loadBalancerClass", "load balancers are the host admin's to give"),

    outside_but("controlPlane.ingress", EDGE, USE_PUBLIC),
    owned("controlPlane.tlsRoute", "the operator owns the route to the tenant's API", USE_PUBLIC),

    text("controlPlane.statefulSet.labels"),
    text("controlPlane.statefulSet.annotations"),
    line("controlPlane.statefulSet.imagePullPolicy"),
    owned("controlPlane.statefulSet.image", IMAGE, USE_IMAGE),
    outside("controlPlane.statefulSet.workingDir", COMMAND),
    outside("controlPlane.statefulSet.command", COMMAND),
    outside("controlPlane.statefulSet.args", COMMAND),
    outside("controlPlane.statefulSet.env", COMMAND),
    owned("controlPlane.statefulSet.resources", "the spec has a field for it", "use spec.controlPlane.resources"),
    text("controlPlane.statefulSet.pods"),
    owned("controlPlane.statefulSet.highAvailability.replicas", "more replicas need a store that they can share, which the operator checks", "use spec.controlPlane.replicas"),
    line("controlPlane.statefulSet.highAvailability.leaseDuration"),
    line("controlPlane.statefulSet.highAvailability.renewDeadline"),
    line("controlPlane.statefulSet.highAvailability.retryPeriod"),
    outside("controlPlane.statefulSet.security", "it changes the rights of the control plane's pod on its node"),
    owned("controlPlane.statefulSet.persistence", STORAGE, USE_STORAGE),
    outside("controlPlane.statefulSet.persistence.addVolumes", VOLUME),
    outside("controlPlane.statefulSet.persistence.addVolumeMounts", VOLUME),
    outside("controlPlane.statefulSet.persistence.binariesVolume", VOLUME),
    line("controlPlane.statefulSet.enableServiceLinks"),
    line("controlPlane.statefulSet.dnsPolicy"),
    line("controlPlane.statefulSet.dnsConfig"),
    owned("controlPlane.statefulSet.runtimeClassName", PLACEMENT, USE_PLACEMENT),
    owned("controlPlane.statefulSet.scheduling.nodeSelector", PLACEMENT, USE_PLACEMENT),
    owned("controlPlane.statefulSet.scheduling.tolerations", PLACEMENT, USE_PLACEMENT),
    line("controlPlane.statefulSet.scheduling.affinity"),
    line("controlPlane.statefulSet.scheduling.topologySpreadConstraints"),
    line("controlPlane.statefulSet.scheduling.podManagementPolicy"),
    outside("controlPlane.statefulSet.scheduling.priorityClassName", PRIORITY),
    line("controlPlane.statefulSet.probes"),
    outside("controlPlane.statefulSet.initContainers", COMMAND),
    outside("controlPlane.statefulSet.sidecarContainers", COMMAND),
    outside("controlPlane.statefulSet.hostAliases", "it makes the control plane find other addresses under known names"),

    outside("controlPlane.serviceMonitor", "it makes the host's Prometheus read with the tenant's own keys"),

    outside_but("controlPlane.advanced.defaultImageRegistry", IMAGE, USE_IMAGE),
    outside("controlPlane.advanced.virtualScheduler", CLUSTER_ROLE),
    line("controlPlane.advanced.serviceAccount.imagePullSecrets"),
    outside("controlPlane.advanced.serviceAccount", IDENTITY),
    line("controlPlane.advanced.workloadServiceAccount.imagePullSecrets"),
    outside("controlPlane.advanced.workloadServiceAccount", IDENTITY),
    text("controlPlane.advanced.headlessService.annotations"),
    text("controlPlane.advanced.headlessService.labels"),
    line("controlPlane.advanced.konnectivity.server.enabled"),
    outside("controlPlane.advanced.konnectivity.server.extraArgs", COMMAND),
    line("controlPlane.advanced.konnectivity.agent"),
    line("controlPlane.advanced.cloudControllerManager"),
    outside("controlPlane.advanced.registry", "an image registry in the control plane's pod can serve that pod's files"),
    outside("controlPlane.advanced.kubeVip", "it gives the control plane's pod the node's network"),
    outside("controlPlane.advanced.globalMetadata", IDENTITY),
    outside("controlPlane.advanced.podDisruptionBudget", DRAIN),

    // -- privateNodes, deploy: on the tenant's own nodes and inside the tenant.
    owned("privateNodes.enabled", "whose nodes they are is chosen once", USE_NODES),
    text("privateNodes.kubelet"),
    text("privateNodes.autoUpgrade"),
    text("privateNodes.joinNode"),
    line("privateNodes.daemon"),
    outside("privateNodes.autoNodes", "it has the vCluster platform buy machines"),
    outside("privateNodes.vpn", "it joins the vCluster platform's network"),
    outside("privateNodes.defaultProfile", "profiles are the vCluster platform's"),
    text("deploy.localPathProvisioner"),
    text("deploy.cni"),
    text("deploy.kubeProxy"),
    text("deploy.metallb"),
    text("deploy.ingressNginx"),
    text("deploy.metricsServer"),
    outside("deploy.argoCD", "it uses an Argo CD outside of the tenant"),

    // -- integrations: all use programs of the host, most with a ClusterRole.
    outside_but("integrations.metricsServer", CLUSTER_ROLE, "use deploy.metricsServer, which runs inside the tenant, or ask the host admin"),
    outside("integrations", "integrations use programs and rights of the host cluster"),

    // -- rbac
    outside("rbac.role.enabled", "the control plane needs its Role"),
    outside("rbac.role.overwriteRules", "rules of the control plane's Role are rights on the host cluster"),
    outside("rbac.role.extraRules", "rules of the control plane's Role are rights on the host cluster"),
    outside("rbac.clusterRole", "rules of a ClusterRole are rights on the whole host cluster"),

    // -- networking
    owned("networking.podCIDR", "ranges are kept apart between tenants", USE_NODES),
    owned("networking.serviceCIDR", "ranges are kept apart between tenants", USE_NODES),
    owned("serviceCIDR", "ranges are kept apart between tenants", USE_NODES),
    outside("networking.replicateServices", "it joins Services of other namespaces to the tenant"),
    outside("networking.resolveDNS", "it makes names of other namespaces resolve inside the tenant"),
    line("networking.advanced.clusterDomain"),
    line("networking.advanced.proxyKubelets"),
    outside("networking.advanced.fallbackHostCluster", "it shows the tenant the host cluster's Services by name"),

    // -- policies
    owned("policies.resourceQuota", QUOTA, USE_QUOTA),
    owned("policies.limitRange", QUOTA, USE_QUOTA),
    outside("policies.networkPolicy", "the chart's policies open what the operator's default-deny closed"),
    line("policies.podSecurityStandard"),
    text("policies.centralAdmission"),

    // -- how the tenant is reached
    owned("exportKubeConfig", "the operator reads the tenant's keys there and hands out a kubeconfig of its own", "use spec.kubeconfig"),

    // -- the vCluster platform
    owned("platform.apiKey", "the key of the platform may be one of another namespace", "use spec.nodes.private.platformSecretRef"),
    line("platform.project"),
    outside("sleep", "a control plane that sleeps looks like an outage to the operator"),
    outside("snapshots", "it writes the tenant's data to a place outside"),
    outside_but("deletion", "the tenant goes when its ManagedCluster goes, and not before", "use spec.deletionProtection, or delete the ManagedCluster"),
    outside("pro", CLUSTER_ROLE),

    // -- what runs beside or inside the control plane
    outside("plugins", COMMAND),
    outside("plugin", COMMAND),
    owned("experimental.syncSettings.setOwner", SYNC_SETTINGS, "remove it"),
    outside("experimental.syncSettings", "it changes how the syncer works on the host"),
    text("experimental.deploy.vcluster.manifests"),
    outside("experimental.deploy.vcluster.manifestsTemplate", "the template sees all values, the operator's too"),
    outside("experimental.deploy.vcluster.helm", "it runs Helm in the control plane's pod, with charts from anywhere"),
    outside("experimental.deploy.host", "it makes objects of any kind on the host cluster"),
    outside("experimental", "experimental keys of the chart have not been looked at"),

    line("telemetry"),
    line("logging"),
];
