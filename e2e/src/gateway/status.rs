//! What the fake controller says in the status of Gateways and routes.

use std::collections::{BTreeMap, HashMap, HashSet};

use kubebyon_k8s::{
    gateway_api::{gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute},
    k8s_openapi::api::core::v1::{Namespace, Service},
    kube::{
        Api, Client, Error, Resource, ResourceExt,
        api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    },
};
use kubebyon_render::gateway_api::{GROUP, tls_route::Version};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Behaviour, CONTROLLER, Way};

/// A moment: that one is asked for is all that counts.
const WHEN: &str = "2026-01-01T00:00:00Z";

pub(super) struct Controller {
    client: Client,
    version: Version,
    addresses: HashMap<String, String>,
    services: HashSet<(String, String)>,
}

/// A Gateway of ours.
struct Ours {
    object: Gateway,
    behaviour: Behaviour,
    /// Routes attached to each listener.
    attached: BTreeMap<String, usize>,
}

/// Why a route is not accepted.
type Refusal = (&'static str, &'static str);

fn condition(type_: &str, refused: Option<Refusal>, generation: Option<i64>) -> Value {
    let (status, reason, message) = match refused {
        None => ("True", type_, ""),
        Some((reason, message)) => ("False", reason, message),
    };
    json!({"type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": WHEN, "observedGeneration": generation})
}

/// What a status says, as far as `said` says anything about it.
fn says(status: &Value, said: &Value) -> bool {
    let fields = said.as_object().into_iter().flatten();
    fields.into_iter().all(|(key, value)| status[key] == *value)
}

impl Controller {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            version: Version::V1,
            addresses: HashMap::new(),
            services: HashSet::new(),
        }
    }

    /// Looks at everything once, and tells where connections go from now on.
    pub(super) async fn look(
        &mut self,
        behaviour: impl Fn(&str) -> Behaviour,
    ) -> Result<BTreeMap<String, Way>, Error> {
        // From the api-server's cache: the next look sees what this one does not.
        let cached = ListParams::default().match_any();
        let classes: HashSet<String> = Api::<GatewayClass>::all(self.client.clone())
            .list(&cached)
            .await?
            .into_iter()
            .filter(|class| class.spec.controller_name == CONTROLLER)
            .map(|class| class.name_any())
            .collect();
        let mut gateways: BTreeMap<String, Ours> = Api::<Gateway>::all(self.client.clone())
            .list(&cached)
            .await?
            .into_iter()
            .filter(|gateway| classes.contains(&gateway.spec.gateway_class_name))
            .map(|object| {
                let key = format!(
                    "{}/{}",
                    object.namespace().unwrap_or_default(),
                    object.name_any()
                );
                let behaviour = behaviour(&key);
                let attached = BTreeMap::new();
                let ours = Ours {
                    object,
                    behaviour,
                    attached,
                };
                (key, ours)
            })
            .collect();
        let labels: HashMap<String, BTreeMap<String, String>> =
            Api::<Namespace>::all(self.client.clone())
                .list_metadata(&cached)
                .await?
                .into_iter()
                .map(|namespace| (namespace.name_any(), namespace.labels().clone()))
                .collect();
        let mut ways = BTreeMap::new();
        let tls = self.tls_routes(&cached).await?;
        let tls_resource = self.version.resource();
        for route in sorted(tls) {
            self.route(
                &mut gateways,
                &labels,
                &tls_resource,
                &route,
                Some(&mut ways),
            )
            .await?;
        }
        let http_resource = ApiResource::erase::<HttpRoute>(&());
        let http: Api<DynamicObject> = Api::all_with(self.client.clone(), &http_resource);
        for route in sorted(http.list(&cached).await?.items) {
            self.route(&mut gateways, &labels, &http_resource, &route, None)
                .await?;
        }
        for (key, ours) in &gateways {
            self.gateway(key, ours).await?;
        }
        Ok(ways)
    }

    /// TLSRoutes in a version that is served; the one before is tried first.
    async fn tls_routes(&mut self, cached: &ListParams) -> Result<Vec<DynamicObject>, Error> {
        let mut failure = None;
        for version in std::iter::once(self.version).chain(Version::ALL) {
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &version.resource());
            match api.list(cached).await {
                Ok(list) => {
                    self.version = version;
                    return Ok(list.items);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("three versions were tried"))
    }

    async fn gateway(&mut self, key: &str, ours: &Ours) -> Result<(), Error> {
        if ours.behaviour == Behaviour::Gone {
            return Ok(());
        }
        let next = format!("192.0.2.{}", self.addresses.len() + 1);
        let address = self.addresses.entry(key.to_owned()).or_insert(next).clone();
        let generation = ours.object.metadata.generation;
        let good = |types: &[&str]| -> Vec<Value> {
            types
                .iter()
                .map(|type_| condition(type_, None, generation))
                .collect()
        };
        let listeners: Vec<Value> = ours
            .object
            .spec
            .listeners
            .iter()
            .map(|listener| {
                let kind = if listener.protocol == "TLS" { "TLSRoute" } else { "HTTPRoute" };
                json!({
                    "name": listener.name, "supportedKinds": [{"group": GROUP, "kind": kind}],
                    "attachedRoutes": ours.attached.get(&listener.name).copied().unwrap_or_default(),
                    "conditions": good(&["Accepted", "Programmed", "ResolvedRefs"]),
                })
            })
            .collect();
        let status = json!({
            "addresses": [{"type": "IPAddress", "value": address}],
            "conditions": good(&["Accepted", "Programmed"]),
            "listeners": listeners,
        });
        if says(&json!(ours.object.status), &status) {
            return Ok(());
        }
        let api: Api<Gateway> = Api::namespaced(
            self.client.clone(),
            &ours.object.namespace().unwrap_or_default(),
        );
        write_status(&api, &ours.object.name_any(), status).await
    }

    /// Says whether a route is accepted, and notes its ways.
    async fn route(
        &mut self,
        gateways: &mut BTreeMap<String, Ours>,
        labels: &HashMap<String, BTreeMap<String, String>>,
        resource: &ApiResource,
        route: &DynamicObject,
        mut ways: Option<&mut BTreeMap<String, Way>>,
    ) -> Result<(), Error> {
        let namespace = route.namespace().unwrap_or_default();
        let generation = route.metadata.generation;
        let spec = route.data["spec"].clone();
        let said = route.data["status"]["parents"].as_array().cloned();
        let said = said.unwrap_or_default();
        let mut parents: Vec<Value> = said
            .iter()
            .filter(|parent| parent["controllerName"] != CONTROLLER)
            .cloned()
            .collect();
        let backend = self.backend(&namespace, &spec).await?;
        for parent in spec["parentRefs"].as_array().into_iter().flatten() {
            let of = |key: &str, default: &str| parent[key].as_str().unwrap_or(default).to_owned();
            let key = format!("{}/{}", of("namespace", &namespace), of("name", ""));
            let Some(ours) = gateways
                .get_mut(&key)
                .filter(|_| of("kind", "Gateway") == "Gateway")
            else {
                continue;
            };
            if ours.behaviour == Behaviour::Gone {
                let before = said.iter().find(|said| said["parentRef"] == *parent);
                parents.extend(before.cloned());
                continue;
            }
            let refused = refusal(ours, parent, &resource.kind, &namespace, labels);
            let unresolved = (backend.is_none() && ways.is_some())
                .then_some(("BackendNotFound", "the Service does not exist"));
            parents.push(json!({
                "parentRef": parent, "controllerName": CONTROLLER,
                "conditions": [
                    condition("Accepted", refused, generation),
                    condition("ResolvedRefs", unresolved, generation),
                ],
            }));
            let (None, Some(ways), Some(tenant)) = (refused, ways.as_deref_mut(), &backend) else {
                continue;
            };
            for name in spec["hostnames"].as_array().into_iter().flatten() {
                ways.entry(name.as_str().unwrap_or_default().to_owned())
                    .or_insert_with(|| Way {
                        gateway: key.clone(),
                        tenant: tenant.clone(),
                    });
            }
        }
        if parents == said {
            return Ok(());
        }
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &namespace, resource);
        write_status(&api, &route.name_any(), json!({"parents": parents})).await
    }

    /// The Service of a route's only backend, if it is there.
    async fn backend(
        &mut self,
        namespace: &str,
        spec: &Value,
    ) -> Result<Option<(String, String)>, Error> {
        let Some(name) = spec["rules"][0]["backendRefs"][0]["name"].as_str() else {
            return Ok(None);
        };
        let service = (namespace.to_owned(), name.to_owned());
        if !self.services.contains(&service) {
            let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
            if api.get_opt(name).await?.is_none() {
                return Ok(None);
            }
            self.services.insert(service.clone());
        }
        Ok(Some(service))
    }
}

