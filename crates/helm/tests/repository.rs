//! Charts from servers: a small https server of the test's own stands for a repository.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed helper is a failed test"
)]

mod support_server;

use std::{fs, os::unix::fs::symlink, path::Path, sync::atomic::Ordering, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use kubebyon_helm::{
    ChartCredentials, ChartRequest, Charts, ChartsConfig, Error, RepositoryPolicy, Sha256Digest,
};
use serde_json::json;
use support_server::{Answer, Asked, Server};

/// A chart archive named `name`, version 1.2.3, with `padding` bytes that do not compress.
fn chart(name: &str, padding: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let noise: Vec<u8> = (0_u64..)
        .flat_map(|n| Sha256Digest::of(&n.to_le_bytes()).hex().into_bytes())
        .take(padding)
        .collect();
    let yaml = format!("apiVersion: v2\nname: {name}\nversion: 1.2.3\n");
    for (path, content) in [("Chart.yaml", yaml.as_bytes()), ("noise", &noise)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{name}/{path}"), content)
            .unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn index(url: &str, digest: &str) -> Answer {
    Answer::ok(format!(
        "apiVersion: v1\nentries:\n  web:\n  - {{name: web, version: 1.2.3, digest: '{digest}', urls: ['{url}']}}\n"
    ))
}

/// A repository that serves web-1.2.3.tgz to everyone.
fn repository(asked: &Asked) -> Answer {
    match asked.path.as_str() {
        "/charts/index.yaml" => index("web-1.2.3.tgz", ""),
        "/charts/web-1.2.3.tgz" => Answer::ok(chart("web", 0)),
        _ => Answer::status(404),
    }
}

struct Bench {
    charts: Charts,
    dir: tempfile::TempDir,
}

/// Charts under a policy that allows the test's servers on 127.0.0.1 and 127.0.0.3 alone.
fn bench(settings: impl FnOnce(&mut ChartsConfig)) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ChartsConfig::new(dir.path().join("cache"));
    config.policy.allowed_addresses = vec![
        "127.0.0.1/32".parse().unwrap(),
        "127.0.0.3/32".parse().unwrap(),
    ];
    config.timeout = Duration::from_secs(10);
    settings(&mut config);
    Bench {
        charts: Charts::new(config).unwrap(),
        dir,
    }
}

fn request(server: &Server) -> ChartRequest {
    ChartRequest {
        repository: format!("https://{}/charts", server.address),
        name: "web".to_owned(),
        version: None,
        digest: None,
        credentials: None,
        ca_pem: Some(server.ca_pem.clone().into_bytes()),
    }
}

fn credentials() -> ChartCredentials {
    ChartCredentials {
        username: "author".to_owned(),
        password: "hunter2-hunter2".to_owned(),
    }
}

async fn reason(bench: &Bench, request: &ChartRequest) -> &'static str {
    let error = bench.charts.fetch(request).await.unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
    error.reason()
}

#[tokio::test]
async fn https_with_its_own_ca_and_basic_authentication() {
    let expected = format!("Basic {}", STANDARD.encode("author:hunter2-hunter2"));
    let server = Server::start("127.0.0.1", move |asked| {
        if asked.authorization.as_deref() == Some(&expected) {
            repository(asked)
        } else {
            Answer::status(401)
        }
    })
    .await;
    let bench = bench(|_| ());
    let good = ChartRequest {
        credentials: Some(credentials()),
        ..request(&server)
    };
    let archive = bench.charts.fetch(&good).await.unwrap();
    assert_eq!(
        (archive.name.as_str(), archive.version.as_str()),
        ("web", "1.2.3")
    );
    assert_eq!(fs::read(&archive.path).unwrap(), chart("web", 0));
    assert_eq!(archive.digest, Sha256Digest::of(&chart("web", 0)));

    let wrong = ChartCredentials {
        password: "hunter2-wrong".to_owned(),
        ..credentials()
    };
    assert_eq!(
        reason(
            &bench,
            &ChartRequest {
                credentials: Some(wrong),
                ..good.clone()
            }
        )
        .await,
        "RepositoryUnauthorized"
    );
    assert_eq!(
        reason(&bench, &request(&server)).await,
        "RepositoryUnauthorized"
    );
    let other_ca = Server::start("127.0.0.1", repository).await.ca_pem.clone();
    assert_eq!(
        reason(
            &bench,
            &ChartRequest {
                ca_pem: Some(other_ca.into_bytes()),
                ..good.clone()
            }
        )
        .await,
        "RepositoryUnreachable"
    );
    assert_eq!(
        reason(
            &bench,
            &ChartRequest {
                ca_pem: Some(b"no".to_vec()),
                ..good.clone()
            }
        )
        .await,
        "RepositoryRefused"
    );

    // Pinned and in the cache: no request, even when the repository is gone.
    let count = server.requests.load(Ordering::SeqCst);
    let pinned = ChartRequest {
        digest: Some(archive.digest),
        version: Some("1.2.3".to_owned()),
        ..good
    };
    assert_eq!(bench.charts.fetch(&pinned).await.unwrap(), archive);
    assert_eq!(server.requests.load(Ordering::SeqCst), count);
}

#[tokio::test]
async fn many_at_once_read_the_repository_once() {
    let server = Server::start("127.0.0.1", repository).await;
    let bench = bench(|_| ());
    let fetches: Vec<_> = (0..20)
        .map(|_| {
            let (charts, request) = (bench.charts.clone(), request(&server));
            tokio::spawn(async move { charts.fetch(&request).await.unwrap().digest })
        })
        .collect();
    for fetch in fetches {
        fetch.await.unwrap();
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_not_there_or_not_right_is_named() {
    let server = Server::start("127.0.0.1", repository).await;
    let bench = bench(|_| ());
    let base = request(&server);
    let with = |name: &str, version: &str| ChartRequest {
        name: name.to_owned(),
        version: Some(version.to_owned()),
        ..base.clone()
    };
    assert_eq!(
        reason(&bench, &with("web", "9.9.9")).await,
        "ChartVersionNotFound"
    );
    assert_eq!(
        reason(&bench, &with("nope", "1.2.3")).await,
        "ChartNotFound"
    );
    assert_eq!(
        reason(&bench, &with("../web", "1.2.3")).await,
        "ChartInvalid"
    );
    assert_eq!(
        reason(&bench, &with("web", ">=1.0.0")).await,
        "ChartInvalid"
    );
    assert_eq!(
        reason(
            &bench,
            &ChartRequest {
                repository: format!("https://{}/none", server.address),
                ..base.clone()
            }
        )
        .await,
        "RepositoryUnreachable"
    );
    let wrong = Sha256Digest::of(b"other");
    let error = bench
        .charts
        .fetch(&ChartRequest {
            digest: Some(wrong),
            ..base.clone()
        })
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::DigestMismatch { expected, actual, .. } if *expected == wrong && *actual == Sha256Digest::of(&chart("web", 0)))
    );
    assert!(error.is_terminal());

    for (content, expected) in [
        (chart("other", 0), "ChartInvalid"),
        (b"rubbish".to_vec(), "ChartInvalid"),
    ] {
        let server = Server::start("127.0.0.1", move |asked| {
            if asked.path.ends_with("index.yaml") {
                index("x.tgz", "")
            } else {
                Answer::ok(content.clone())
            }
        })
        .await;
        assert_eq!(reason(&bench, &request(&server)).await, expected);
    }
    let lying = Server::start("127.0.0.1", |asked| {
        if asked.path.ends_with("index.yaml") {
            index("x.tgz", &"0".repeat(64))
        } else {
            Answer::ok(chart("web", 0))
        }
    })
    .await;
    assert_eq!(
        reason(&bench, &request(&lying)).await,
        "ChartDigestMismatch"
    );
}

#[tokio::test]
async fn a_redirect_into_the_machine_is_refused() {
    let inside = Server::start("127.0.0.2", repository).await;
    let bench = bench(|_| ());
    let v6 = format!(
        "https://[::ffff:127.0.0.2]:{}/charts/index.yaml",
        inside.address.port()
    );
    for target in [
        format!("https://{}/charts/index.yaml", inside.address),
        v6,
        "http://charts.example.com/index.yaml".to_owned(),
        "file:///etc/passwd".to_owned(),
        "https://169.254.169.254/latest".to_owned(),
    ] {
        let server = Server::start("127.0.0.1", move |_| Answer::redirect(&target)).await;
        assert_eq!(reason(&bench, &request(&server)).await, "RepositoryRefused");
    }
    // Nor does an index lead there.
    let target = format!("https://{}/charts/web-1.2.3.tgz", inside.address);
    let server = Server::start("127.0.0.1", move |_| index(&target, "")).await;
    assert_eq!(reason(&bench, &request(&server)).await, "RepositoryRefused");
    assert_eq!(inside.requests.load(Ordering::SeqCst), 0);

    let circle = Server::start("127.0.0.1", |_| Answer::redirect("/charts/index.yaml")).await;
    assert_eq!(
        reason(&bench, &request(&circle)).await,
        "RepositoryUnreachable"
    );
}

#[tokio::test]
async fn names_are_checked_when_they_are_resolved() {
    let server = Server::start("127.0.0.1", repository).await;
    let by_name = |server: &Server| ChartRequest {
        repository: format!("https://localhost:{}/charts", server.address.port()),
        ..request(server)
    };
    let lenient = bench(|config| {
        config
            .policy
            .allowed_addresses
            .push("::1/128".parse().unwrap());
    });
    lenient.charts.fetch(&by_name(&server)).await.unwrap();
    let strict = bench(|config| config.policy = RepositoryPolicy::default());
    assert_eq!(
        reason(&strict, &by_name(&server)).await,
        "RepositoryRefused"
    );
    let oci = ChartRequest {
        repository: format!("oci://localhost:{}/x", server.address.port()),
        ..request(&server)
    };
    assert_eq!(reason(&strict, &oci).await, "RepositoryRefused");
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let other = Server::start("127.0.0.3", |asked| {
        assert_eq!(
            asked.authorization, None,
            "credentials came to another host"
        );
        repository(asked)
    })
    .await;
    for (same_host, how) in [(false, "redirect"), (false, "index"), (true, "redirect")] {
        let target = if same_host {
            "/charts/moved.tgz".to_owned()
        } else {
            format!("https://{}/charts/web-1.2.3.tgz", other.address)
        };
        let server = Server::start("127.0.0.1", move |asked| {
            assert!(asked.authorization.is_some());
            match asked.path.as_str() {
                "/charts/index.yaml" if how == "index" => index(&target, ""),
                "/charts/index.yaml" => index("web-1.2.3.tgz", ""),
                "/charts/moved.tgz" => Answer::ok(chart("web", 0)),
                _ => Answer::redirect(&target),
            }
        })
        .await;
        let mut request = request(&server);
        request.credentials = Some(credentials());
        request.ca_pem = Some(format!("{}{}", server.ca_pem, other.ca_pem).into_bytes());
        bench(|_| ()).charts.fetch(&request).await.unwrap();
    }
    assert_eq!(other.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn size_and_time_are_bounded() {
    let server = |declared: bool| {
        Server::start("127.0.0.1", move |asked| {
            if asked.path.ends_with("index.yaml") {
                return index("x.tgz", "");
            }
            let answer = Answer::ok(chart("web", 200_000));
            if declared {
                answer
            } else {
                answer.without_length()
            }
        })
    };
    for declared in [true, false] {
        let small = bench(|config| config.max_archive = 50_000);
        assert_eq!(
            reason(&small, &request(&server(declared).await)).await,
            "ChartTooLarge"
        );
    }
    let narrow = bench(|config| config.max_unpacked = 50_000);
    assert_eq!(
        reason(&narrow, &request(&server(true).await)).await,
        "ChartTooLarge"
    );
    bench(|_| ())
        .charts
        .fetch(&request(&server(false).await))
        .await
        .unwrap();

    let slow = Server::start("127.0.0.1", |_| Answer::never()).await;
    let hasty = bench(|config| config.timeout = Duration::from_millis(300));
    assert_eq!(
        reason(&hasty, &request(&slow)).await,
        "RepositoryUnreachable"
    );
}

#[tokio::test]
async fn oci_with_a_token_service() {
    let archive = chart("web", 10);
    let digest = Sha256Digest::of(&archive);
    let blob_host = Server::start("127.0.0.3", {
        let archive = archive.clone();
        move |asked| {
            assert_eq!(asked.authorization, None, "the token came to another host");
            Answer::ok(archive.clone())
        }
    })
    .await;
    let blob = format!("https://{}/blob", blob_host.address);
    let basic = format!("Basic {}", STANDARD.encode("author:hunter2-hunter2"));
    let server = Server::start("127.0.0.1", move |asked| {
        if asked.path.starts_with("/token?") {
            assert!(asked.path.contains("scope=repository%3Ateam%2Fweb%3Apull"), "{}", asked.path);
            let good = asked.authorization.as_deref() == Some(&basic);
            return if good { Answer::ok(json!({"token": "t0ken"}).to_string()) } else { Answer::status(401) };
        }
        if asked.authorization.as_deref() != Some("Bearer t0ken") {
            let realm = format!("Bearer realm=\"https://{}/token\",service=\"registry\",scope=\"repository:team/web:pull\"", asked.host);
            return Answer::status(401).header("WWW-Authenticate", &realm);
        }
        match asked.path.as_str() {
            "/v2/team/web/tags/list" => Answer::ok(json!({"tags": ["latest", "1.0.0", "1.2.3", "2.0.0-rc.1"]}).to_string()),
            "/v2/team/web/manifests/1.2.3" => Answer::ok(
                json!({"layers": [{"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": digest.to_string()}]}).to_string(),
            ),
            path if path == format!("/v2/team/web/blobs/{digest}") => Answer::redirect(&blob),
            _ => Answer::status(404),
        }
    })
    .await;
    let base = ChartRequest {
        repository: format!("oci://{}/team", server.address),
        credentials: Some(credentials()),
        ca_pem: Some(format!("{}{}", server.ca_pem, blob_host.ca_pem).into_bytes()),
        ..request(&server)
    };
    let bench = bench(|_| ());
    assert_eq!(bench.charts.fetch(&base).await.unwrap().digest, digest);
    let with = |name: &str, version: &str| ChartRequest {
        name: name.to_owned(),
        version: Some(version.to_owned()),
        ..base.clone()
    };
    assert_eq!(
        bench
            .charts
            .fetch(&with("web", "1.2.3"))
            .await
            .unwrap()
            .digest,
        digest
    );
    assert_eq!(
        reason(&bench, &with("web", "7.0.0")).await,
        "ChartVersionNotFound"
    );
    assert_eq!(
        reason(
            &bench,
            &ChartRequest {
                credentials: None,
                ..base.clone()
            }
        )
        .await,
        "RepositoryUnauthorized"
    );
}

#[tokio::test]
async fn a_token_service_elsewhere_gets_no_credentials() {
    let thief = Server::start("127.0.0.3", |asked| {
        assert_eq!(
            asked.authorization, None,
            "credentials came to another host"
        );
        Answer::status(401)
    })
    .await;
    let realm = format!("Bearer realm=\"https://{}/token\"", thief.address);
    let server = Server::start("127.0.0.1", move |_| {
        Answer::status(401).header("WWW-Authenticate", &realm)
    })
    .await;
    let request = ChartRequest {
        repository: format!("oci://{}/team", server.address),
        credentials: Some(credentials()),
        ca_pem: Some(format!("{}{}", server.ca_pem, thief.ca_pem).into_bytes()),
        ..request(&server)
    };
    assert_eq!(
        reason(&bench(|_| ()), &request).await,
        "RepositoryUnauthorized"
    );
    assert_eq!(thief.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn files_are_read_below_the_chart_folder_only() {
    let bench = bench(|config| config.chart_dir = Some(config.cache_dir.with_file_name("charts")));
    let root = bench.dir.path();
    let charts = root.join("charts");
    fs::create_dir_all(charts.join("team")).unwrap();
    for folder in [root, &charts, &charts.join("team")] {
        fs::write(folder.join("web-1.2.3.tgz"), chart("web", 0)).unwrap();
    }
    fs::write(charts.join("big-1.2.3.tgz"), vec![0; 30 << 20]).unwrap();
    symlink(root.join("web-1.2.3.tgz"), charts.join("link.tgz")).unwrap();
    symlink(root, charts.join("up")).unwrap();
    symlink("team/web-1.2.3.tgz", charts.join("inner.tgz")).unwrap();
    let at = |path: &Path, version: Option<&str>| ChartRequest {
        repository: format!("file://{}", path.display()),
        name: "web".to_owned(),
        version: version.map(str::to_owned),
        digest: None,
        credentials: None,
        ca_pem: None,
    };
    for good in ["web-1.2.3.tgz", "team", "", "inner.tgz"] {
        assert_eq!(
            bench
                .charts
                .fetch(&at(&charts.join(good), None))
                .await
                .unwrap()
                .version,
            "1.2.3",
            "{good}"
        );
    }
    for bad in ["link.tgz", "up", "up/web-1.2.3.tgz"] {
        assert_eq!(
            reason(&bench, &at(&charts.join(bad), None)).await,
            "RepositoryRefused",
            "{bad}"
        );
    }
    for bad in [
        root.join("web-1.2.3.tgz"),
        root.join("not-there.tgz"),
        charts.join("../web-1.2.3.tgz"),
        "/etc/passwd".into(),
        "/".into(),
    ] {
        assert_eq!(
            reason(&bench, &at(&bad, None)).await,
            "RepositoryRefused",
            "{}",
            bad.display()
        );
    }
    assert_eq!(
        reason(&bench, &at(&charts.join("none.tgz"), None)).await,
        "ChartNotFound"
    );
    assert_eq!(
        reason(&bench, &at(&charts, Some("2.0.0"))).await,
        "ChartVersionNotFound"
    );
    assert_eq!(
        reason(
            &bench,
            &ChartRequest {
                name: "big".to_owned(),
                ..at(&charts, None)
            }
        )
        .await,
        "ChartTooLarge"
    );

    let off = self::bench(|_| ());
    assert_eq!(
        reason(&off, &at(&charts.join("web-1.2.3.tgz"), None)).await,
        "RepositoryRefused"
    );
}
