//! Chart archives: found, fetched under the host admin's policy, checked, kept by digest.
//!
//! The driver fetches by itself and hands helm a file, for `helm pull` takes passwords as
//! arguments, follows redirects anywhere and reads without bound. So for https and oci
//! alike: only https on the wire, every address checked at the moment of the connection,
//! credentials to the repository's own origin alone, sizes and times bounded. A registry
//! whose token service is on another host is used anonymously or not at all.

mod archive;
mod cache;
mod http;
mod index;
mod local;
mod oci;
mod policy;
mod schema;
mod slim;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use url::Url;

use self::{
    archive::Limits,
    cache::{Cache, Files},
    http::{Fetcher, Get, basic},
    index::{Index, same_version},
    slim::Smaller,
};
use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
};

pub use policy::RepositoryPolicy;
pub use schema::ValuesSchema;

/// Bound on an `index.yaml`, in bytes; the largest public ones are about 20 MB.
const INDEX_LIMIT: u64 = 64 << 20;

/// User name and password of a repository.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ChartCredentials {
    /// The user's name.
    pub username: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for ChartCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChartCredentials([redacted])")
    }
}

/// Which chart to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChartRequest {
    /// `https://HOST/PATH` of a repository with an index.yaml, `oci://HOST/PATH` of a
    /// registry, or `file:///PATH` of an archive or of a folder of archives.
    pub repository: String,
    /// The chart's name.
    pub name: String,
    /// The version; None: the newest that is no pre-release.
    pub version: Option<String>,
    /// The archive's digest, once it is known; anything else is refused then.
    pub digest: Option<Sha256Digest>,
    /// For the repository's own origin only.
    pub credentials: Option<ChartCredentials>,
    /// PEM certificates to trust for it instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
}

/// A chart archive on disk, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartArchive {
    /// The file for helm: the archive, less what helm has no use for.
    pub path: PathBuf,
    /// A smaller one, for some values.
    pub bare: Option<Bare>,
    /// The name in its Chart.yaml.
    pub name: String,
    /// The version in its Chart.yaml.
    pub version: String,
    /// The digest of the archive as the repository has it: what a caller pins.
    pub digest: Sha256Digest,
}

impl ChartArchive {
    /// The file for helm to make a release with `values` from.
    pub fn file(&self, values: &Value) -> &Path {
        match &self.bare {
            Some(bare) if bare.schema.accepts(values) => &bare.path,
            _ => &self.path,
        }
    }
}

/// An archive without the schema of its values, for values that the schema accepts.
#[derive(Debug, Clone)]
pub struct Bare {
    /// The file for helm.
    pub path: PathBuf,
    /// The chart's own demands of values.
    pub schema: Arc<ValuesSchema>,
}

impl PartialEq for Bare {
    fn eq(&self, other: &Self) -> bool {
        // The file's name has the digest of the archive that both are made from.
        self.path == other.path
    }
}

impl Eq for Bare {}

/// Settings of [`Charts`].
#[derive(Debug, Clone)]
pub struct ChartsConfig {
    /// A folder for archives, named by digest.
    pub cache_dir: PathBuf,
    /// The one folder below which `file://` charts may be; None: none.
    pub chart_dir: Option<PathBuf>,
    /// Which repositories and addresses are allowed.
    pub policy: RepositoryPolicy,
    /// Bound on an archive, in bytes.
    pub max_archive: u64,
    /// Bound on its unpacked size, in bytes.
    pub max_unpacked: u64,
    /// Time limit of each download.
    pub timeout: Duration,
}

impl ChartsConfig {
    /// Defaults: no `file://`, 20 MiB packed, 100 MiB unpacked (helm's own bound), one minute.
    pub fn new(cache_dir: PathBuf) -> Self {
        Self {
            cache_dir,
            chart_dir: None,
            policy: RepositoryPolicy::default(),
            max_archive: 20 << 20,
            max_unpacked: 100 << 20,
            timeout: Duration::from_mins(1),
        }
    }
}

