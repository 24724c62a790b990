//! The programs that a process runs, as the kernel lists them.

use std::{fs, path::PathBuf};

use kubebyon_k8s::{
    k8s_openapi::api::core::v1::Secret,
    kube::{Api, Client, api::ListParams},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::judge::eventually;

/// The children of a process, with their command lines.
pub fn of(parent: u32) -> Vec<(u32, Vec<String>)> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut found = Vec::new();
    for list in lists {
        for pid in list.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = line.split_terminator('\0').map(str::to_owned).collect();
            found.push((pid, words));
        }
    }
    found
}

/// The helm runs of a process that change a release: `upgrade` or `uninstall` of it.
pub fn helm_runs(parent: u32) -> Vec<(u32, Vec<String>)> {
    of(parent)
        .into_iter()
        .filter(|(_, words)| {
            words
                .iter()
                .any(|word| matches!(word.as_str(), "upgrade" | "uninstall"))
        })
        .collect()
}

/// Freezes the helm run that changes `release` of the process `parent` while its lock is
/// on the release: what it began is not done. `None`: it was too quick.
pub async fn freeze_in_mid_run(
    client: &Client,
    parent: u32,
    namespace: &str,
    release: &str,
) -> Option<Pid> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let selector = format!("owner=helm,name={release},status in (pending-install,pending-upgrade)");
    let pending = ListParams::default().labels(&selector);
    let is_locked = || async {
        let found = secrets.list_metadata(&pending).await.expect("a list");
        !found.items.is_empty()
    };
    let pid = eventually("helm runs", || async {
        let runs = helm_runs(parent);
        let run = runs
            .iter()
            .find(|(_, words)| words.iter().any(|word| word == release))?;
        Pid::from_raw(run.0.cast_signed())
    })
    .await;
    let running = || PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero())).exists();
    while running() {
        if is_locked().await {
            // It may end at this very moment.
            let _ = kill_process(pid, Signal::STOP);
            if running() && is_locked().await {
                return Some(pid);
            }
            let _ = kill_process(pid, Signal::CONT);
            return None;
        }
    }
    None
}