/// Why none of the Gateway's listeners takes the route; counts it for those that do.
fn refusal(
    ours: &mut Ours,
    parent: &Value,
    kind: &str,
    namespace: &str,
    labels: &HashMap<String, BTreeMap<String, String>>,
) -> Option<Refusal> {
    if ours.behaviour == Behaviour::Refusing {
        return Some(("NotAllowedByListeners", "it takes no route any more"));
    }
    let home = ours.object.namespace().unwrap_or_default();
    let mut refusal = Some(("NoMatchingParent", "no listener of that name and kind"));
    for listener in &ours.object.spec.listeners {
        let listener = json!(listener);
        let section = parent["sectionName"].as_str();
        let fits = match kind {
            "TLSRoute" => listener["protocol"] == "TLS",
            _ => listener["protocol"] == "HTTP" || listener["protocol"] == "HTTPS",
        };
        if !fits || section.is_some_and(|section| listener["name"] != section) {
            continue;
        }
        let from = &listener["allowedRoutes"]["namespaces"];
        let allowed = match from["from"].as_str() {
            Some("All") => true,
            Some("Selector") => {
                let wanted = from["selector"]["matchLabels"].as_object();
                let found = labels.get(namespace);
                wanted.into_iter().flatten().all(|(key, value)| {
                    found.and_then(|labels| labels.get(key)).map(String::as_str) == value.as_str()
                })
            }
            _ => home == namespace,
        };
        if !allowed {
            refusal = Some(("NotAllowedByListeners", "the namespace is not allowed"));
            continue;
        }
        let name = listener["name"].as_str().unwrap_or_default().to_owned();
        *ours.attached.entry(name).or_default() += 1;
        return None;
    }
    refusal
}

/// The oldest first: it has the name.
fn sorted(mut routes: Vec<DynamicObject>) -> Vec<DynamicObject> {
    routes.sort_by_cached_key(|route| {
        let made = route.creation_timestamp().map(|time| time.0);
        (made, route.namespace(), route.name_any())
    });
    routes
}

async fn write_status<K>(api: &Api<K>, name: &str, status: Value) -> Result<(), Error>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Serialize,
{
    let patch = Patch::Merge(json!({"status": status}));
    match api
        .patch_status(name, &PatchParams::default(), &patch)
        .await
    {
        Ok(_) => Ok(()),
        // It went away in the meantime.
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
