//! The platform's site: which server answers under which path.

use kubebyon_e2e::edge::{
    outside::Answer,
    site::{API, SECRET, Site, WEB},
    until,
};
use serde_json::{Value, json};

use super::{Entrance, READY, SOON, World};

const NAMESPACE: &str = "edge";
const HOSTNAME: &str = "console.example.test";

/// An entrance of one address with a site of two servers.
pub fn is_served(world: &World) -> Entrance {
    world.namespace(NAMESPACE);
    let kubectl = &world.installation.kubectl;
    let site = Site::start(kubectl, &world.outside, NAMESPACE, HOSTNAME).unwrap();
    let spec = spec(HOSTNAME, "example.test", &single("merged"));
    let object = world.access(NAMESPACE, "public", &spec);
    let took = object.ready(READY);
    world.done(&format!(
        "an entrance of three Gateways on a data plane of its own is ready after {:.1} s",
        took.as_secs_f32()
    ));
    world.resolve(HOSTNAME, &object, "Platform");
    let entrance = Entrance { object, spec, site };
    entrance.answers(world, "https", "/", &says(WEB));
    for (path, who) in [
        ("/page", WEB),
        ("/healthzx", WEB),
        ("/apix", WEB),
        ("/api/", API),
        ("/api/v1/things", API),
        ("/healthz", API),
    ] {
        assert_eq!(entrance.get(world, "https", path), says(who), "{path}");
    }
    for path in ["/", "/page", "/api/v1/things", "/healthz"] {
        let to = format!("https://{HOSTNAME}{path}");
        assert_eq!(entrance.get(world, "http", path), leads(&to), "{path}");
    }
    let stranger = world.outside.curl(
        std::path::Path::new("/etc/ssl/certs/ca-certificates.crt"),
        &format!("https://{HOSTNAME}/"),
    );
    assert_eq!(stranger.status, 0, "no other authority vouches for it");
    world.done("the site: pages from the web server, /api and /healthz from the API, plain HTTP leads to HTTPS");
    entrance
}

/// The same entrance when there is an API alone, and again with pages.
pub fn without_web(world: &World, entrance: &Entrance) {
    let mut spec = entrance.spec.clone();
    spec["platform"]["web"]["enabled"] = json!(false);
    entrance.object.apply(&spec);
    entrance.object.ready(READY);
    entrance.answers(world, "https", "/", &nothing());
    entrance.answers(world, "http", "/", &nothing());
    for (path, answer) in [
        ("/page", nothing()),
        ("/healthzx", nothing()),
        ("/apix", nothing()),
        ("/api/v1/things", says(API)),
        ("/healthz", says(API)),
    ] {
        assert_eq!(entrance.get(world, "https", path), answer, "{path}");
    }
    for path in ["/api/v1/things", "/healthz"] {
        let to = format!("https://{HOSTNAME}{path}");
        assert_eq!(entrance.get(world, "http", path), leads(&to), "{path}");
    }
    for path in ["/page", "/healthzx"] {
        assert_eq!(entrance.get(world, "http", path), nothing(), "{path}");
    }
    spec["platform"]["httpToHttpsRedirect"] = json!(false);
    entrance.object.apply(&spec);
    entrance.object.ready(READY);
    let what = "plain HTTP to be closed to the API";
    until(what, SOON, || {
        (entrance.get(world, "http", "/healthz").status != 302).then_some(())
    });
    assert_eq!(entrance.get(world, "https", "/healthz"), says(API));
    entrance.object.apply(&entrance.spec);
    entrance.object.ready(READY);
    entrance.answers(world, "https", "/", &says(WEB));
    entrance.answers(world, "http", "/", &leads(&format!("https://{HOSTNAME}/")));
    world.done("without a web server only the API is there; without the redirect only HTTPS; with both it is as before");
}

impl Entrance {
    /// A page of the site.
    pub fn get(&self, world: &World, scheme: &str, path: &str) -> Answer {
        let url = format!("{scheme}://{}{path}", self.site.hostname);
        world.outside.curl(&self.site.authority, &url)
    }

    /// Waits until a page is as wanted: a data plane takes a moment to learn what is new.
    pub fn answers(&self, world: &World, scheme: &str, path: &str, wanted: &Answer) {
        let what = format!("{scheme}://{}{path} to be {wanted:?}", self.site.hostname);
        until(&what, SOON, || {
            (self.get(world, scheme, path) == *wanted).then_some(())
        });
    }
}

/// A PublicAccess of everything that an entrance can be, below a domain.
pub fn spec(hostname: &str, domain: &str, gateway_api: &Value) -> Value {
    json!({
        "provider": "GatewayAPI",
        "allowedNamespaces": {"from": "All"},
        "controlPlane": {"domain": format!("clusters.{domain}")},
        "platform": {
            "hostname": hostname, "tlsSecretName": SECRET, "httpToHttpsRedirect": true,
            "api": {"serviceName": "kubebyon-api", "port": 8080},
            "web": {"enabled": true, "serviceName": "kubebyon-web", "port": 3000},
        },
        "workload": {"domain": format!("apps.{domain}")},
        "gatewayAPI": gateway_api,
    })
}

/// One address for all Gateways, of a class whose Gateways are merged.
pub fn single(class: &str) -> Value {
    json!({
        "gatewayClassName": "eg", "addressMode": "Single",
        "gatewayClassProfiles": {"shared": class},
    })
}

/// A page of one of the two servers.
pub fn says(text: &str) -> Answer {
    Answer {
        status: 200,
        location: String::new(),
        body: text.to_owned(),
        error: String::new(),
    }
}

fn leads(to: &str) -> Answer {
    Answer {
        status: 302,
        location: to.to_owned(),
        body: String::new(),
        error: String::new(),
    }
}

fn nothing() -> Answer {
    Answer {
        status: 404,
        location: String::new(),
        body: String::new(),
        error: String::new(),
    }
}
