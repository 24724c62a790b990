//! A chart repository's `index.yaml`.

use std::collections::HashMap;

use semver::Version;
use serde::Deserialize;
use url::Url;

use crate::error::{Error, Result};

/// The parts of an index that a download needs.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    entries: HashMap<String, Vec<Entry>>,
}

/// One version of a chart.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Entry {
    pub(super) version: String,
    #[serde(default)]
    urls: Vec<String>,
    #[serde(default)]
    pub(super) digest: Option<String>,
}

impl Index {
    pub(super) fn parse(bytes: &[u8], repository: &Url) -> Result<Self> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_events: 20_000_000, max_nodes: 10_000_000, max_total_scalar_bytes: 128 << 20 },
        };
        serde_saphyr::from_slice_with_options(bytes, options).map_err(|_| {
            Error::RepositoryUnreachable {
                host: repository.to_string(),
                why: "its index.yaml is not a chart repository's index".to_owned(),
            }
        })
    }

    /// The entry of that version, or of the newest release if none is given.
    pub(super) fn find(
        &self,
        name: &str,
        version: Option<&str>,
        repository: &Url,
    ) -> Result<&Entry> {
        let repository = repository.to_string();
        let entries = self.entries.get(name).filter(|entries| !entries.is_empty());
        let entries = entries.ok_or_else(|| Error::ChartNotFound {
            name: name.to_owned(),
            repository: repository.clone(),
        })?;
        let found = match version {
            Some(version) => entries
                .iter()
                .find(|entry| same_version(&entry.version, version)),
            None => newest(entries.iter().map(|entry| (entry.version.as_str(), entry))),
        };
        found.ok_or_else(|| Error::ChartVersionNotFound {
            name: name.to_owned(),
            version: version.unwrap_or("that is a release").to_owned(),
            repository,
        })
    }
}

impl Entry {
    /// Where the archive is; relative addresses are below the repository.
    pub(super) fn url(&self, name: &str, repository: &Url) -> Result<Url> {
        let first = self.urls.first().and_then(|url| repository.join(url).ok());
        first.ok_or_else(|| Error::ChartInvalid {
            name: name.to_owned(),
            why: "the index gives no usable address for it".to_owned(),
        })
    }
}

/// Versions are the same with or without a leading v.
pub(super) fn same_version(a: &str, b: &str) -> bool {
    a.trim_start_matches('v') == b.trim_start_matches('v')
}

/// The item with the highest version that is no pre-release.
pub(super) fn newest<'a, T>(versions: impl Iterator<Item = (&'a str, T)>) -> Option<T> {
    versions
        .filter_map(|(text, item)| Some((Version::parse(text.trim_start_matches('v')).ok()?, item)))
        .filter(|(version, _)| version.pre.is_empty())
        .max_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "apiVersion: v1\nentries:\n  vcluster:\n  - {version: 0.36.1, digest: abc, urls: [charts/vcluster-0.36.1.tgz], extra: [1]}\n  - {version: v0.37.0-beta.1, urls: ['https://other.example/x.tgz']}\n  - {version: 0.4.0}\n  empty: []\ngenerated: \"2026-11-21\"\n";

    #[test]
    fn finds_versions_and_addresses() {
        let repository = Url::parse("https://charts.example/a/").unwrap();
        let index = Index::parse(INDEX.as_bytes(), &repository).unwrap();
        let url = |version| {
            index
                .find("vcluster", version, &repository)
                .and_then(|entry| entry.url("vcluster", &repository))
                .map(String::from)
        };
        assert_eq!(
            url(None).unwrap(),
            "https://charts.example/a/charts/vcluster-0.36.1.tgz"
        );
        assert_eq!(
            url(Some("0.37.0-beta.1")).unwrap(),
            "https://other.example/x.tgz"
        );
        assert_eq!(url(Some("0.4.0")).unwrap_err().reason(), "ChartInvalid");
        assert_eq!(
            url(Some("9.9.9")).unwrap_err().reason(),
            "ChartVersionNotFound"
        );
        for name in ["empty", "nope"] {
            assert_eq!(
                index.find(name, None, &repository).unwrap_err().reason(),
                "ChartNotFound"
            );
        }
    }

    #[test]
    fn rubbish_and_bombs_are_no_index() {
        let repository = Url::parse("https://charts.example/").unwrap();
        let bomb = "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g]\nentries: *h\n";
        for bad in ["<html></html>", "entries: 7", "[", bomb] {
            assert!(Index::parse(bad.as_bytes(), &repository).is_err(), "{bad}");
        }
    }
}
