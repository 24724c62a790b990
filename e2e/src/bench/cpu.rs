//! Who spent the CPU time: the api-server's and etcd's share of a release is larger than helm's.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The unit of times in /proc/PID/stat; part of Linux's ABI.
const TICKS_PER_SECOND: f64 = 100.0;
/// The control plane's programs.
const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

/// Seconds of CPU time, by what spent them.
pub type Spent = BTreeMap<&'static str, f64>;

/// Reads the times of one cluster's control plane, and of this process.
pub struct Clock {
    /// By name, the process id.
    programs: Vec<(&'static str, u32)>,
}

/// The times of one process.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Its own.
    pub own: f64,
    /// Of children that ended.
    pub children: f64,
    /// Page faults of children that ended; any child has some.
    pub child_faults: u64,
}

impl Clock {
    /// Of the cluster whose programs run in `folder`.
    pub fn new(folder: &Path) -> Self {
        let runs_here = |pid: &u32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|found: PathBuf| found == folder)
        };
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let here: Vec<u32> = processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(runs_here)
            .collect();
        let of = |program: &str| {
            let found = here.iter().find(|pid| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let first = line.split('\0').next().unwrap_or_default();
                first.rsplit('/').next() == Some(program)
            });
            *found.unwrap_or_else(|| panic!("no {program} runs in {}", folder.display()))
        };
        Self {
            programs: PROGRAMS.map(|program| (program, of(program))).into(),
        }
    }

    /// The times up to now.
    pub fn read(&self) -> Spent {
        let mut spent: Spent = self
            .programs
            .iter()
            .map(|(program, pid)| (*program, times(*pid).own))
            .collect();
        let this = times(std::process::id());
        spent.insert("the fake and this program", this.own);
        spent.insert("helm", this.children);
        spent
    }
}

/// What was spent from `before` to `after`.
pub fn between(before: &Spent, after: &Spent) -> Spent {
    after
        .iter()
        .map(|(name, seconds)| (*name, seconds - before.get(name).unwrap_or(&0.0)))
        .collect()
}

/// What the kernel counted of a process.
pub fn times(pid: u32) -> Times {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .unwrap_or_else(|error| panic!("process {pid} is gone: {error}"));
    // The second field is the program's name in parentheses, and may hold blanks.
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    // Counted from the fourth field of proc_pid_stat(5): 11 is cminflt, 14 to 17 the times.
    let field = |number: usize| fields[number - 4];
    #[expect(clippy::cast_precision_loss)]
    let seconds = |a, b| (field(a) + field(b)) as f64 / TICKS_PER_SECOND;
    Times {
        own: seconds(14, 15),
        children: seconds(16, 17),
        child_faults: field(11),
    }
}