/// Fetches charts. Clones share the cache.
#[derive(Debug, Clone)]
pub struct Charts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ChartsConfig,
    policy: Arc<RepositoryPolicy>,
    cache: Cache,
}

impl Charts {
    /// Makes the cache folder ready.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(config: ChartsConfig) -> Result<Self> {
        let cache = Cache::open(&config.cache_dir).map_err(Error::io("prepare the chart cache"))?;
        Ok(Self(Arc::new(Inner {
            policy: Arc::new(config.policy.clone()),
            cache,
            config,
        })))
    }

    /// Fetches a chart. One that is pinned and in the cache costs no request. Charts that
    /// several callers ask for at once, with the same settings, are fetched once.
    ///
    /// # Errors
    /// Those of the chart and the repository: see [`Error`].
    pub async fn fetch(&self, request: &ChartRequest) -> Result<ChartArchive> {
        let repository = self.0.policy.repository(&request.repository)?;
        check_names(request)?;
        if let Some(digest) = request.digest
            && let Some(bytes) = self.0.cache.get(digest).await
        {
            return self.keep(request, bytes).await;
        }
        let (_turn, recent) = self.0.cache.turn(request).await;
        if let Some(digest) = recent
            && let Some(bytes) = self.0.cache.get(digest).await
        {
            return self.keep(request, bytes).await;
        }
        let bytes = match repository.scheme() {
            "file" => self.local(&repository, request).await?,
            "oci" => self.oci(&repository, request).await?,
            _ => self.https(&repository, request).await?,
        };
        let archive = self.keep(request, bytes).await?;
        if repository.scheme() != "file" {
            self.0.cache.remember(request, archive.digest);
        }
        Ok(archive)
    }

    /// Checks an archive against the request, and puts it into the cache.
    async fn keep(&self, request: &ChartRequest, bytes: Vec<u8>) -> Result<ChartArchive> {
        let lost = |error| Error::Io {
            what: "read the archive",
            source: std::io::Error::other(error),
        };
        let hash = move || (Sha256Digest::of(&bytes), bytes);
        let (digest, bytes) = tokio::task::spawn_blocking(hash).await.map_err(lost)?;
        let known = self.0.cache.inspected(digest).await;
        let name = || request.name.clone();
        let (chart, found) = if let Some((chart, files)) = known {
            (chart, Found::Kept(files))
        } else {
            let limits = Limits {
                unpacked: self.0.config.max_unpacked,
                name: name(),
            };
            let inspect = move || {
                let chart = archive::inspect(&bytes, &limits)?;
                let smaller = slim::smaller(&bytes);
                Ok((chart, Found::New { bytes, smaller }))
            };
            tokio::task::spawn_blocking(inspect).await.map_err(lost)??
        };
        if let Some(expected) = request.digest
            && expected != digest
        {
            return Err(Error::DigestMismatch {
                name: name(),
                expected,
                actual: digest,
            });
        }
        if chart.name != request.name {
            return Err(Error::ChartInvalid {
                name: name(),
                why: format!("its Chart.yaml calls it {}", chart.name),
            });
        }
        if let Some(version) = &request.version
            && !same_version(version, &chart.version)
        {
            return Err(Error::ChartInvalid {
                name: name(),
                why: format!(
                    "its Chart.yaml has version {}, not {version}",
                    chart.version
                ),
            });
        }
        let Files { path, bare } = match found {
            Found::Kept(files) => files,
            Found::New { bytes, smaller } => self
                .0
                .cache
                .keep(digest, chart.clone(), bytes, smaller)
                .await
                .map_err(Error::io("write to the chart cache"))?,
        };
        Ok(ChartArchive {
            path,
            bare,
            name: chart.name,
            version: chart.version,
            digest,
        })
    }

    async fn https(&self, repository: &Url, request: &ChartRequest) -> Result<Vec<u8>> {
        let mut home = repository.clone();
        if !home.path().ends_with('/') {
            home.set_path(&format!("{}/", home.path()));
        }
        let fetcher = self.fetcher(request)?;
        let authorization = request.credentials.as_ref().map(basic).transpose()?;
        let get = |url| Get {
            url,
            authorization: authorization.clone(),
            home: &home,
            accept: None,
        };
        let not_found = |version: &str| Error::ChartVersionNotFound {
            name: request.name.clone(),
            version: version.to_owned(),
            repository: repository.to_string(),
        };
        let index_url = home
            .join("index.yaml")
            .map_err(|error| policy::refused(error.to_string()))?;
        let index = fetcher
            .bytes(&get(&index_url), "the repository's index.yaml", INDEX_LIMIT)
            .await?
            .ok_or_else(|| Error::RepositoryUnreachable {
                host: home.to_string(),
                why: "it has no index.yaml: it is no chart repository".to_owned(),
            })?;
        let (name, version, parse_home) =
            (request.name.clone(), request.version.clone(), home.clone());
        let found = tokio::task::spawn_blocking(move || {
            Index::parse(&index, &parse_home)?
                .find(&name, version.as_deref(), &parse_home)
                .cloned()
        });
        let entry = found.await.map_err(|error| Error::Io {
            what: "read the index",
            source: std::io::Error::other(error),
        })??;
        let url = entry.url(&request.name, &home)?;
        let archive = fetcher
            .bytes(&get(&url), "the chart archive", self.0.config.max_archive)
            .await?;
        let archive = archive.ok_or_else(|| not_found(&entry.version))?;
        // Also an index that is older than its archives is caught.
        if let Some(expected) = entry
            .digest
            .and_then(|digest| digest.parse::<Sha256Digest>().ok())
        {
            let actual = Sha256Digest::of(&archive);
            if actual != expected {
                return Err(Error::DigestMismatch {
                    name: request.name.clone(),
                    expected,
                    actual,
                });
            }
        }
        Ok(archive)
    }

    async fn oci(&self, repository: &Url, request: &ChartRequest) -> Result<Vec<u8>> {
        oci::pull(
            &self.fetcher(request)?,
            repository,
            request,
            self.0.config.max_archive,
        )
        .await
    }

    async fn local(&self, repository: &Url, request: &ChartRequest) -> Result<Vec<u8>> {
        let Some(chart_dir) = self.0.config.chart_dir.clone() else {
            return Err(policy::refused(
                "file:// charts are off; the host admin allows them with --chart-dir".to_owned(),
            ));
        };
        let (repository, request, limit) = (
            repository.clone(),
            request.clone(),
            self.0.config.max_archive,
        );
        let read = tokio::task::spawn_blocking(move || {
            local::read(&chart_dir, &repository, &request, limit)
        });
        read.await.map_err(|error| Error::Io {
            what: "read the chart",
            source: std::io::Error::other(error),
        })?
    }

    fn fetcher(&self, request: &ChartRequest) -> Result<Fetcher> {
        Fetcher::new(
            Arc::clone(&self.0.policy),
            request.ca_pem.as_deref(),
            self.0.config.timeout,
        )
    }
}

/// What helm is to be given.
enum Found {
    /// It is in the cache.
    Kept(Files),
    /// It is to be put there.
    New { bytes: Vec<u8>, smaller: Smaller },
}

/// Name and version go into paths and arguments: only what charts and semver use is let in.
fn check_names(request: &ChartRequest) -> Result<()> {
    let invalid = |why: &str| Error::ChartInvalid {
        name: request.name.chars().take(63).collect(),
        why: why.to_owned(),
    };
    let plain = |text: &str, extra: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 250
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
            && !text.contains("..")
    };
    if !plain(&request.name, "-_.") {
        return Err(invalid(
            "a chart's name has letters, digits, - _ and . only",
        ));
    }
    match &request.version {
        Some(version) if !plain(version, "-_.+") => Err(invalid(
            "its version must be one exact version, such as 1.2.3",
        )),
        _ => Ok(()),
    }
}
