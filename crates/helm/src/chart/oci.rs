//! Charts in an OCI registry: the distribution API, as far as one pull needs it
//! (github.com/opencontainers/distribution-spec, helm.sh/docs/topics/registries).

use reqwest::{
    StatusCode,
    header::{HeaderValue, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use url::Url;

use super::{
    ChartRequest,
    http::{Fetcher, Get, basic, read, secret_header},
    index::newest,
    policy::{origin, refused},
};
use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// Bound on manifests, lists of tags and tokens, in bytes.
const SMALL: u64 = 4 << 20;

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

struct Pull<'a> {
    fetcher: &'a Fetcher,
    request: &'a ChartRequest,
    repository: &'a Url,
    /// `https://HOST/v2/PATH/NAME/`
    base: Url,
    authorization: Option<HeaderValue>,
}

/// Pulls the archive of a chart, `limit` bytes at most.
pub(super) async fn pull(
    fetcher: &Fetcher,
    repository: &Url,
    request: &ChartRequest,
    limit: u64,
) -> Result<Vec<u8>> {
    let host = repository
        .host_str()
        .ok_or_else(|| refused("its address has no host".to_owned()))?;
    let port = repository
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    let path = repository.path().trim_matches('/');
    let separator = if path.is_empty() { "" } else { "/" };
    let base = Url::parse(&format!(
        "https://{host}{port}/v2/{path}{separator}{}/",
        request.name
    ));
    let base = base.map_err(|error| refused(error.to_string()))?;
    let mut pull = Pull {
        fetcher,
        request,
        repository,
        base,
        authorization: None,
    };

    let tag = match &request.version {
        Some(version) => version.replace('+', "_"),
        None => pull.newest_tag().await?,
    };
    let manifest = pull
        .get(
            &format!("manifests/{tag}"),
            Some(MANIFEST),
            SMALL,
            "the chart's manifest",
        )
        .await?;
    let manifest = manifest.ok_or_else(|| pull.no_version(&tag))?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|_| pull.invalid("its manifest is not an OCI image manifest"))?;
    let layer = manifest
        .layers
        .iter()
        .find(|layer| layer.media_type == CHART_LAYER);
    let layer =
        layer.ok_or_else(|| pull.invalid("the registry has it, but it is no Helm chart"))?;
    let expected: Sha256Digest = layer
        .digest
        .parse()
        .map_err(|_| pull.invalid("its manifest has no SHA-256 digest"))?;

    let archive = pull
        .get(
            &format!("blobs/{expected}"),
            None,
            limit,
            "the chart archive",
        )
        .await?;
    let archive = archive.ok_or_else(|| pull.no_version(&tag))?;
    let actual = Sha256Digest::of(&archive);
    if actual == expected {
        Ok(archive)
    } else {
        Err(Error::DigestMismatch {
            name: request.name.clone(),
            expected,
            actual,
        })
    }
}

impl Pull<'_> {
    fn invalid(&self, why: &str) -> Error {
        Error::ChartInvalid {
            name: self.request.name.clone(),
            why: why.to_owned(),
        }
    }

    fn no_version(&self, version: &str) -> Error {
        let (name, repository) = (self.request.name.clone(), self.repository.to_string());
        Error::ChartVersionNotFound {
            name,
            version: version.to_owned(),
            repository,
        }
    }

    async fn newest_tag(&mut self) -> Result<String> {
        let not_found = || Error::ChartNotFound {
            name: self.request.name.clone(),
            repository: self.repository.to_string(),
        };
        let (missing, tags) = (
            not_found(),
            self.get("tags/list", None, SMALL, "the chart's list of tags")
                .await?,
        );
        let tags: Tags = serde_json::from_slice(&tags.ok_or(missing)?)
            .map_err(|_| self.invalid("its list of tags is not readable"))?;
        let tags = tags.tags.unwrap_or_default();
        let versions: Vec<_> = tags
            .iter()
            .map(|tag| (tag.replace('_', "+"), tag))
            .collect();
        let newest = newest(
            versions
                .iter()
                .map(|(version, tag)| (version.as_str(), *tag)),
        );
        newest
            .cloned()
            .ok_or_else(|| self.no_version("that is a release"))
    }

    /// GET below the base, answering the registry's challenge once. None for HTTP 404.
    async fn get(
        &mut self,
        path: &str,
        accept: Option<&'static str>,
        limit: u64,
        what: &str,
    ) -> Result<Option<Vec<u8>>> {
        let url = self
            .base
            .join(path)
            .map_err(|error| refused(error.to_string()))?;
        if self.authorization.is_none() {
            let first = Get {
                url: &url,
                authorization: None,
                home: &self.base,
                accept,
            };
            let response = self.fetcher.get(&first).await?;
            match response.status() {
                StatusCode::OK => return read(response, what, limit).await.map(Some),
                StatusCode::UNAUTHORIZED => {
                    let challenge = response
                        .headers()
                        .get(WWW_AUTHENTICATE)
                        .and_then(|value| value.to_str().ok());
                    self.authorization = Some(self.answer(challenge.unwrap_or_default()).await?);
                }
                _ => {}
            }
        }
        let get = Get {
            url: &url,
            authorization: self.authorization.clone(),
            home: &self.base,
            accept,
        };
        self.fetcher.bytes(&get, what, limit).await
    }

    /// The `Authorization` header that a challenge asks for.
    async fn answer(&self, challenge: &str) -> Result<HeaderValue> {
        let unauthorized = || Error::RepositoryUnauthorized {
            host: origin(&self.base),
            status: 401,
        };
        let credentials = self.request.credentials.as_ref().map(basic).transpose()?;
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return credentials.ok_or_else(unauthorized);
        }
        let parameter = |name: &str| {
            let start = parameters.find(&format!("{name}=\""))? + name.len() + 2;
            parameters[start..].split('"').next()
        };
        let mut url = parameter("realm")
            .and_then(|realm| Url::parse(realm).ok())
            .ok_or_else(unauthorized)?;
        for name in ["service", "scope"] {
            if let Some(value) = parameter(name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        // `home` is the registry, so its credentials go to no other host's token service.
        let get = Get {
            url: &url,
            authorization: credentials,
            home: &self.base,
            accept: None,
        };
        let token = self
            .fetcher
            .bytes(&get, "the registry's token", SMALL)
            .await?
            .ok_or_else(unauthorized)?;
        let token: Token = serde_json::from_slice(&token).map_err(|_| unauthorized())?;
        let token = token
            .token
            .or(token.access_token)
            .ok_or_else(unauthorized)?;
        secret_header(&format!("Bearer {token}"))
    }
}
