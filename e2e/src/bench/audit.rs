//! The api-server's own account of who asked for what.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::PathBuf,
};

use serde_json::Value;

const OPERATOR: &str = "system:serviceaccount:kubebyon-system:kubebyon-operator";

/// The audit log, and how far it has been read.
pub struct AuditLog {
    path: PathBuf,
    position: u64,
}

/// Requests in the operator's name.
#[derive(Debug, Default)]
pub struct Requests {
    /// The operator's own, by verb and resource; the Lease left out.
    pub own: BTreeMap<String, u64>,
    /// Of those, the ones that write.
    pub writes: u64,
    /// Writes of the Lease by which managers elect a leader.
    pub lease_writes: u64,
    /// Begun watches.
    pub watches: u64,
    /// Requests in the name of a release's ServiceAccount: helm's.
    pub impersonated: u64,
}

impl Requests {
    /// The operator's own requests, watches and the Lease left out.
    pub fn total(&self) -> u64 {
        self.own.values().sum()
    }
}

impl AuditLog {
    /// From the log's end on.
    pub fn new(path: PathBuf) -> Self {
        let mut log = Self { path, position: 0 };
        log.skip();
        log
    }

    /// Forgets what came up to now.
    pub fn skip(&mut self) {
        self.position = std::fs::metadata(&self.path).expect("an audit log").len();
    }

    /// What came since the last look.
    pub fn read(&mut self) -> Requests {
        let mut file = File::open(&self.path).expect("an audit log");
        file.seek(SeekFrom::Start(self.position))
            .expect("a position");
        let mut reader = BufReader::new(file);
        let mut found = Requests::default();
        let mut line = String::new();
        loop {
            line.clear();
            let count = reader.read_line(&mut line).expect("a line");
            // A line without its end is still being written.
            if count == 0 || !line.ends_with('\n') {
                return found;
            }
            self.position += count as u64;
            let entry: Value = serde_json::from_str(&line).expect("a line of JSON");
            found.count(&entry);
        }
    }
}

impl Requests {
    fn count(&mut self, entry: &Value) {
        if entry["user"]["username"] != OPERATOR {
            return;
        }
        if entry.get("impersonatedUser").is_some() {
            self.impersonated += 1;
            return;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let verb = text(&entry["verb"]);
        if verb == "watch" {
            // Each is told twice: when it begins and when it ends.
            self.watches += u64::from(entry["stage"] == "ResponseStarted");
            return;
        }
        let writes = matches!(
            verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        );
        let object = &entry["objectRef"];
        let mut resource = match object["resource"].as_str() {
            Some(resource) => resource.to_owned(),
            None => text(&entry["requestURI"]),
        };
        if resource == "leases" {
            self.lease_writes += u64::from(writes);
            return;
        }
        if let Some(part) = object["subresource"].as_str() {
            resource = format!("{resource}/{part}");
        }
        self.writes += u64::from(writes);
        *self.own.entry(format!("{verb} {resource}")).or_default() += 1;
    }
}
