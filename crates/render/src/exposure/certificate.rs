//! The names in a tenant's certificate.
//!
//! A change of this list is a change of the chart's values, and any such change restarts the
//! control plane: with one replica, a gap of about twenty seconds. So the list grows only when a
//! name is wanted that it does not cover, and never shrinks by itself: a name that is no longer
//! routed harms nobody in a certificate.

use std::collections::BTreeSet;

use kubebyon_api::types::{HostPattern, Hostname};

/// The public names of a tenant's certificate.
///
/// `deployed` are those in the values of the deployed release (empty: there is none), `domain` is
/// the domain of the PublicAccess, `wanted` are the names that have to be covered. The first
/// install gets its name and `*.<domain>`, so that later names of the domain need no restart.
pub fn subject_alt_names<'a>(
    deployed: &BTreeSet<HostPattern>,
    domain: &Hostname,
    wanted: impl IntoIterator<Item = &'a Hostname>,
) -> BTreeSet<HostPattern> {
    let missing: Vec<_> = wanted
        .into_iter()
        .filter(|name| !covers(deployed, name))
        .collect();
    let mut names = deployed.clone();
    if missing.is_empty() {
        return names;
    }
    let wildcard = domain.wildcard();
    let first = deployed.is_empty();
    names.extend(
        missing
            .into_iter()
            .filter(|name| first || !wildcard.covers(name))
            .map(|name| HostPattern::from(name.clone())),
    );
    names.insert(wildcard);
    names
}

/// The names as one text: see [`kubebyon_api::labels::PUBLIC_SANS`].
pub fn to_text(names: &BTreeSet<HostPattern>) -> String {
    let texts: Vec<_> = names.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// Reads what [`to_text`] wrote. What is no name is left out: it would break the release.
pub fn from_text(text: &str) -> BTreeSet<HostPattern> {
    text.split(',')
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

/// Whether one of `names` covers `name`.
pub fn covers<'a>(names: impl IntoIterator<Item = &'a HostPattern>, name: &Hostname) -> bool {
    names.into_iter().any(|pattern| pattern.covers(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Hostname {
        text.parse().unwrap()
    }

    fn texts(names: &BTreeSet<HostPattern>) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_install_carries_the_name_and_its_domain() {
        let names = subject_alt_names(
            &BTreeSet::new(),
            &host("clusters.example.com"),
            [&host("demo.clusters.example.com")],
        );
        assert_eq!(
            texts(&names),
            ["demo.clusters.example.com", "*.clusters.example.com"]
        );
    }

    #[test]
    fn they_survive_being_written_down() {
        let names = subject_alt_names(
            &BTreeSet::new(),
            &host("clusters.example.com"),
            [&host("demo.clusters.example.com")],
        );
        assert_eq!(from_text(&to_text(&names)), names);
        assert_eq!(from_text(""), BTreeSet::new());
        assert_eq!(from_text("bad name, ,*.a.example.com").len(), 1);
    }

    #[test]
    fn a_later_name_of_the_domain_changes_nothing() {
        let domain = host("clusters.example.com");
        let old = host("demo.clusters.example.com");
        let first = subject_alt_names(&BTreeSet::new(), &domain, [&old]);
        let new = host("shop.clusters.example.com");
        assert_eq!(subject_alt_names(&first, &domain, [&new, &old]), first);
        // Nor does the end of the old one.
        assert_eq!(subject_alt_names(&first, &domain, [&new]), first);
    }

    #[test]
    fn a_name_elsewhere_or_deeper_is_added_beside_the_others() {
        let domain = host("clusters.example.com");
        let first = subject_alt_names(
            &BTreeSet::new(),
            &domain,
            [&host("demo.clusters.example.com")],
        );
        for name in ["api.example.org", "deep.demo.clusters.example.com"] {
            let names = subject_alt_names(&first, &domain, [&host(name)]);
            assert!(names.is_superset(&first));
            assert_eq!(names.len(), first.len() + 1);
            assert!(covers(&names, &host(name)));
        }
    }

    #[test]
    fn a_new_domain_comes_with_its_wildcard() {
        let first = subject_alt_names(
            &BTreeSet::new(),
            &host("old.example.com"),
            [&host("demo.old.example.com")],
        );
        let domain = host("new.example.com");
        let names = subject_alt_names(&first, &domain, [&host("demo.new.example.com")]);
        assert!(names.is_superset(&first));
        assert!(names.contains(&domain.wildcard()));
        assert_eq!(names.len(), first.len() + 1);
    }
}
