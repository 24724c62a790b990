//! The public DNS zone: everything below `.test`, from a file that tests edit while the name server runs.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    parts::{Bins, Part},
    process::DaemonSpec,
};

/// The zone's name: RFC 6761 keeps it for tests, so no real name is ever hidden by it.
pub const ZONE: &str = "test";

const RECORDS: &str = "records.json";
const ZONE_FILE: &str = "test.zone";
const COREFILE: &str = "Corefile";
const RESOLV_CONF: &str = "resolv.conf";

/// What a name resolves to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// One or more addresses.
    Addresses(Vec<IpAddr>),
    /// Another name.
    Alias(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alias(name) => f.write_str(name),
            Self::Addresses(addresses) => {
                let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

impl std::str::FromStr for Target {
    type Err = Error;

    /// Addresses separated by commas, or one name.
    fn from_str(text: &str) -> Result<Self> {
        if let Ok(addresses) = text
            .split(',')
            .map(|part| part.trim().parse())
            .collect::<Result<Vec<IpAddr>, _>>()
        {
            return Ok(Self::Addresses(addresses));
        }
        let name = text.trim_end_matches('.').to_lowercase();
        if is_name(&name) {
            Ok(Self::Alias(name))
        } else {
            Err(Error::BadDnsTarget {
                target: text.to_owned(),
            })
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Records {
    /// Raised with each change: it tells the name server to read the file again.
    serial: u32,
    names: BTreeMap<String, Target>,
}

/// A cluster's zone. Changes are seen by resolvers within two seconds; nothing caches longer than one.
#[derive(Debug, Clone)]
pub struct Zone {
    dir: PathBuf,
}

impl Zone {
    /// An empty zone in `dir`, to be served on `address`.
    pub(crate) fn create(dir: &Path, address: Ipv4Addr) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        let zone = Self {
            dir: dir.to_path_buf(),
        };
        zone.write(COREFILE, &corefile(&dir.join(ZONE_FILE), address))?;
        zone.write(RESOLV_CONF, &format!("nameserver {address}\n"))?;
        zone.change(|_| Ok(()))?;
        Ok(zone)
    }

    /// The zone of the running cluster whose directory is `cluster`.
    pub fn of(cluster: &Path) -> Self {
        Self {
            dir: cluster.join("zone"),
        }
    }

    /// Makes `name` resolve to `target` alone. A first label `*` answers for all names that have no record.
    ///
    /// # Errors
    /// [`Error::BadDnsName`] when the name is not below `.test`.
    pub fn set(&self, name: &str, target: Target) -> Result<()> {
        let name = checked(name)?;
        self.change(|records| {
            records.names.insert(name, target);
            Ok(())
        })
    }

    /// Makes `name` resolve to nothing; whether it did before.
    ///
    /// # Errors
    /// [`Error::BadDnsName`] when the name is not below `.test`.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let name = checked(name)?;
        self.change(|records| Ok(records.names.remove(&name).is_some()))
    }

    /// All names and what they resolve to.
    pub fn list(&self) -> Result<BTreeMap<String, Target>> {
        self.read().map(|records| records.names)
    }

    /// The name server.
    pub(crate) fn server(&self, bins: &Bins, dir: &Path) -> DaemonSpec {
        DaemonSpec::new("name-server", bins.path(Part::Coredns), dir)
            .args(["-conf", &self.dir.join(COREFILE).display().to_string()])
    }

    fn change<T>(&self, change: impl FnOnce(&mut Records) -> Result<T>) -> Result<T> {
        let path = self.dir.join(".lock");
        let lock = File::create(&path).map_err(Error::file("create", &path))?;
        lock.lock().map_err(Error::file("lock", &path))?;
        let mut records = self.read()?;
        let result = change(&mut records)?;
        records.serial += 1;
        let text = serde_json::to_string_pretty(&records).map_err(|source| Error::BadRecord {
            path: self.dir.join(RECORDS),
            source,
        })?;
        self.write(RECORDS, &text)?;
        self.write(ZONE_FILE, &zone_file(&records))?;
        Ok(result)
    }

    fn read(&self) -> Result<Records> {
        let path = self.dir.join(RECORDS);
        match fs::read_to_string(&path) {
            Ok(text) => {
                serde_json::from_str(&text).map_err(|source| Error::BadRecord { path, source })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Records::default()),
            Err(source) => Err(Error::File {
                action: "read",
                path,
                source,
            }),
        }
    }

    /// Replaces a file in one step, for the name server may read it at any moment.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let (path, temporary) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        fs::write(&temporary, text).map_err(Error::file("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(Error::file("write", path))
    }
}

fn corefile(zone: &Path, address: Ipv4Addr) -> String {
    format!(
        "{ZONE}:53 {{\n    bind {address}\n    errors\n    file {} {{\n        reload 500ms\n    }}\n}}\n\
         .:53 {{\n    bind {address}\n    template ANY ANY {{\n        rcode NXDOMAIN\n    }}\n}}\n",
        zone.display()
    )
}

fn zone_file(records: &Records) -> String {
    let mut text = format!(
        "$ORIGIN {ZONE}.\n$TTL 1\n@ IN SOA ns.{ZONE}. hostmaster.{ZONE}. {} 60 60 3600 1\n@ IN NS ns.{ZONE}.\n",
        records.serial
    );
    for (name, target) in &records.names {
        // Writing to a String cannot fail.
        let _ = match target {
            Target::Addresses(addresses) => addresses.iter().try_for_each(|address| {
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                writeln!(text, "{name}. IN {kind} {address}")
            }),
            Target::Alias(alias) => writeln!(text, "{name}. IN CNAME {alias}."),
        };
    }
    text
}

fn checked(name: &str) -> Result<String> {
    let name = name.trim_end_matches('.').to_lowercase();
    let plain = name.strip_prefix("*.").unwrap_or(&name);
    if is_name(plain) && plain.ends_with(&format!(".{ZONE}")) {
        Ok(name)
    } else {
        Err(Error::BadDnsName { name, zone: ZONE })
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(dir: &Path) -> Zone {
        Zone::create(dir, Ipv4Addr::new(10, 89, 1, 2)).unwrap()
    }

    #[test]
    fn each_change_raises_the_serial_and_is_in_the_zone_file() {
        let dir = tempfile::tempdir().unwrap();
        let zone = zone(dir.path());
        zone.set(
            "demo.clusters.example.test",
            "10.89.1.128,10.89.1.129".parse().unwrap(),
        )
        .unwrap();
        zone.set(
            "shop.customer.test.",
            "Demo.clusters.example.test".parse().unwrap(),
        )
        .unwrap();
        let text = fs::read_to_string(dir.path().join(ZONE_FILE)).unwrap();
        assert!(text.contains(" 3 60 60"), "{text}");
        assert!(
            text.contains("demo.clusters.example.test. IN A 10.89.1.129\n"),
            "{text}"
        );
        assert!(
            text.contains("shop.customer.test. IN CNAME demo.clusters.example.test.\n"),
            "{text}"
        );
        assert!(zone.remove("shop.customer.test").unwrap());
        assert!(!zone.remove("shop.customer.test").unwrap());
        assert_eq!(zone.list().unwrap().len(), 1);
    }

    #[test]
    fn names_outside_the_zone_and_broken_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let zone = zone(dir.path());
        for name in [
            "example.com",
            "test",
            "a..test",
            "",
            "a b.test",
            "*",
            "a.*.test",
            "a.test\nb.test",
        ] {
            assert!(
                zone.set(name, Target::Alias("x.test".to_owned())).is_err(),
                "{name:?} was accepted"
            );
        }
        assert!("not a name".parse::<Target>().is_err());
        assert!(
            zone.set("*.apps.example.test", Target::Alias("x.test".to_owned()))
                .is_ok()
        );
    }

    #[test]
    fn addresses_of_both_families_get_their_kind_of_record() {
        let mut records = Records::default();
        records
            .names
            .insert("a.test".to_owned(), "fd00::1, 10.0.0.1".parse().unwrap());
        let text = zone_file(&records);
        assert!(
            text.contains("a.test. IN AAAA fd00::1\na.test. IN A 10.0.0.1\n"),
            "{text}"
        );
    }
}
