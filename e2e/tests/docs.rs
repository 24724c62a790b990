//! The commands of the documents, run as a reader would: on a real api-server, with the
//! manager at work. Words in capitals are a reader's own names; the test puts its own.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::path::Path;

use kubebyon_e2e::{
    gateway::Gateway,
    operator::{Host, repository},
};
use kubebyon_testbed::{ApiOptions, CrdSet};

/// What a reader puts for the documents' placeholders.
const NAMES: [(&str, &str); 6] = [
    ("TEAM/ENTRANCE", "kubebyon-system/public"),
    ("EDGE", "edge"),
    ("GATEWAY", "handed-over"),
    ("TEAM/NAME", "default/demo"),
    ("NAMESPACE", "default"),
    ("NAME", "demo"),
];

/// The `sh` blocks below `heading`, or of the whole document.
fn commands(document: &str, heading: Option<&str>) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join(document)).expect("the document");
    let mut here = heading.is_none();
    let mut block: Option<String> = None;
    let mut blocks = Vec::new();
    for line in text.lines() {
        match &mut block {
            Some(_) if line.starts_with("```") => blocks.extend(block.take()),
            Some(lines) => {
                lines.push_str(line);
                lines.push('\n');
            }
            None if line.starts_with("## ") && heading.is_some() => {
                here = line.strip_prefix("## ") == heading;
            }
            None if here && line == "```sh" => block = Some(String::new()),
            None => {}
        }
    }
    assert!(
        !blocks.is_empty(),
        "{document} has no commands under {heading:?}"
    );
    blocks
}

fn run(host: &Host, folder: &Path, script: &str) -> String {
    let mut script = script.to_owned();
    for (placeholder, name) in NAMES {
        script = script.replace(placeholder, name);
    }
    let tools = host.cluster.kubectl();
    let path = format!(
        "{}:{}",
        tools.parent().expect("a folder").display(),
        std::env::var("PATH").expect("PATH")
    );
    let output = std::process::Command::new("bash")
        .args(["-eu", "-o", "pipefail", "-c", &script])
        .current_dir(folder)
        .env("KUBECONFIG", host.cluster.kubeconfig())
        .env("PATH", path)
        .output()
        .expect("bash");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{script}\n{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_what_the_documents_promise() {
    let host = Host::start_with(ApiOptions {
        with: vec![CrdSet::GatewayApi],
        ..ApiOptions::default()
    })
    .await;
    let manager = host.manager(host.options(&[])).await;
    let gateway = Gateway::start(&host);
    // A folder of the reader's own, with the repository's files in their places.
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["config", "crds"] {
        std::os::unix::fs::symlink(repository().join(name), folder.path().join(name))
            .expect("a link");
    }
    let host = tokio::task::spawn_blocking(move || {
        for script in commands("README.md", Some("Use it")) {
            run(&host, folder.path(), &script);
        }
        let kubeconfig =
            std::fs::read_to_string(folder.path().join("demo.kubeconfig")).expect("the kubeconfig");
        assert!(
            kubeconfig.contains("client-certificate-data"),
            "{kubeconfig}"
        );
        // What the owner of an entrance has, before the document begins.
        let class = Gateway::class("eg").to_string();
        let theirs = serde_json::json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "handed-over", "namespace": "edge"},
            "spec": {"gatewayClassName": "eg", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
        });
        let before = format!(
            "kubectl create namespace edge\nkubectl apply -f - <<'END'\n{class}\nEND\n\
             kubectl apply -f - <<'END'\n{theirs}\nEND\n"
        );
        run(&host, folder.path(), &before);
        for script in commands("docs/public-access.md", None) {
            run(&host, folder.path(), &script);
        }
        let mut seen = String::new();
        for document in ["docs/troubleshooting.md", "docs/operations.md"] {
            for script in commands(document, None) {
                seen.push_str(&run(&host, folder.path(), &script));
            }
        }
        assert!(
            seen.contains("Ready"),
            "the columns and the description say that it is ready:\n{seen}"
        );
        host
    })
    .await
    .expect("the commands run");
    manager.stop().await;
    drop(gateway);
    drop(host);
}
