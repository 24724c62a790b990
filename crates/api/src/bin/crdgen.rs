//! Writes the CustomResourceDefinitions to `crds/` and to the chart's copy, and the
//! troubleshooting page out of the list of reasons.
//!
//! `crdgen` writes, `crdgen --check` fails on the first file that is not as it would be written,
//! and `crdgen --baseline` writes the definitions that the compatibility test compares with:
//! run it with a release, when what is in `crds/` becomes a promise.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use kubebyon_api::{Reason, crd};
use serde_json::{Number, Value};

const HEADER: &str = "# Written by `make crds` out of crates/api; do not edit.\n";
const COPIES: [&str; 2] = ["crds", "charts/kubebyon/crds"];
const TROUBLESHOOTING: &str = "docs/troubleshooting.md";
const BASELINE: &str = "crates/api/tests/baseline";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("unknown argument {0:?}; use --check, --baseline, or nothing")]
    Argument(String),
    #[error("the definition cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the definition cannot be written as YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is stale: run `make crds`", path = .0.display())]
    Stale(PathBuf),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (folders, check): (&[&str], bool) = match arguments.as_slice() {
        [] => (&COPIES, false),
        ["--check"] => (&COPIES, true),
        ["--baseline"] => (&[BASELINE], false),
        [first, ..] => return Err(Error::Argument((*first).to_owned())),
    };
    for (name, text) in files()? {
        for folder in folders {
            let path = root.join(folder).join(&name);
            if check {
                compare(&path, &text)?;
            } else {
                write(&path, &text)?;
            }
        }
    }
    if folders == COPIES {
        let path = root.join(TROUBLESHOOTING);
        if check {
            compare(&path, &troubleshooting())?;
        } else {
            write(&path, &troubleshooting())?;
        }
    }
    Ok(())
}

/// A row for each reason: what it means, and what to do.
fn troubleshooting() -> String {
    let mut text = String::from(
        "<!-- Written by `make crds` out of crates/api/src/reasons.rs; do not edit. -->
# Troubleshooting

Every condition, every event and every failure metric carries one word that says why. To see it:

```sh
kubectl get managedclusters.kubebyon.app -A -o wide
kubectl describe managedcluster NAME
kubectl get events --field-selector involvedObject.name=NAME
```

The message beside the word names the object, the field and the next step. `Stalled=True` means
that nothing will change until you, or somebody else, change something; without it the operator is
at work or tries again by itself.

| reason | what it means | what to do |
|---|---|---|
",
    );
    for reason in Reason::ALL {
        let row = [reason.as_str(), reason.meaning(), reason.remedy()]
            .map(|cell| cell.replace('|', "\\|"));
        text.extend(["| `", &row[0], "` | ", &row[1], " | ", &row[2], " |\n"]);
    }
    text
}

/// The files by name, as controller tools call them: `<group>_<plural>.yaml`.
fn files() -> Result<Vec<(String, String)>, Error> {
    crd::all()
        .iter()
        .map(|crd| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            let mut value = serde_json::to_value(crd)?;
            whole_numbers(&mut value);
            let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
            let yaml = serde_saphyr::to_string_with_options(&value, options)?;
            Ok((name, format!("{HEADER}{yaml}")))
        })
        .collect()
}

/// Bounds are floating point in the API; a reader expects `1`, not `1.0`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            let whole = text
                .strip_suffix(".0")
                .and_then(|whole| whole.parse::<i64>().ok());
            if let Some(whole) = whole {
                *number = Number::from(whole);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

fn compare(path: &Path, text: &str) -> Result<(), Error> {
    match fs::read_to_string(path) {
        Ok(found) if found == text => Ok(()),
        Ok(_) => Err(Error::Stale(path.to_owned())),
        Err(source) => Err(Error::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let file_error = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(file_error)?;
    }
    fs::write(path, text).map_err(file_error)
}
