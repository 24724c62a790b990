//! The closed list of reasons.
//!
//! One word says why something is as it is: as the reason of a condition, as the reason of an
//! event, and as the label of a metric. Each carries what it means and what to do, and the
//! troubleshooting page has a row for each.

use std::fmt;

macro_rules! reasons {
    ($($reason:ident: $meaning:literal, $remedy:literal;)+) => {
        /// Why something is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(
                #[doc = $meaning]
                #[doc = ""]
                #[doc = $remedy]
                $reason,
            )+
        }

        impl Reason {
            /// All reasons, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$reason),+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$reason => stringify!($reason)),+ }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$reason => $meaning),+ }
            }

            /// What to do.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$reason => $remedy),+ }
            }
        }
    };
}

reasons! {
    // Any object.
    Succeeded: "The step is done.", "Nothing.";
    Progressing: "The step is on the way.", "Wait; the message says for what.";
    NotRequired: "The spec does not ask for this.", "Nothing.";
    WaitingForDependency: "An earlier step has to be done first.", "See the condition that the message names.";
    Suspended: "spec.suspend is true, and nothing is changed.", "Set spec.suspend to false to go on.";
    Deleting: "The object is being deleted.", "Wait; the message says which stage.";
    DeletionBlocked: "A stage of the deletion took longer than its time, because of an object in the way.", "Look at the object that the message names: its finalizers or its controller hold it.";
    DeletionProtected: "spec.deletionProtection refuses the deletion.", "Set spec.deletionProtection to false, then delete.";
    Retained: "Namespace, volumes and PKI were kept on deletion.", "Create the same namespace/name again to claim them, or delete the namespace by hand.";
    InUse: "Other objects still use this one.", "Detach or delete the ManagedClusters that the message names; those that have moved away leave by themselves.";
    InvalidSpec: "A value of the spec cannot be read.", "Correct the field that the message names.";
    NameTooLong: "The names of the release and its namespace together are too long for the chart.", "Give a shorter spec.hostNamespace, or a shorter name.";
    NotOwned: "An object of the wanted name exists and is somebody else's.", "Rename it or the field that asks for it, or let it be adopted as the message says.";
    Forbidden: "The api-server refused the operator a request.", "Grant the verb on the resource that the message names, or compare the operator's ClusterRole with the installed version.";
    Timeout: "A step took longer than its time limit.", "It is tried again; look at what the message names if it stays.";
    ApiServerError: "The api-server did not answer, or answered with an error.", "It is tried again; look at the api-server if it stays.";
    InternalError: "The operator met a state that it does not know.", "Report the message and the operator's log as a bug.";

    // The host namespace.
    NamespaceNotAllowed: "The host namespace existed before, and the host admin has not released it.", "Ask the host admin to annotate the namespace, or take another spec.hostNamespace.";
    NamespaceClaimed: "The host namespace belongs to another ManagedCluster.", "Take another spec.hostNamespace; one tenant a namespace.";
    NamespaceTerminating: "The host namespace is being deleted.", "Wait; if it stays, look at the finalizers of what is left in it.";

    // Chart and values.
    ChartNotFound: "The repository has no chart of this name.", "Correct spec.chart.name or spec.chart.repository.";
    ChartVersionNotFound: "The repository has no such version of the chart.", "Take a version that the repository has in spec.chart.version.";
    ChartRepositoryNotAllowed: "The operator's flags do not allow this chart repository.", "Take an allowed repository, or ask the host admin to allow this one.";
    ChartRepositoryUnavailable: "The chart repository did not answer, or its certificate could not be verified.", "Check the address, the network and spec.chart.caSecretRef.";
    ChartUnauthorized: "The chart repository refused the credentials.", "Correct the Secret that spec.chart.authSecretRef names.";
    ChartTooLarge: "The chart archive is larger than the operator takes.", "Take the original chart, or ask the host admin to raise the limit.";
    ChartInvalid: "The chart archive cannot be read as a chart.", "Package the chart with helm package and publish it again.";
    DigestMismatch: "The chart archive does not have the digest of the spec.", "Find out why the archive changed; correct spec.chart.digest only if the change is wanted.";
    SecretNotFound: "A Secret that the spec names is missing, or lacks a key.", "Create the Secret with the key that the message names.";
    ValuesSourceNotFound: "An entry of spec.valuesFrom is missing, or lacks its key.", "Create the object with the key, or mark the entry optional.";
    ValuesInvalid: "A text of values is not a YAML map.", "Correct the text that the message names.";
    ValueNotAllowed: "The values set a key that reaches outside the tenant.", "Remove the key that the message names; a host admin may lift the rule by a flag.";
    OperatorOwnedValue: "The values set a key that the operator owns.", "Remove the key; the message names the field of the spec that sets it.";
    SchemaViolation: "The values break the chart's own schema.", "Correct the key that the message names.";
    RenderFailed: "The chart's templates failed with these values.", "Correct the values; the message holds the template's own words.";

    // The release.
    ForeignRelease: "A Helm release of this name exists in the namespace and is not ours.", "Take another spec.hostNamespace, or uninstall the foreign release.";
    ReleaseLocked: "A Helm run that died left the release pending.", "Wait; it is unlocked by itself after the release's own time limit.";
    ReleaseFailed: "The api-server refused the release; the old revision keeps serving.", "Correct what the message names.";
    ReleaseRolledBack: "The last change failed, and the revision before it serves again.", "Correct the spec; the message says what failed.";
    RestartPending: "A change on the way restarts the only replica: the tenant's API will be gone for a short while.", "Nothing, or run more replicas on a shared store.";
    DriftRepaired: "An object of the release was changed by somebody else and is as it was.", "Find out who changed it.";
    VersionNotSupported: "The chart knows no image for this Kubernetes version.", "Take a version that the message names, or set spec.controlPlane.image.";
    VersionStepRefused: "Kubernetes moves up by one minor at a time, and never down.", "Take the next minor first.";
    StorageExpanding: "The volumes are growing.", "Wait.";
    StorageExpansionRefused: "The storage class does not let volumes grow.", "Set allowVolumeExpansion on the class; it is tried again by itself.";

    // The tenant's control plane.
    ControlPlaneNotReady: "The control plane's pods are not ready yet.", "Wait; look at the pods that the message names if it stays.";
    ControlPlaneUnreachable: "The tenant's API does not answer, though its pods say that they are ready.", "Look at the NetworkPolicies and the log of the control plane.";
    ControlPlaneUntrusted: "The tenant's API shows a certificate that its own CA did not sign.", "Look at the tenant's PKI Secret; report it if nobody changed it.";
    CrashLoop: "A container of the control plane dies again and again.", "Read the log of the pod that the message names.";
    ImagePullFailed: "An image of the control plane cannot be pulled.", "Correct spec.controlPlane.image, or the registry's access.";
    ImageNotAllowed: "The host admin does not allow this image for control planes.", "Take an allowed image, or ask the host admin to allow this one.";
    Unschedulable: "No host node takes a pod of the control plane.", "Look at spec.placement, at the nodes' capacity and at the volume's class.";
    VolumePending: "The volume of the control plane is not bound.", "Look at spec.controlPlane.storage.className and at the provisioner.";
    QuotaExceeded: "The host namespace's quota leaves no room.", "Raise spec.quota.hard, or free what uses it.";
    PodSecurityViolation: "The host namespace's Pod Security level refuses a pod.", "Remove what the message names from the pod.";
    LicenseMissing: "The spec asks for a feature that needs a vCluster licence, and there is none.", "Create the platform Secret, name it in spec.nodes.private.platformSecretRef, or do without the feature.";

    // The kubeconfig.
    KubeconfigPending: "The tenant has not written its certificates yet.", "Wait.";
    KubeconfigInvalid: "The tenant's certificates are not PEM, or are too large.", "Look at the Secret that the message names; somebody changed it.";
    ArgoCDNotConfigured: "The operator's flags name no Argo CD.", "Ask the host admin, or set spec.kubeconfig.argoCD.enabled to false.";

    // Public names.
    PublicAccessNotFound: "The PublicAccess of the spec does not exist.", "Correct spec.publicAccess.ref, or create the PublicAccess.";
    PublicAccessNotReady: "The PublicAccess is not programmed yet.", "See the conditions of the PublicAccess.";
    AttachmentNotAllowed: "The PublicAccess does not admit this namespace.", "Ask its owner to widen spec.allowedNamespaces.";
    HostnameNotAllowed: "A host name lies under none of the PublicAccess's domains.", "Take a name below a domain that the message names.";
    HostnameConflict: "A host name belongs to another cluster.", "Take another name; the message names the owner.";
    HostnameReserved: "A host name is the platform's own, or the apex of a domain.", "Take another name.";
    CertificateNamePending: "The tenant's certificate does not carry the public name yet.", "Wait; the control plane takes the name over.";
    RouteNotAccepted: "The gateway's controller has not accepted the route.", "Read the route's status; the message quotes it.";
    ForeignRoute: "A route of somebody else carries one of our host names.", "Delete the route that the message names.";
    DNSNotReady: "A host name does not resolve to the gateway yet.", "Create the record in status.hostnames[].expectedRecord.";
    DNSServerUnavailable: "No DNS server answered.", "Check spec.workload.dns.servers of the PublicAccess and the network.";
    Probing: "The public name is being dialled.", "Wait.";
    ProbeFailed: "The public name was dialled and did not answer as it should.", "The message says at which step: connect, TLS, or HTTP.";

    // Gateways.
    ProviderUnavailable: "This version of the operator has no such provider.", "Set spec.provider to GatewayAPI.";
    GatewayAPIMissing: "The host cluster serves no Gateway API with TLSRoute.", "Install the Gateway API; the operator goes on by itself.";
    GatewayClassNotFound: "A GatewayClass does not exist.", "Create it, or correct the class that the message names.";
    GatewayNotProgrammed: "The gateway's controller has not programmed a Gateway.", "Read the Gateway's status; the message quotes it.";
    GatewayNamespaceNotAllowed: "A Gateway is wanted in a namespace that the host admin has not released.", "Ask the host admin to annotate the namespace, or leave the field empty.";
    ListenerConflict: "Two listeners of one data plane claim the same port, protocol and host name.", "Change the listener that the message names.";
    ListenerCapacityExceeded: "A Gateway has no room for another listener.", "Remove host names, or install a Gateway API that serves ListenerSets.";
    TLSSecretInvalid: "A TLS Secret is missing, or is not a certificate with its key.", "Create the Secret that the message names, of type kubernetes.io/tls.";

    // The tenants' sites.
    WorkloadDisabled: "The PublicAccess has no entrance for sites.", "Ask its owner to set spec.workload, or remove spec.publicAccess.workload.hostnames.";
    IngressNotReady: "The ingress controller in the tenant is not ready.", "Look at its pods in the tenant.";
    BackendNotFound: "No Service of an ingress controller was found in the tenant.", "Turn managedIngress on, or install an ingress controller.";
    BackendAmbiguous: "Several Services of the tenant could be its ingress controller.", "Mark one of them as the message says.";
    NoEndpoints: "The ingress controller has no ready endpoint.", "Look at its pods in the tenant.";
    EndpointNotAllowed: "The tenant names an address that was not given to it.", "Look at the Node or slice that the message names; the address is left out.";
    PodIPUnreachable: "The gateways cannot reach the tenant's pods, and node ports are not allowed by the strategy.", "Set backendStrategy to Auto, or make the pods reachable.";
    CertManagerMissing: "The host cluster serves no cert-manager API.", "Install cert-manager; the operator goes on by itself.";
    IssuerNotFound: "An issuer does not exist.", "Create it, or correct the issuerRef that the message names.";
    CertificatePending: "A certificate is being issued.", "Wait; look at the Certificate that the message names if it stays.";
    CertificateFailed: "A certificate could not be issued.", "Read the Certificate's status; the message quotes it.";
    NotCovered: "No certificate covers the host name; it is served over HTTP.", "Add the name to the certificate, or let cert-manager issue it.";

    // Routes to private nodes.
    RouteAgentMissing: "No agent runs on a node that should keep the routes.", "Enable the route agent, and compare its node selector.";
    RouteAgentStale: "An agent has given no sign of life for too long; its routes stay as they are.", "Look at the agent's pod on the node that the message names.";
    RouteConflict: "Somebody else's route has the same destination.", "Remove that route from the node, or change the range.";
    RouteApplyFailed: "A node refused a route.", "The message holds the kernel's words.";
    RouteUnreachable: "A next hop does not answer from the node.", "Connect the nodes on one network, or by a tunnel.";
    DestinationNotAllowed: "A destination lies outside the PublicAccess's allowedCIDRs or the tenant's own range.", "Correct the destination, or ask the owner of the PublicAccess to allow the range.";
    NextHopNotAllowed: "A next hop lies inside the host's or another tenant's ranges.", "Look at the Node that the message names; its address is not taken.";
    PodCIDRConflict: "Another cluster uses an overlapping range of pod addresses.", "Create the cluster with a range of its own.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_word_that_kubernetes_takes_and_says_what_to_do() {
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(word.len() <= 128, "{word}");
            assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
            assert!(word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
            assert!(reason.meaning().ends_with('.'), "{word}");
            assert!(reason.remedy().ends_with('.'), "{word}");
        }
    }
}
