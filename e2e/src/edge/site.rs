//! A platform that has a site: two small web servers, of which each says on every page who it is, and a certificate of
//! an authority of its own.

use std::path::PathBuf;

use kubebyon_testbed::{
    Error, Result, images::catalog::BUSYBOX_IMAGE, kubectl::Kubectl, pki::Authority,
};
use serde_json::{Value, json};

use super::outside::Outside;

/// The platform's servers in a namespace, with the Secret of their name's certificate.
pub struct Site {
    /// Its public name.
    pub hostname: String,
    /// The file of the authority that a client has to trust.
    pub authority: PathBuf,
}

/// Name of the TLS Secret.
pub const SECRET: &str = "console-tls";
/// What the API's pages say.
pub const API: &str = "this is the API";
/// What the web server's pages say.
pub const WEB: &str = "this is the web";

impl Site {
    /// Starts the servers, and returns when they answer.
    ///
    /// # Errors
    /// What the api-server refuses, or a server that does not start.
    pub fn start(
        kubectl: &Kubectl,
        outside: &Outside,
        namespace: &str,
        hostname: &str,
    ) -> Result<Self> {
        let folder = outside.file(namespace);
        std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let authority = Authority::create(&folder, "authority")?;
        let pair = authority.server("console", &[hostname.to_owned()], &[])?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": SECRET, "namespace": namespace},
            "stringData": {"tls.crt": pair.cert_pem, "tls.key": pair.key_pem},
        });
        let mut items = vec![secret];
        items.extend(server(namespace, "kubebyon-api", 8080, API));
        items.extend(server(namespace, "kubebyon-web", 3000, WEB));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        kubectl.apply("start the platform's servers", &list.to_string())?;
        let namespace = format!("--namespace={namespace}");
        kubectl.wait(
            "wait for the platform's servers",
            "condition=Ready",
            &[&namespace, "pod", "kubebyon-api", "kubebyon-web"],
            120,
        )?;
        Ok(Self {
            hostname: hostname.to_owned(),
            authority: authority.pair.cert,
        })
    }
}

/// A web server that says `text` under each path that the test asks for: what answers is who was asked.
fn server(namespace: &str, name: &str, port: u16, text: &str) -> [Value; 2] {
    let pages = "index.html api/index.html api/v1/things apix healthz healthzx page";
    let script = format!(
        "mkdir -p /www/api/v1; cd /www; for page in {pages}; do echo '{text}' > $page; done; exec httpd -f -p {port} -h /www"
    );
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "server", "image": BUSYBOX_IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
                "readinessProbe": {"httpGet": {"port": port}, "periodSeconds": 1},
            }],
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    });
    [pod, service]
}
